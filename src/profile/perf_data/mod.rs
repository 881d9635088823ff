//! Reads `perf.data`, the files of Linux's `perf record`, as profiles: samples with their call
//! chains.
//!
//! Not here: unwinding. Copies of stacks (`perf record --call-graph dwarf`) are unwound by a
//! [`StackUnwinder`]; without one, the profile reports that they were not. Such files have no
//! names: they come from the binaries, whose build IDs are kept. The format is described in the
//! kernel's `tools/perf/Documentation/perf.data-file-format.txt` and
//! `include/uapi/linux/perf_event.h`.

use std::collections::{HashMap, hash_map::Entry};

use super::{
    Builder, LabelValue, LocationId, MappingId, MappingSpec,
    columns::{Columns, merge, parse},
};
use file::{Event, File, Record};
pub use sample::UserStack;
use space::{KERNEL, Spaces};
use unwound::Unwound;
pub use unwound::{MappedCode, StackUnwinder};

mod bits;
mod bytes;
mod file;
mod pipe;
mod sample;
mod space;
mod unwound;

/// Whether `bytes` are a `perf.data` file.
pub fn is_perf_data(bytes: &[u8]) -> bool {
    bytes.starts_with(b"PERFILE2") || bytes.starts_with(b"2ELIFREP")
}

/// Reads a `perf.data` file; the error names the record and field that is invalid.
pub fn read(bytes: &[u8]) -> Result<Columns, String> {
    read_with(bytes, None)
}

/// As [`read`]; copies of stacks are unwound by `unwinder`.
pub fn read_with(bytes: &[u8], unwinder: Option<&mut dyn StackUnwinder>) -> Result<Columns, String> {
    let file = if pipe::is_stream(bytes) { pipe::open(bytes)? } else { File::open(bytes)? };
    let columns = event_columns(&file.events);
    let shown: Vec<&Event> = (file.events.iter().zip(&columns))
        .filter_map(|(event, column)| column.is_some().then_some(event))
        .collect();
    let kinds = kinds(&shown);
    let kinds: Vec<(&str, &str)> = kinds.iter().map(|(name, unit)| (name.as_str(), *unit)).collect();
    let mut reader = Reader {
        builder: Builder::new(&kinds),
        spaces: Spaces::default(),
        names: HashMap::new(),
        mappings: HashMap::new(),
        main: None,
        times: None,
        unwound: Unwound::by(unwinder),
        sample_counts: vec![0; shown.len()],
        kinds: &kinds,
        shown: &shown,
        columns: &columns,
        file: &file,
    };
    for at in file.in_order()? {
        reader.record(file.record(at)?)?;
    }
    let profile = reader.finish();
    let broken = |_| "more samples than a profile can hold".to_string();
    let columns = parse::of_profile(&profile).map_err(broken)?;
    // Equal stacks are merged into one sample.
    merge::merge(vec![columns])
}

/// For each event, its position among those that the profile shows: all but dummy events, which
/// count nothing and have no samples.
fn event_columns(events: &[Event]) -> Vec<Option<usize>> {
    let only_dummies = events.iter().all(|event| event.is_dummy);
    let mut next = 0..;
    events.iter().map(|event| if event.is_dummy && !only_dummies { None } else { next.next() }).collect()
}

/// The sample types: for each event, the number of samples and the events they represent.
fn kinds(events: &[&Event]) -> Vec<(String, &'static str)> {
    let several = events.len() > 1;
    let of_event = |event: &&Event| {
        let samples = if several { format!("{}_samples", event.name) } else { "samples".into() };
        let (name, unit) = match event.is_clock {
            true if !several => ("cpu", "nanoseconds"),
            true => (event.name.as_str(), "nanoseconds"),
            false => (event.name.as_str(), "count"),
        };
        [(samples, "count"), (name.to_string(), unit)]
    };
    events.iter().flat_map(of_event).collect()
}

