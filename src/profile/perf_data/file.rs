//! The structure of `perf.data`: header, events, build IDs, records.
//!
//! Not here: converting them. No memory is reserved for sizes that a field claims: the bytes must
//! be there.

use std::{borrow::Cow, collections::HashMap};

use super::{
    bits,
    bytes::{Bytes, section},
    sample::{Layout, Sample},
};

/// A counted event.
pub(super) struct Event {
    pub name: String,
    /// Its period is in nanoseconds.
    pub is_clock: bool,
    /// It counts nothing (`PERF_COUNT_SW_DUMMY`): perf adds it to record mappings and names.
    pub is_dummy: bool,
    /// Events per sample, for samples that do not state a period.
    pub period: u64,
    pub(super) sample_type: u64,
    /// How samples are laid out.
    pub(super) layout: Layout,
    /// Records other than samples have a timestamp too.
    has_trailers: bool,
}

/// The description of a file in an `MMAP` record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Mapped<'a> {
    pub start: u64,
    pub limit: u64,
    pub offset: u64,
    pub path: &'a [u8],
    pub build_id: Option<&'a [u8]>,
}

pub(super) enum Record<'a> {
    Mapped { pid: u32, mapped: Mapped<'a> },
    Named { pid: u32, tid: u32, name: Cow<'a, str>, is_exec: bool },
    Forked { pid: u32, parent: u32, tid: u32, parent_tid: u32 },
    Sample(Sample<'a>),
    Other,
}

pub(super) struct File<'a> {
    pub events: Vec<Event>,
    /// Build IDs in hexadecimal, by path.
    pub build_ids: HashMap<&'a [u8], String>,
    /// Positions in `events`.
    pub(super) events_by_id: HashMap<u64, usize>,
    /// The records.
    pub(super) data: &'a [u8],
    /// perf ended before it could write the size of the data.
    pub(super) is_cut: bool,
}

/// A section as described by the header.
fn part<'a>(bytes: &'a [u8], header: &mut Bytes, what: &str) -> Result<&'a [u8], String> {
    let (offset, size) = header.u64().zip(header.u64()).ok_or("the header is cut short")?;
    section(bytes, offset, size).ok_or_else(|| {
        let length = bytes.len();
        format!("{what}: {size} bytes at {offset} are claimed, of a file of {length}")
    })
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

