//! What docs/COMPATIBILITY.md promises: files that rprof has written (`tests/fixtures/golden`) are
//! read with their exact content, and the JSON that it writes has the same fields as before.
//!
//! Each golden file was written by rprof 0.1.0 about one small program, with one busy thread and
//! one that sleeps. A golden file is never changed; a new version adds new ones.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
    io::Read,
    path::PathBuf,
};

use rprof::{
    profile::{self, Profile, columns},
    report::{
        OutputFormat, RenderOptions,
        output::{self, ReportRequest, TextFormat},
        pprof::{Command, Settings},
        render,
        threads::Threads,
    },
};
use serde_json::Value;

fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn profile_of(name: &str) -> Profile {
    profile::decode(&golden(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The content of a profile that other programs may rely on, one fact a line.
fn describe(profile: &Profile) -> String {
    let text = |index: i64| profile.string(index);
    let mut out = String::new();
    for (at, kind) in profile.sample_type.iter().enumerate() {
        let sum: i64 = profile.sample.iter().map(|sample| sample.value[at]).sum();
        let is_default = profile.default_value_index() == Some(at);
        let marker = if is_default { " (default)" } else { "" };
        writeln!(out, "value {}/{}: {sum}{marker}", text(kind.r#type), text(kind.unit)).unwrap();
    }
    if let Some(kind) = &profile.period_type {
        writeln!(out, "period {}/{}: {}", text(kind.r#type), text(kind.unit), profile.period).unwrap();
    }
    writeln!(out, "samples {}, duration {} ns", profile.sample.len(), profile.duration_nanos).unwrap();
    let mut labels: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for label in profile.sample.iter().flat_map(|sample| &sample.label) {
        let value = if label.str == 0 { label.num.to_string() } else { text(label.str).to_owned() };
        labels.entry(text(label.key)).or_default().insert(format!("{value}{}", text(label.num_unit)));
    }
    for (key, values) in labels {
        let values: Vec<String> = values.into_iter().take(3).collect();
        writeln!(out, "label {key}: {}", values.join(", ")).unwrap();
    }
    let keys: Vec<&str> = profile.comments().filter_map(|line| Some(line.split_once(':')?.0)).collect();
    writeln!(out, "comments: {}", keys.join(", ")).unwrap();
    let functions: BTreeSet<&str> =
        profile.function.iter().map(|function| text(function.name)).filter(|name| is_own(name)).collect();
    writeln!(out, "functions: {}", Vec::from_iter(functions).join(", ")).unwrap();
    out
}

/// Whether the fixture program or rprof chose the name; those of the C library differ by machine.
fn is_own(name: &str) -> bool {
    ["spin", "touch", "nap", "main"].contains(&name) || name.starts_with('[')
}

/// All paths of fields in a JSON value; elements of lists share one.
fn fields(value: &Value, path: &str, out: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let path = format!("{path}.{key}");
                out.insert(path.clone());
                fields(value, &path, out);
            }
        }
        Value::Array(list) => list.iter().for_each(|value| fields(value, &format!("{path}[]"), out)),
        _ => {}
    }
}

fn fields_of(json: &[u8]) -> BTreeSet<String> {
    let mut out = BTreeSet::new();
    fields(&serde_json::from_slice(json).expect("valid JSON"), "", &mut out);
    out
}

#[test]
fn golden_profiles_are_read_with_their_exact_content() {
    let mut found = String::new();
    for name in ["cpu", "wall", "offcpu", "faults", "threadcreate", "threads", "trace"] {
        let profile = profile_of(&format!("{name}.pb.gz"));
        profile::check(&profile).unwrap_or_else(|error| panic!("{name}: {error}"));
        write!(found, "{name}\n{}\n", describe(&profile)).unwrap();
    }
    let expected = String::from_utf8(golden("profiles.txt")).expect("text");
    assert!(found == expected, "the profiles are read as:\n{found}");
}

#[test]
fn a_profile_is_written_as_folded_stacks_and_speedscope_json_as_before() {
    let profile = profile_of("cpu.pb.gz");
    let written = |format| {
        let options = RenderOptions { sample_type: Some("cpu".into()), ..RenderOptions::default() };
        let mut out = Vec::new();
        render(&profile, format, &options, &mut out).expect("written");
        String::from_utf8(out).expect("text")
    };
    let text = |name| String::from_utf8(golden(name)).expect("text");
    assert_eq!(written(OutputFormat::Folded), text("cpu.folded"));
    let version = format!("\"exporter\":\"rprof {}\"", env!("CARGO_PKG_VERSION"));
    let speedscope = written(OutputFormat::Speedscope);
    assert!(speedscope.contains(&version), "{speedscope}");
    assert_eq!(speedscope.replace(&version, "\"exporter\":\"rprof 0.1.0\""), text("cpu.speedscope.json"));
}

#[test]
fn golden_folded_stacks_are_read() {
    let columns = columns::decode::read(golden("cpu.folded")).expect("folded stacks");
    let total: i64 = (0..columns.sample_count()).map(|sample| columns.values(sample)[0]).sum();
    assert_eq!((columns.sample_count(), total), (1, 80_808_080));
}

#[test]
fn json_of_threads_has_the_same_fields_and_values() {
    let mut json = Vec::new();
    Threads::new(&profile_of("threads.pb.gz")).write_json(&[], None, &mut json).expect("written");
    // The golden JSON is of another dump of the same program.
    assert_eq!(fields_of(&json), fields_of(&golden("threads.json")));
    let found: Value = serde_json::from_slice(&json).expect("valid JSON");
    let mut names: Vec<&str> = found["threads"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|thread| thread["name"].as_str())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["golden", "napper"]);
}

/// The golden list has a line for each report: its name, then all paths of fields.
#[test]
fn json_of_reports_has_the_same_fields() {
    let mut found = String::new();
    let mut add = |name: &str, output: output::ReportOutput| {
        let json = output.print(TextFormat::Json, None, false);
        let value: Value = serde_json::from_str(&json).expect("valid JSON");
        assert_eq!(value["schema"], "rprof.report/2", "{name}");
        let fields = Vec::from_iter(fields_of(json.as_bytes()));
        writeln!(found, "{name}: {}", fields.join(" ")).unwrap();
    };
    let columns = || columns::decode::read(golden("cpu.pb.gz")).expect("a profile");
    let settings = Settings::default();
    for name in ["top", "tree", "peek", "list", "tags", "traces", "raw", "comments", "dot"] {
        let command = Command::find(name).expect("a command");
        let argument = command.has_argument.then_some("spin|main");
        let request = ReportRequest { argument, count: Some(1), ..ReportRequest::default() };
        add(name, output::build_report(columns(), command, request, &settings, &mut Vec::new()).expect(name));
    }
    let wall = columns::decode::read(golden("offcpu.pb.gz")).expect("a profile");
    let names = ["base".to_owned(), "new".to_owned()];
    let base = columns::decode::read(golden("offcpu.pb.gz")).expect("a profile");
    let request = ReportRequest { count: Some(1), ..ReportRequest::default() };
    let diff = output::diff([base, wall], names, &settings, request, true, &mut Vec::new());
    add("diff", diff.expect("comparable"));
    let expected = String::from_utf8(golden("report-fields.txt")).expect("text");
    assert!(found == expected, "the reports have these fields:\n{found}");
}

#[test]
fn a_golden_snapshot_has_its_files_and_readable_profiles() {
    let bytes = golden("snapshot.tar.gz");
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(&bytes[..]));
    let mut names = BTreeSet::new();
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a path").display().to_string();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).expect("readable");
        if name.ends_with(".pb.gz") {
            let profile = profile::decode(&content).unwrap_or_else(|error| panic!("{name}: {error}"));
            profile::check(&profile).unwrap_or_else(|error| panic!("{name}: {error}"));
        } else if name.ends_with(".json") {
            assert!(!fields_of(&content).is_empty(), "{name}");
        }
        names.insert(name.trim_start_matches("snapshot/").to_owned());
    }
    let expected = "README.md cpu.pb.gz doctor.json doctor.txt offcpu.pb.gz proc/cgroup.txt \
                    proc/cmdline.txt proc/fds.txt proc/io.txt proc/limits.txt proc/maps-summary.txt \
                    proc/schedstat.txt proc/smaps_rollup.txt proc/sockets.txt proc/status.txt \
                    threadcreate.pb.gz threads.json threads.pb.gz threads.txt wall.pb.gz";
    assert_eq!(Vec::from_iter(names).join(" "), expected);
}