struct Reader<'a, 'u> {
    file: &'a File<'a>,
    builder: Builder,
    spaces: Spaces,
    /// Names of threads.
    names: HashMap<u32, String>,
    /// Mappings by their description in `MMAP` records.
    mappings: HashMap<file::Mapped<'a>, MappingId>,
    /// The first program found.
    main: Option<MappingId>,
    /// Times of the first and the last sample, in nanoseconds.
    times: Option<(u64, u64)>,
    unwound: Unwound<'u>,
    /// The events that the profile shows.
    shown: &'a [&'a Event],
    /// Their sample types, two for each.
    kinds: &'a [(&'a str, &'a str)],
    /// For each event of the file, its position in `shown`.
    columns: &'a [Option<usize>],
    /// For each shown event, the number of its samples.
    sample_counts: Vec<u64>,
}

impl<'a> Reader<'a, '_> {
    fn record(&mut self, record: Record<'a>) -> Result<(), String> {
        match record {
            Record::Mapped { pid, mapped } => {
                let mapping = self.mapping(mapped);
                self.unwound.map(pid, &mapped, &self.file.build_ids);
                self.spaces.map(pid, mapped.start, mapped.limit, mapping)?;
            }
            Record::Named { pid, tid, name, is_exec } => {
                if is_exec {
                    self.spaces.forget(pid);
                    self.unwound.forget(pid);
                }
                self.names.insert(tid, name.into_owned());
            }
            Record::Forked { pid, parent, tid, parent_tid } => {
                if pid != parent {
                    self.spaces.copy(parent, pid);
                    self.unwound.copy(parent, pid);
                }
                if let Some(name) = self.names.get(&parent_tid).cloned() {
                    self.names.insert(tid, name);
                }
            }
            Record::Sample(sample) => self.sample(sample),
            Record::Other => {}
        }
        Ok(())
    }

    fn mapping(&mut self, mapped: file::Mapped<'a>) -> MappingId {
        let new = match self.mappings.entry(mapped) {
            Entry::Occupied(known) => return *known.get(),
            Entry::Vacant(new) => new,
        };
        let own = mapped.build_id.map(file::hex);
        let filename = String::from_utf8_lossy(mapped.path);
        let build_id = own.or_else(|| self.file.build_ids.get(mapped.path).cloned()).unwrap_or_default();
        let spec = MappingSpec {
            start: mapped.start,
            limit: mapped.limit,
            file_offset: mapped.offset,
            filename: &filename,
            build_id: &build_id,
            symbolized: false,
        };
        let mapping = *new.insert(self.builder.mapping(&spec));
        if self.main.is_none() && !filename.starts_with('[') && !filename.starts_with("//") {
            self.main = Some(mapping);
        }
        mapping
    }

    fn sample(&mut self, mut sample: sample::Sample<'a>) {
        let Some(column) = self.columns[sample.event] else { return };
        self.sample_counts[column] += 1;
        let (first, _) = *self.times.get_or_insert((sample.time_ns, sample.time_ns));
        self.times = Some((first, sample.time_ns.max(first)));
        self.unwound.unwind(&mut sample);
        let stack: Vec<LocationId> = sample
            .frames
            .iter()
            .map(|frame| {
                let pid = if frame.in_kernel { KERNEL } else { sample.pid };
                let mapping = self.spaces.at(pid, frame.address);
                self.builder.location(mapping, frame.address, &[])
            })
            .collect();
        let mut values = vec![0; self.kinds.len()];
        values[column * 2] = 1;
        values[column * 2 + 1] = i64::try_from(sample.weight).unwrap_or(i64::MAX);
        let name = self.names.get(&sample.tid).map_or("", String::as_str);
        let label = [("thread", LabelValue::Text(name))];
        self.builder.sample(&stack, &values, &label[..usize::from(!name.is_empty())]);
    }

    fn finish(mut self) -> super::Profile {
        if let Some(main) = self.main {
            self.builder.set_main_mapping(main);
        }
        if let Some((first, last)) = self.times {
            self.builder.set_time(0, i64::try_from(last - first).unwrap_or(0));
        }
        // The first event with samples is the one to show.
        let main = self.sample_counts.iter().position(|count| *count > 0).unwrap_or(0);
        if let Some(event) = self.shown.get(main) {
            let (name, unit) = self.kinds[main * 2 + 1];
            self.builder.set_period(name, unit, i64::try_from(event.period).unwrap_or(0));
            self.builder.set_default_sample_type(name);
        }
        if let Some(comment) = self.unwound.comment() {
            self.builder.comment(&comment);
        }
        self.builder.finish()
    }
}

#[cfg(test)]
mod tests;
