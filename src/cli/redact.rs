//! `rprof redact FILE`: removes private data from a profile, a dump or a snapshot archive before it
//! is shared.
//!
//! Not here: what is removed from a text or a profile ([`Redactor`]).

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, anyhow, bail};
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use serde_json::Value;

use super::{args::RedactArgs, output::file_options, say};
use crate::{
    capture::kinds::{self, DumpOf, Kind},
    profile::{Profile, decode, encode_gzip, file, redact::Redactor},
    report::threads::Threads,
    text::counted,
};

/// The largest content of an archive, uncompressed.
const MAX_ARCHIVE_BYTES: u64 = 1 << 30;
/// The largest number of files in an archive.
const MAX_FILES: usize = 10_000;

/// Runs the verb.
pub fn run(arguments: &RedactArgs) -> Result<()> {
    let path = &arguments.input;
    let target = arguments.output.clone().unwrap_or_else(|| default_output(path));
    let mut redactor = Redactor::new(arguments.label.clone(), &arguments.home);
    if let Some(short) = arguments.text.iter().find(|text| text.trim().len() < 3) {
        bail!("--text '{short}' is too short: it would match almost everywhere");
    }
    arguments.text.iter().for_each(|text| redactor.add_secret(text));
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    let redacted = match read_archive(&bytes)? {
        Some(parts) => write_archive(&redact_parts(parts, &mut redactor)?)?,
        None => {
            let mut profile = decode(&bytes)
                .with_context(|| format!("{} is not a profile and not a snapshot", path.display()))?;
            redactor.profile(&mut profile);
            encode_gzip(&profile)
        }
    };
    file::write_file(&target, &file_options(None), |writer| writer.write_all(&redacted))?;
    if !arguments.quiet {
        let paths = counted(redactor.path_count(), "path");
        say(&format!("removed {paths} under home directories\nwrote {}", target.display()));
    }
    Ok(())
}

/// `x.pb.gz` → `x.redacted.pb.gz`.
fn default_output(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let extension = [".tar.gz", ".tgz", ".pb.gz", ".pb"].into_iter().find(|end| name.ends_with(end));
    let (stem, end) = name.split_at(name.len() - extension.map_or(0, str::len));
    path.with_file_name(format!("{stem}.redacted{end}"))
}

/// A file of an archive.
struct Part {
    path: String,
    modified: u64,
    bytes: Vec<u8>,
}

impl Part {
    /// The path without the folder that all files of a snapshot are in.
    fn name(&self) -> &str {
        self.path.split_once('/').map_or(&self.path, |(_, name)| name)
    }
}

/// The files of a compressed tar archive; `None` if the bytes are not one.
fn read_archive(bytes: &[u8]) -> Result<Option<Vec<Part>>> {
    let mut head = Vec::new();
    let unpacked = MultiGzDecoder::new(bytes).take(512).read_to_end(&mut head);
    if unpacked.is_err() || head.get(257..262) != Some(b"ustar") {
        return Ok(None);
    }
    let mut archive = tar::Archive::new(MultiGzDecoder::new(bytes).take(MAX_ARCHIVE_BYTES));
    let mut parts = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry.context("cannot read the archive")?;
        if !entry.header().entry_type().is_file() {
            bail!("the archive contains something that is not a file: it is not a snapshot");
        }
        if parts.len() == MAX_FILES {
            bail!("the archive has more than {MAX_FILES} files: it is not a snapshot");
        }
        let path = entry.path()?.to_string_lossy().into_owned();
        let modified = entry.header().mtime().unwrap_or_default();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).context("cannot read the archive")?;
        parts.push(Part { path, modified, bytes });
    }
    Ok(Some(parts))
}

fn redact_parts(parts: Vec<Part>, redactor: &mut Redactor) -> Result<Vec<Part>> {
    let mut profiles: Vec<(String, Profile)> = Vec::new();
    // What is private is known only when all files have been read.
    for part in &parts {
        if part.name().ends_with(".pb.gz") {
            let profile = decode(&part.bytes).with_context(|| format!("cannot read {}", part.path))?;
            redactor.learn(&profile);
            profiles.push((part.name().to_owned(), profile));
        }
        if is_command_line(part.name()) {
            let text = String::from_utf8_lossy(&part.bytes).into_owned();
            text.lines().skip(1).for_each(|argument| redactor.add_argument(argument));
        }
    }
    for (_, profile) in &mut profiles {
        redactor.profile(profile);
    }
    let profile = |name: &str| {
        let found = profiles.iter().find(|(known, _)| known == name);
        found.map(|(_, profile)| profile).ok_or_else(|| anyhow!("the archive has no {name}"))
    };
    let mut redacted = Vec::new();
    let mut graphs: BTreeMap<String, Value> = BTreeMap::new();
    for (file, text) in parts.iter().filter_map(|part| Some((of_threads(part.name())?, &part.bytes))) {
        let graph = (file.1 == "json").then(|| wait_graph(text, redactor)).flatten();
        graphs.extend(graph.map(|graph| (file.0.to_owned(), graph)));
    }
    for part in parts {
        let bytes = match (part.name(), of_threads(part.name())) {
            (name, _) if name.ends_with(".pb.gz") => encode_gzip(profile(name)?),
            // Made from the profile: so they have no label that it does not have.
            (_, Some((file, end))) => {
                let threads = Threads::new(profile(&format!("{file}.pb.gz"))?);
                let (mut bytes, graph) = (Vec::new(), graphs.get(file));
                match end {
                    "txt" => {
                        graph.map_or(Ok(()), |graph| write_verdicts(graph, &mut bytes))?;
                        threads.write_text(false, &mut bytes)?;
                    }
                    _ => threads.write_json(&[], graph.cloned(), &mut bytes)?,
                }
                bytes
            }
            (name, None) => redact_text(name, &String::from_utf8_lossy(&part.bytes), redactor).into_bytes(),
        };
        redacted.push(Part { path: redactor.text(&part.path), bytes, ..part });
    }
    Ok(redacted)
}