impl<'a> File<'a> {
    pub fn open(bytes: &'a [u8]) -> Result<File<'a>, String> {
        if bytes.starts_with(b"2ELIFREP") {
            return Err("written by a machine of the other byte order, which is not read".into());
        }
        let mut header = Bytes(bytes.get(8..).unwrap_or_default());
        // Its own size: it differs for a stream only.
        header.u64().ok_or("the header is cut short")?;
        let attr_bytes = header.u64().ok_or("the header is cut short")?;
        let attrs = part(bytes, &mut header, "attributes")?;
        let (data_offset, data_size) = header.u64().zip(header.u64()).ok_or("the header is cut short")?;
        let is_cut = data_size == 0;
        let data = if is_cut {
            usize::try_from(data_offset).ok().and_then(|start| bytes.get(start..)).unwrap_or_default()
        } else {
            section(bytes, data_offset, data_size).ok_or_else(|| {
                let length = bytes.len();
                format!("data: {data_size} bytes at {data_offset} are claimed, of a file of {length}")
            })?
        };
        let features = header.take(16).and_then(|_| header.u64()).unwrap_or(0);
        let mut file = File {
            events: Vec::new(),
            build_ids: HashMap::new(),
            events_by_id: HashMap::new(),
            data,
            is_cut,
        };
        file.read_events(bytes, attrs, attr_bytes)?;
        if !is_cut {
            file.read_features(bytes, data_offset + data_size, features);
        }
        Ok(file)
    }

    fn read_events(&mut self, bytes: &[u8], attrs: &[u8], attr_bytes: u64) -> Result<(), String> {
        let size = usize::try_from(attr_bytes).ok().filter(|size| *size >= 64 && *size <= attrs.len());
        let size = size.ok_or_else(|| format!("attributes: their size is {attr_bytes} bytes"))?;
        for (at, attr) in attrs.chunks_exact(size).enumerate() {
            let (attr, ids) = attr.split_at(size - 16);
            let mut ids = part(bytes, &mut Bytes(ids), "event ids").map(Bytes)?;
            while let Some(id) = ids.u64() {
                self.events_by_id.insert(id, at);
            }
            self.events.push(event(attr).ok_or("attributes: one is cut short")?);
        }
        self.check_events()
    }

    /// Errors: there is no event, or samples do not state which of several events they are of.
    pub(super) fn check_events(&self) -> Result<(), String> {
        if self.events.is_empty() {
            return Err("attributes: there is none".into());
        }
        let same = |event: &Event| event.sample_type == self.events[0].sample_type;
        let tells = |event: &Event| event.sample_type & bits::IDENTIFIER != 0;
        if !self.events.iter().all(same) && !self.events.iter().all(tells) {
            return Err("attributes: samples do not say which of several events they are of".into());
        }
        Ok(())
    }

    /// Reads names of events and build IDs; unreadable ones are left out.
    fn read_features(&mut self, bytes: &'a [u8], table: u64, features: u64) {
        const BUILD_ID: u32 = 2;
        const EVENT_DESC: u32 = 12;
        for feature in [BUILD_ID, EVENT_DESC] {
            if features >> feature & 1 == 0 {
                continue;
            }
            let before = (features & ((1 << feature) - 1)).count_ones();
            let entry = table.checked_add(u64::from(before) * 16).and_then(|at| section(bytes, at, 16));
            let Some(entry) = entry else { continue };
            let Ok(content) = part(bytes, &mut Bytes(entry), "feature") else { continue };
            if feature == BUILD_ID {
                self.read_build_ids(Bytes(content));
            } else {
                self.read_event_names(Bytes(content));
            }
        }
    }

    fn read_build_ids(&mut self, mut content: Bytes<'a>) {
        while let Some((_, misc, size)) = header(&mut content) {
            let Some(body) = content.take(usize::from(size).saturating_sub(8)) else { return };
            self.add_build_id(misc, body);
        }
    }

    /// Takes a build ID: a process ID, 24 bytes with the ID, the path.
    pub(super) fn add_build_id(&mut self, misc: u16, body: &'a [u8]) {
        let mut body = Bytes(body);
        let Some((_, id)) = body.u32().zip(body.take(24)) else { return };
        let length = if misc & bits::MISC_BUILD_ID_SIZE == 0 { 20 } else { usize::from(id[20]).min(20) };
        self.build_ids.insert(body.text(), hex(&id[..length]));
    }

    pub(super) fn read_event_names(&mut self, mut content: Bytes) {
        let Some((_, attr_bytes)) = content.u32().zip(content.u32()) else { return };
        for event in &mut self.events {
            let Some(_) = content.take(attr_bytes as usize) else { return };
            let Some((ids, length)) = content.u32().zip(content.u32()) else { return };
            let Some(name) = content.take(length as usize) else { return };
            let name = String::from_utf8_lossy(Bytes(name).text()).into_owned();
            event.set_name(&name);
            let Some(_) = content.take((ids as usize).saturating_mul(8)) else { return };
        }
    }

    /// Offsets of all records, sorted by time.
    pub fn in_order(&self) -> Result<Vec<usize>, String> {
        let mut last = 0;
        let with_time = |at| {
            // A record without a time keeps its place.
            last = self.time(at).unwrap_or(last);
            (last, at)
        };
        let mut found: Vec<(u64, usize)> = self.offsets()?.into_iter().map(with_time).collect();
        found.sort_by_key(|(time, _)| *time);
        Ok(found.into_iter().map(|(_, at)| at).collect())
    }

    /// Offsets of all records, in the order of the file. Errors: a record is truncated or
    /// compressed.
    pub(super) fn offsets(&self) -> Result<Vec<usize>, String> {
        let mut found = Vec::new();
        let mut rest = Bytes(self.data);
        while !rest.0.is_empty() {
            let at = self.data.len() - rest.0.len();
            let mut head = rest;
            let size = header(&mut head).map_or(0, |(_, _, size)| usize::from(size));
            if size < 8 || size > rest.0.len() {
                if self.is_cut {
                    break;
                }
                return Err(format!(
                    "record at {at} of the data: it claims {size} bytes, {} are left",
                    rest.0.len()
                ));
            }
            let kind = header(&mut Bytes(&rest.0[..8])).map_or(0, |(kind, ..)| kind);
            let mut behind = 0;
            match kind {
                kinds::COMPRESSED | kinds::COMPRESSED2 => {
                    return Err("its records are packed, which is not read: record without -z".into());
                }
                // Size of the trace data after it, which is not a record.
                kinds::AUXTRACE => behind = Bytes(&rest.0[8..]).u64().unwrap_or(0),
                kinds::TRACING_DATA => {
                    behind = u64::from(Bytes(&rest.0[8..]).u32().unwrap_or(0)).next_multiple_of(8);
                }
                _ => {}
            }
            found.push(at);
            rest.take(size);
            if behind > rest.0.len() as u64 && self.is_cut {
                break;
            }
            if behind > rest.0.len() as u64 {
                return Err(format!(
                    "record at {at} of the data: {behind} bytes of trace are claimed behind it"
                ));
            }
            rest.take(behind as usize);
        }
        Ok(found)
    }

    /// The time of a record, if it states one.
    fn time(&self, at: usize) -> Option<u64> {
        let mut record = Bytes(self.data.get(at..)?);
        let (kind, _, size) = header(&mut record)?;
        let body = record.take(usize::from(size).checked_sub(8)?)?;
        if kind == kinds::SAMPLE {
            let event = &self.events[self.event_of_sample(body)?];
            let before = [bits::IDENTIFIER, bits::IP, bits::TID].map(|bit| event.sample_type & bit != 0);
            let skipped = before.into_iter().filter(|is_there| *is_there).count() * 8;
            return Bytes(body.get(skipped..)?).u64().filter(|_| event.sample_type & bits::TIME != 0);
        }
        let event = &self.events[0];
        if kind >= kinds::FIRST_OF_PERF || !event.has_trailers || event.sample_type & bits::TIME == 0 {
            return None;
        }
        let trailer = bits::TID | bits::TIME | bits::ID | bits::STREAM_ID | bits::CPU | bits::IDENTIFIER;
        let length = (event.sample_type & trailer).count_ones() as usize * 8;
        let before = if event.sample_type & bits::TID == 0 { 0 } else { 8 };
        Bytes(body.get(body.len().checked_sub(length)? + before..)?).u64()
    }

    /// The event of a sample; the first event if the sample does not state it.
    fn event_of_sample(&self, body: &[u8]) -> Option<usize> {
        let sample_type = self.events[0].sample_type;
        if self.events.len() == 1 || sample_type & (bits::IDENTIFIER | bits::ID) == 0 {
            return Some(0);
        }
        let before = match sample_type & bits::IDENTIFIER {
            0 => (sample_type & (bits::IP | bits::TID | bits::TIME | bits::ADDR)).count_ones() as usize * 8,
            _ => 0,
        };
        let id = Bytes(body.get(before..)?).u64()?;
        Some(self.events_by_id.get(&id).copied().unwrap_or(0))
    }

    fn sample(&self, body: &'a [u8], in_kernel: bool) -> Result<Sample<'a>, String> {
        let index = self.event_of_sample(body).ok_or("its event's id is cut off")?;
        let event = &self.events[index];
        let sample = event.layout.parse(body, in_kernel)?;
        let weight = if event.sample_type & bits::PERIOD == 0 { event.period } else { sample.weight };
        Ok(Sample { event: index, weight, ..sample })
    }

    /// The record at an offset returned by [`File::in_order`].
    pub fn record(&self, at: usize) -> Result<Record<'a>, String> {
        let mut record = Bytes(self.data.get(at..).unwrap_or_default());
        let (kind, misc, size) = header(&mut record).ok_or("a record is cut short")?;
        let body = record.take(usize::from(size).saturating_sub(8)).unwrap_or_default();
        let parsed = match kind {
            kinds::MMAP => mapped(Bytes(body), misc, false).ok_or("mmap: cut short".to_string()),
            kinds::MMAP2 => mapped(Bytes(body), misc, true).ok_or("mmap2: cut short".to_string()),
            kinds::COMM => named(Bytes(body), misc).ok_or("comm: cut short".to_string()),
            kinds::FORK => forked(Bytes(body)).ok_or("fork: cut short".to_string()),
            kinds::SAMPLE => {
                let sample = self.sample(body, misc & 7 == bits::MISC_KERNEL);
                sample.map(Record::Sample).map_err(|what| format!("sample: {what}"))
            }
            _ => Ok(Record::Other),
        };
        parsed.map_err(|what| format!("record at {at} of the data: {what}"))
    }
}

/// Types of records.
mod kinds {
    pub const MMAP: u32 = 1;
    pub const COMM: u32 = 3;
    pub const FORK: u32 = 7;
    pub const SAMPLE: u32 = 9;
    pub const MMAP2: u32 = 10;
    /// Written by perf, not by the kernel.
    pub const FIRST_OF_PERF: u32 = 64;
    pub const AUXTRACE: u32 = 71;
    pub const COMPRESSED: u32 = 81;
    pub const COMPRESSED2: u32 = 83;
    /// A record that is followed by as many bytes as it states.
    pub const TRACING_DATA: u32 = 66;
}

/// Type, flags and size of a record.
pub(super) fn header(bytes: &mut Bytes) -> Option<(u32, u16, u16)> {
    Some((bytes.u32()?, bytes.u16()?, bytes.u16()?))
}

/// `PERF_COUNT_SW_DUMMY`, a `config` of software events (type 1).
const DUMMY: u64 = 9;

impl Event {
    /// Sets the name without its modifier (`cycles:u`), unless it is empty.
    pub fn set_name(&mut self, name: &str) {
        if let Some(name) = name.split(':').next().filter(|name| !name.is_empty()) {
            self.name = name.into();
        }
    }
}

/// A `perf_event_attr`.
pub(super) fn event(attr: &[u8]) -> Option<Event> {
    let whole = Bytes(attr);
    let mut attr = whole;
    let (kind, _size) = (attr.u32()?, attr.u32()?);
    let (config, period, sample_type, read_format, flags) =
        (attr.u64()?, attr.u64()?, attr.u64()?, attr.u64()?, attr.u64()?);
    let at = |offset: usize| Bytes(whole.0.get(offset..).unwrap_or_default()).u64().unwrap_or(0);
    let layout = Layout { sample_type, read_format, branch_type: at(72), register_mask: at(80) };
    let is_clock = kind == 1 && config <= 1;
    let is_rate = flags & bits::ATTR_FREQ != 0;
    let period = match (is_rate, is_clock) {
        (false, _) => period,
        (true, true) => 1_000_000_000u64.checked_div(period).unwrap_or(1),
        (true, false) => 1,
    };
    let name = match (kind, config) {
        (0, 0) => "cycles".into(),
        (0, 1) => "instructions".into(),
        (1, 0) => "cpu-clock".into(),
        (1, 1) => "task-clock".into(),
        (1, DUMMY) => "dummy".into(),
        _ => format!("event-{kind}-{config:x}"),
    };
    Some(Event {
        name,
        is_clock,
        is_dummy: kind == 1 && config == DUMMY,
        period,
        sample_type,
        layout,
        has_trailers: flags & bits::ATTR_SAMPLE_ID_ALL != 0,
    })
}

fn mapped<'a>(mut body: Bytes<'a>, misc: u16, is_second: bool) -> Option<Record<'a>> {
    let (pid, _tid) = (body.u32()?, body.u32()?);
    let (start, length, offset) = (body.u64()?, body.u64()?, body.u64()?);
    let mut is_code = misc & bits::MISC_DATA_OR_EXEC == 0;
    let mut build_id = None;
    if is_second {
        let file = body.take(24)?;
        if misc & bits::MISC_MMAP_BUILD_ID != 0 {
            build_id = file.get(4..4 + usize::from(file[0]).min(20));
        }
        let (protection, _flags) = (body.u32()?, body.u32()?);
        is_code = protection & bits::PROT_EXEC != 0;
    }
    if !is_code {
        return Some(Record::Other);
    }
    let limit = start.saturating_add(length);
    Some(Record::Mapped { pid, mapped: Mapped { start, limit, offset, path: body.text(), build_id } })
}

fn named<'a>(mut body: Bytes<'a>, misc: u16) -> Option<Record<'a>> {
    let (pid, tid) = (body.u32()?, body.u32()?);
    let is_exec = misc & bits::MISC_DATA_OR_EXEC != 0;
    Some(Record::Named { pid, tid, name: String::from_utf8_lossy(body.text()), is_exec })
}

fn forked<'a>(mut body: Bytes<'a>) -> Option<Record<'a>> {
    let (pid, parent, tid, parent_tid) = (body.u32()?, body.u32()?, body.u32()?, body.u32()?);
    Some(Record::Forked { pid, parent, tid, parent_tid })
}
