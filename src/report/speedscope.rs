//! The file format of speedscope (<https://www.speedscope.app/file-format-schema.json>): JSON with
//! a shared table of frames and one `sampled` profile for all threads together; if there are
//! several threads, also one for each.
//!
//! Not here: a timeline. Equal samples are counted together, so their order in time is unknown.
//! They are written ordered by stack, so that speedscope's initial "time order" view is a flame
//! graph too.

use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write},
};

use super::stacks::{Frame, FrameId, Stacks, base_name, value_of};
use crate::profile::proto::Sample;

/// Limit of the threads with a separate profile: the busiest ones.
const MAX_THREADS: usize = 500;

/// Writes the value with index `value_index` of all samples where it is positive. Errors: those of
/// the writer.
pub fn write_speedscope(stacks: &Stacks<'_>, value_index: usize, mut writer: impl Write) -> io::Result<()> {
    let profile = stacks.profile();
    let main_binary = profile.mapping.first().map_or("", |mapping| profile.string(mapping.filename));
    let name = match base_name(main_binary) {
        "" => "profile",
        name => name,
    };
    write!(writer, r#"{{"$schema":"https://www.speedscope.app/file-format-schema.json","name":"#)?;
    string(&mut writer, name)?;
    write!(
        writer,
        r#","exporter":"rprof {}","activeProfileIndex":0,"shared":{{"frames":["#,
        env!("CARGO_PKG_VERSION")
    )?;
    for (at, frame) in stacks.frames().iter().enumerate() {
        separate(&mut writer, at)?;
        write_frame(&mut writer, frame)?;
    }
    write!(writer, r#"]}},"profiles":["#)?;
    let unit = unit(profile.sample_type.get(value_index).map_or("", |kind| profile.string(kind.unit)));
    let all: Vec<&Sample> =
        profile.sample.iter().filter(|sample| value_of(sample, value_index) > 0).collect();
    let threads = by_thread(stacks, &all, value_index);
    let merged_name = if threads.len() > 1 { "all threads" } else { name };
    write_profile(&mut writer, stacks, merged_name, unit, &all, value_index)?;
    for (thread, samples) in threads.iter().filter(|_| threads.len() > 1) {
        write!(writer, ",")?;
        write_profile(&mut writer, stacks, thread, unit, samples, value_index)?;
    }
    writeln!(writer, "]}}")?;
    writer.flush()
}

/// The name of a unit in the schema.
fn unit(unit: &str) -> &'static str {
    match unit {
        "nanoseconds" => "nanoseconds",
        "microseconds" => "microseconds",
        "milliseconds" => "milliseconds",
        "seconds" => "seconds",
        "bytes" => "bytes",
        _ => "none",
    }
}

/// The samples of each thread that has a name, the busiest first.
fn by_thread<'s>(
    stacks: &Stacks<'_>,
    samples: &[&'s Sample],
    value_index: usize,
) -> Vec<(String, Vec<&'s Sample>)> {
    let mut threads: HashMap<String, (i64, Vec<&'s Sample>)> = HashMap::new();
    for sample in samples {
        let Some(thread) = stacks.label(sample, "thread") else { continue };
        let (sum, list) = threads.entry(thread.into_owned()).or_default();
        *sum = sum.saturating_add(value_of(sample, value_index));
        list.push(sample);
    }
    let mut threads: Vec<_> = threads.into_iter().map(|(name, (sum, list))| (name, sum, list)).collect();
    threads.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    threads.truncate(MAX_THREADS);
    threads.into_iter().map(|(name, _, list)| (name, list)).collect()
}

fn write_frame(writer: &mut impl Write, frame: &Frame<'_>) -> io::Result<()> {
    write!(writer, r#"{{"name":"#)?;
    string(writer, &frame.name)?;
    let file = if frame.file.is_empty() { &frame.module } else { &frame.file };
    if !file.is_empty() {
        write!(writer, r#","file":"#)?;
        string(writer, file)?;
    }
    if frame.start_line > 0 {
        write!(writer, r#","line":{}"#, frame.start_line)?;
    }
    write!(writer, "}}")
}

fn write_profile(
    writer: &mut impl Write,
    stacks: &Stacks<'_>,
    name: &str,
    unit: &str,
    samples: &[&Sample],
    value_index: usize,
) -> io::Result<()> {
    let mut stacks_in_order: BTreeMap<Vec<FrameId>, i64> = BTreeMap::new();
    for sample in samples {
        let sum = stacks_in_order.entry(stacks.of(sample).map(|used| used.frame).collect()).or_default();
        *sum = sum.saturating_add(value_of(sample, value_index));
    }
    let total = stacks_in_order.values().fold(0i64, |sum, value| sum.saturating_add(*value));
    write!(writer, r#"{{"type":"sampled","name":"#)?;
    string(writer, name)?;
    write!(writer, r#","unit":"{unit}","startValue":0,"endValue":{total},"samples":["#)?;
    for (at, stack) in stacks_in_order.keys().enumerate() {
        separate(writer, at)?;
        write!(writer, "[")?;
        for (depth, frame) in stack.iter().enumerate() {
            separate(writer, depth)?;
            write!(writer, "{}", frame.0)?;
        }
        write!(writer, "]")?;
    }
    write!(writer, r#"],"weights":["#)?;
    for (at, value) in stacks_in_order.values().enumerate() {
        separate(writer, at)?;
        write!(writer, "{value}")?;
    }
    write!(writer, "]}}")
}

fn separate(writer: &mut impl Write, position: usize) -> io::Result<()> {
    if position == 0 { Ok(()) } else { writer.write_all(b",") }
}

fn string(writer: &mut impl Write, text: &str) -> io::Result<()> {
    serde_json::to_writer(writer, text).map_err(io::Error::from)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::profile::{Builder, LabelValue, LineSpec, MappingSpec};

    fn document(threads: &[&str]) -> Value {
        let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
        let mapping = builder.mapping(&MappingSpec { filename: "/bin/app", ..MappingSpec::default() });
        let [main, leaf] = [("main", 3), ("\"</script>\\", 0)].map(|(name, start)| {
            let function = builder.function(name, name, if start > 0 { "a.c" } else { "" }, start);
            builder.location(Some(mapping), 0, &[LineSpec { function, line: 9, column: 0 }])
        });
        for (at, thread) in threads.iter().enumerate() {
            builder.sample(&[leaf, main], &[1, 10 + at as i64], &[("thread", LabelValue::Text(thread))]);
        }
        builder.sample(&[main], &[1, 0], &[]);
        let mut bytes = Vec::new();
        write_speedscope(&Stacks::new(&builder.finish()), 1, &mut bytes).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    }

    #[test]
    fn the_document_matches_the_schema() {
        let expected = json!({
            "$schema": "https://www.speedscope.app/file-format-schema.json",
            "name": "app",
            "exporter": concat!("rprof ", env!("CARGO_PKG_VERSION")),
            "activeProfileIndex": 0,
            "shared": {"frames": [
                {"name": "main", "file": "a.c", "line": 3},
                {"name": "\"</script>\\", "file": "/bin/app"},
            ]},
            "profiles": [{
                "type": "sampled", "name": "app", "unit": "nanoseconds", "startValue": 0, "endValue": 10,
                "samples": [[0, 1]], "weights": [10],
            }],
        });
        assert_eq!(document(&["w"]), expected);
    }

    #[test]
    fn equal_stacks_are_written_once() {
        let document = document(&["w", "w", "w"]);
        assert_eq!(document["profiles"][0]["samples"], json!([[0, 1]]));
        assert_eq!(document["profiles"][0]["weights"], json!([33]));
    }

    #[test]
    fn threads_follow_the_whole_profile_busiest_first() {
        let document = document(&["a", "b"]);
        let profiles = document["profiles"].as_array().unwrap();
        let summary: Vec<_> =
            profiles.iter().map(|p| (p["name"].as_str().unwrap(), p["endValue"].as_i64())).collect();
        assert_eq!(summary, [("all threads", Some(21)), ("b", Some(11)), ("a", Some(10))]);
    }
}