/// The graph of waits in the JSON of a dump, without private texts; `None`: it has none, or a label
/// is removed that the graph would show.
fn wait_graph(json: &[u8], redactor: &mut Redactor) -> Option<Value> {
    const SHOWN: [&str; 7] = ["thread", "pid", "tid", "process", "lock", "holder", "waits_for"];
    if SHOWN.iter().any(|label| redactor.is_chosen(label)) {
        return None;
    }
    let mut graph = serde_json::from_slice::<Value>(json).ok()?.get_mut("waits")?.take();
    redact_json(&mut graph, redactor);
    Some(graph)
}

/// Writes the first lines of the verdicts of a graph, and an empty line.
fn write_verdicts(graph: &Value, writer: &mut dyn io::Write) -> io::Result<()> {
    let verdicts = graph["verdicts"].as_array().map(Vec::as_slice).unwrap_or_default();
    let texts: Vec<&str> = verdicts.iter().filter_map(|verdict| verdict["text"].as_str()).collect();
    texts.iter().try_for_each(|text| writeln!(writer, "{}", text.replace(char::is_control, " ")))?;
    if texts.is_empty() { Ok(()) } else { writeln!(writer) }
}

/// Whether this is the command line of a process: `proc/cmdline.txt`, `proc/1234/cmdline.txt`.
fn is_command_line(name: &str) -> bool {
    name.starts_with("proc/") && name.ends_with("/cmdline.txt")
}

/// The profile's name and the extension of a text that shows threads.
fn of_threads(name: &str) -> Option<(&str, &str)> {
    let (file, end) = name.rsplit_once('.').filter(|(_, end)| ["txt", "json"].contains(end))?;
    let is_it = |kind: &&Kind| {
        kind.dump == Some(DumpOf::Threads) && kind.bundle.is_some_and(|bundle| bundle.file == file)
    };
    kinds::ALL.iter().any(|kind| is_it(&kind)).then_some((file, end))
}

fn redact_text(name: &str, text: &str, redactor: &mut Redactor) -> String {
    match serde_json::from_str::<Value>(text) {
        Ok(mut value) if name.ends_with(".json") => {
            redact_json(&mut value, redactor);
            format!("{value:#}")
        }
        _ if is_command_line(name) => redactor.lines(text.lines().next().unwrap_or_default()),
        _ if name.starts_with("proc/") => redactor.lines(text),
        _ => redactor.text(text),
    }
}

fn redact_json(value: &mut Value, redactor: &mut Redactor) {
    match value {
        Value::String(text) => *text = redactor.text(text),
        Value::Array(values) => values.iter_mut().for_each(|value| redact_json(value, redactor)),
        Value::Object(fields) => {
            fields.retain(|key, _| !redactor.is_chosen(key));
            fields.values_mut().for_each(|value| redact_json(value, redactor));
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn write_archive(parts: &[Part]) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    for part in parts {
        let mut header = tar::Header::new_gnu();
        header.set_size(part.bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(part.modified);
        archive.append_data(&mut header, &part.path, &part.bytes[..])?;
    }
    archive.into_inner()?.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_output_is_beside_the_input() {
        let output = |path: &str| default_output(Path::new(path)).display().to_string();
        assert_eq!(output("/a/x.pb.gz"), "/a/x.redacted.pb.gz");
        assert_eq!(output("incident.tar.gz"), "incident.redacted.tar.gz");
        assert_eq!(output("profile"), "profile.redacted");
    }

    #[test]
    fn json_loses_chosen_keys_and_private_texts() {
        let mut redactor = Redactor::new(vec!["thread".into()], &[]);
        redactor.add_secret("canary");
        let text = r#"{"a": ["/home/x/y", {"thread": 1, "b": "a canary"}]}"#;
        let redacted = redact_text("doctor.json", text, &mut redactor);
        let value: Value = serde_json::from_str(&redacted).expect("JSON");
        assert_eq!(value, serde_json::json!({ "a": ["/redacted/1", { "b": "a [redacted]" }] }));
    }

    #[test]
    fn the_graph_of_waits_stays_without_private_texts_unless_a_label_that_it_shows_is_removed() {
        let json = br#"{"threads": [], "waits": {"nodes": [{"name": "/home/x/y"}],
            "verdicts": [{"text": "DEADLOCK: 2 threads in /home/x/y"}]}}"#;
        let graph = wait_graph(json, &mut Redactor::new(Vec::new(), &[])).expect("a graph");
        assert_eq!(graph["nodes"][0]["name"], "/redacted/1");
        let mut text = Vec::new();
        write_verdicts(&graph, &mut text).expect("into memory");
        assert_eq!(String::from_utf8_lossy(&text), "DEADLOCK: 2 threads in /redacted/1\n\n");
        assert_eq!(wait_graph(json, &mut Redactor::new(vec!["thread".into()], &[])), None);
        assert_eq!(wait_graph(b"{}", &mut Redactor::new(Vec::new(), &[])), None);
    }

    #[test]
    fn an_archive_is_read_and_written() {
        let part = Part { path: "x/README.md".into(), modified: 7, bytes: b"text".to_vec() };
        let bytes = write_archive(&[part]).expect("into memory");
        let parts = read_archive(&bytes).expect("an archive").expect("an archive");
        assert_eq!((parts[0].name(), parts[0].modified, &*parts[0].bytes), ("README.md", 7, &b"text"[..]));
        assert!(read_archive(b"no archive").expect("readable").is_none());
    }
}
