//! Tests of reports with known profiles and with hostile names.

use super::*;
use crate::profile::columns::{Function, Label, Line, Location, NONE, SampleKind};

/// Builds a profile of `cpu`/nanoseconds from names.
pub(super) struct ProfileMaker {
    /// The profile.
    pub columns: Columns,
}

impl ProfileMaker {
    /// An empty profile.
    pub fn new() -> ProfileMaker {
        let mut columns = Columns::default();
        for (name, unit) in [("samples", "count"), ("cpu", "nanoseconds")] {
            let kind = SampleKind { name: columns.intern(name), unit: columns.intern(unit) };
            columns.header.kinds.push(kind);
        }
        ProfileMaker { columns }
    }

    /// A location of `(function, file, line)`, innermost first.
    pub fn location(&mut self, lines: &[(&str, &str, i64)]) -> u32 {
        let lines: Vec<Line> = lines
            .iter()
            .map(|(name, file, line)| {
                let (name, file) = (self.columns.intern(name), self.columns.intern(file));
                let known = self.columns.functions.iter().position(|f| (f.name, f.file) == (name, file));
                let function = known.unwrap_or_else(|| {
                    let id = self.columns.functions.len() as u64 + 1;
                    let function = Function { id, name, file, start_line: 1, ..Function::default() };
                    self.columns.functions.push(function);
                    id as usize - 1
                });
                Line { function: function as u32, line: *line, column: 0 }
            })
            .collect();
        let id = self.columns.locations.len() as u64 + 1;
        let location = Location { id, mapping: NONE, address: id * 16, ..Location::default() };
        self.columns.push_location(location, &lines)
    }

    /// `count` samples of 10 ms each; the stack leaf first.
    pub fn sample(&mut self, stack: &[u32], count: i64, label: Option<(&str, &str)>) {
        let label = label.map(|(key, text)| {
            let (key, text) = (self.columns.intern(key), self.columns.intern(text));
            Label::text(key, text)
        });
        self.columns.push_sample(&[count, count * 10_000_000], stack, label.as_slice());
    }
}

fn report_of(columns: &Columns, command: &str, argument: Option<&str>, settings: &Settings) -> ReportOutput {
    let request = ReportRequest { argument, ..ReportRequest::default() };
    let command = Command::find(command).unwrap();
    build_report(columns.clone(), command, request, settings, &mut Vec::new()).unwrap()
}

/// The fields of the outer entries.
fn fields(output: &ReportOutput) -> Vec<Vec<String>> {
    output.list.entries.iter().map(|entry| csv::fields(&output.list, entry)).collect()
}

/// A function that calls itself, and one that is inlined.
fn recursive() -> Columns {
    let mut maker = ProfileMaker::new();
    let main = maker.location(&[("main", "m.c", 20)]);
    let burn = maker.location(&[("burn", "m.c", 7)]);
    let inner = maker.location(&[("spin", "s.h", 3), ("burn", "m.c", 8)]);
    maker.sample(&[inner, burn, burn, main], 6, Some(("thread", "a")));
    maker.sample(&[burn, main], 2, Some(("thread", "b")));
    maker.sample(&[inner, burn, main], 2, None);
    maker.columns
}

#[test]
fn a_recursive_function_counts_once_in_top_and_list() {
    let settings = Settings::default();
    let top = report_of(&recursive(), "top", None, &settings);
    let rows = fields(&top);
    let cum = |name: &str| rows.iter().find(|row| row[1] == name).map(|row| row[7].clone()).unwrap();
    assert_eq!([cum("burn"), cum("main"), cum("spin")], ["100000000", "100000000", "80000000"]);
    let list = report_of(&recursive(), "list", Some("burn"), &settings);
    // name, file, flat, its share, cum, its share.
    assert_eq!(fields(&list)[0][1..7], ["burn", "m.c", "20000000", "20", "100000000", "100"]);
    let lines = &list.list.entries[0].groups[0];
    let lines: Vec<_> = lines.entries.iter().map(|entry| csv::fields(lines, entry)[..4].join(" ")).collect();
    assert_eq!(lines, ["7 20000000 20 100000000", "8 0 0 80000000"]);
    // The reference sums the lines, which exceeds the total.
    let command = Command::find("list").unwrap();
    let reference =
        super::super::pprof::generate(recursive(), command, Some("burn"), &settings, &mut Vec::new());
    assert!(String::from_utf8(reference.unwrap()).unwrap().contains("180ms (flat, cum)"));
}

#[test]
fn inlined_functions_are_recognized_when_frames_are_hidden() {
    let inlined = |settings: &Settings| {
        let rows = fields(&report_of(&recursive(), "top", None, settings));
        rows.into_iter().map(|row| format!("{} {}", row[1], row[9])).collect::<Vec<_>>()
    };
    assert_eq!(inlined(&Settings::default()), ["spin yes", "burn no", "main no"]);
    let hidden = Settings { hide: "burn".into(), ..Settings::default() };
    assert_eq!(inlined(&hidden), ["spin yes", "main no"]);
    let text = report_of(&recursive(), "top", None, &hidden).print(TextFormat::Text, None, false);
    assert!(text.contains("spin (inline)\n"), "{text}");
}

#[test]
fn functions_with_one_name_in_two_files_are_different() {
    let mut maker = ProfileMaker::new();
    let [one, other] = ["a.c", "b.c"].map(|file| maker.location(&[("init", file, 3)]));
    maker.sample(&[one], 1, None);
    maker.sample(&[other], 2, None);
    let top = report_of(&maker.columns, "top", None, &Settings::default());
    let text = top.print(TextFormat::Text, None, false);
    assert!(text.contains("init (b.c)\n") && text.contains("init (a.c)\n"), "{text}");
    let together = Settings { granularity: "functions".into(), ..Settings::default() };
    assert_eq!(fields(&report_of(&maker.columns, "top", None, &together)).len(), 1);
}

#[test]
fn ids_are_the_same_in_all_profiles() {
    let rows = fields(&report_of(&recursive(), "top", None, &Settings::default()));
    assert_eq!(rows[0][0], rows::id("spin", "s.h", None));
    // FNV-1a of "main\0m.c".
    assert_eq!(rows::id("", "", None), "af63bd4c8601b7df");
    let by_line = Settings { granularity: "lines".into(), ..Settings::default() };
    let rows = fields(&report_of(&recursive(), "top", None, &by_line));
    assert_eq!(rows[0][0], rows::id("spin", "s.h", Some(":3".into())));
}

#[test]
fn traces_sum_equal_stacks_and_keep_labels() {
    let mut maker = ProfileMaker { columns: recursive() };
    maker.sample(&[1, 0], 3, Some(("thread", "b")));
    let traces = report_of(&maker.columns, "traces", None, &Settings::default());
    let rows: Vec<_> = fields(&traces).into_iter().map(|row| row.join(" ")).collect();
    assert_eq!(rows, ["60000000 46.1538 1 thread=a", "50000000 38.4615 2 thread=b", "20000000 15.3846 1 "]);
    let tags = report_of(&maker.columns, "tags", None, &Settings::default());
    assert_eq!(fields(&tags)[0].join(" "), "thread 110000000 84.6154");
}

#[test]
fn raw_has_every_sample_with_all_its_values_and_frames() {
    let raw = report_of(&recursive(), "raw", None, &Settings::default());
    let rows: Vec<_> = fields(&raw).into_iter().map(|row| row.join(" ")).collect();
    assert_eq!(rows, ["1 thread=a", "2 thread=b", "3 "]);
    let groups = &raw.list.entries[0].groups;
    let [values, frames] = [&groups[0], &groups[1]];
    let of = |list: &List, from: usize| {
        let rows = list.entries.iter().map(|entry| csv::fields(list, entry)[from..].join(" "));
        rows.collect::<Vec<_>>()
    };
    assert_eq!(of(values, 0), ["samples count 6", "cpu nanoseconds 60000000"]);
    let expected = [
        "spin s.h 3 0x30 yes",
        "burn m.c 8 0x30 no",
        "burn m.c 7 0x20 no",
        "burn m.c 7 0x20 no",
        "main m.c 20 0x10 no",
    ];
    assert_eq!(of(frames, 1), expected);
}

#[test]
fn the_graph_has_edges_and_comments_are_listed() {
    let mut columns = recursive();
    let comment = columns.intern("written by hand");
    columns.header.comments.push(comment);
    let graph = report_of(&columns, "dot", None, &Settings::default());
    let main = graph.list.entries.iter().position(|entry| entry.cells[1] == Cell::Text("main".into()));
    let callees = &graph.list.entries[main.unwrap()].groups[1];
    assert_eq!(csv::fields(callees, &callees.entries[0])[1..6].join(" "), "burn m.c   100000000");
    assert_eq!(fields(&report_of(&columns, "comments", None, &Settings::default())), [["written by hand"]]);
}

/// Names with which a target may attack the reader of its profile.
fn hostile() -> Columns {
    let mut maker = ProfileMaker::new();
    let names =
        ["\u{1b}]0;pwned\u{7}", "a|b`c", "=cmd()", "<script>alert(1)</script>", "x,\"y\"\nz", "\u{202e}gpj"];
    for (at, name) in names.iter().enumerate() {
        let location = maker.location(&[(name, "\u{1b}[2J|`,\".c", 3)]);
        maker.sample(&[location], at as i64 + 1, Some((name, name)));
    }
    maker.columns
}

#[test]
fn names_cannot_control_a_terminal_or_break_a_table() {
    for command in ["top", "tree", "peek", "list", "tags", "traces", "dot", "raw", "comments"] {
        let argument = ["peek", "list"].contains(&command).then_some(".");
        let output = report_of(&hostile(), command, argument, &Settings::default());
        for (name, format) in FORMATS {
            let text = output.print(format, None, false);
            let harmful = |c: char| c != '\n' && super::super::paint::is_harmful(c);
            assert!(!text.contains(harmful), "{command} {name}: {text:?}");
            match format {
                TextFormat::Json => {
                    let parsed: serde_json::Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(parsed["report"], command);
                }
                TextFormat::Csv => assert_eq!(csv_widths(&text).len(), 1, "{command}: {text}"),
                TextFormat::Markdown => {
                    let rows = text.lines().filter(|line| line.starts_with("| "));
                    for row in rows {
                        let bars = row.replace("\\|", "").matches('|').count();
                        assert!(row.ends_with(" |") && bars >= 2, "{command}: {row}");
                    }
                    assert!(!text.contains("\n<script>") && !text.contains("| <script>"), "{text}");
                }
                TextFormat::Text => {}
            }
        }
    }
}

/// How many fields rows have, read as RFC 4180 says.
fn csv_widths(text: &str) -> std::collections::BTreeSet<usize> {
    let (mut widths, mut fields, mut quoted) = (std::collections::BTreeSet::new(), 1, false);
    for letter in text.chars() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => fields += 1,
            '\n' if !quoted => {
                widths.insert(fields);
                fields = 1;
            }
            _ => {}
        }
    }
    widths
}

#[test]
fn a_budget_is_kept_and_the_rest_is_counted() {
    let mut maker = ProfileMaker::new();
    let main = maker.location(&[("main", "m.c", 1)]);
    for at in 0..200 {
        let leaf = maker.location(&[(&format!("function_{at}"), "f.c", 3)]);
        maker.sample(&[leaf, main], at + 1, None);
    }
    let settings = Settings::default();
    let request = ReportRequest { count: Some(usize::MAX), ..ReportRequest::default() };
    for command in ["top", "tree", "traces"] {
        let command = Command::find(command).unwrap();
        let output =
            build_report(maker.columns.clone(), command, request, &settings, &mut Vec::new()).unwrap();
        for (name, format) in FORMATS {
            for bytes in [3000, 10_000] {
                let text = output.print(format, Some(Budget::Bytes(bytes)), false);
                assert!(text.len() <= bytes, "{name}: {} > {bytes}", text.len());
                assert!(text.len() > bytes * 7 / 10, "{name} {}: {} of {bytes}", command.name, text.len());
                assert!(text.contains("… ") || text.contains("\"more_"), "{name}: {text}");
            }
        }
        let rows = output.print(TextFormat::Json, Some(Budget::Rows(5)), false);
        let parsed: serde_json::Value = serde_json::from_str(&rows).unwrap();
        let outer = parsed[output.list.shape.name].as_array().unwrap().len();
        let more = parsed[format!("more_{}", output.list.shape.name)]["count"].as_u64().unwrap();
        assert_eq!(outer + more as usize, output.list.entries.len() + output.list.more);
    }
}

#[test]
fn budgets_are_rows_or_bytes() {
    assert_eq!("50".parse(), Ok(Budget::Rows(50)));
    assert_eq!(
        ["8000B", "20kB", "1MB"].map(|text| text.parse()),
        [8000, 20 << 10, 1 << 20].map(|bytes| Ok(Budget::Bytes(bytes)))
    );
    for wrong in ["", "kB", "-1", "5 rows", "99999999999999999999", "9999999999999999999MB"] {
        assert!(wrong.parse::<Budget>().is_err(), "{wrong}");
    }
}

/// `parse` takes `share` of 1000 samples, `steady` a tenth, `rare` one in a thousand.
fn with_share(parse: i64, seconds: i64) -> Columns {
    let mut maker = ProfileMaker::new();
    let main = maker.location(&[("main", "m.c", 1)]);
    for (name, count) in [("parse", parse), ("steady", 100), ("rare", 1), ("rest", 899 - parse)] {
        let leaf = maker.location(&[(name, "f.c", 3)]);
        // One row per sample, as profilers with timestamps write them.
        (0..count).for_each(|_| maker.sample(&[leaf, main], 1, None));
    }
    maker.columns.header.duration_ns = seconds * 1_000_000_000;
    maker.columns
}

fn compare(base: Columns, new: Columns, all: bool) -> ReportOutput {
    let names = ["before", "after"].map(String::from);
    let settings = Settings::default();
    diff([base, new], names, &settings, ReportRequest::default(), all, &mut Vec::new()).unwrap()
}

#[test]
fn a_diff_shows_significant_changes() {
    let output = compare(with_share(400, 10), with_share(120, 5), false);
    let rows = fields(&output);
    let of = |name: &str| rows.iter().find(|row| row[1] == name).cloned();
    let parse = of("parse").unwrap();
    assert_eq!((parse[6].as_str(), parse[8].as_str(), parse[9].as_str()), ("40", "12", "-28"));
    // 120 of 1000 against 400 of 1000, Newcombe: -0.3159 to -0.2430.
    assert_eq!((&parse[10][..6], &parse[11][..6]), ("-31.59", "-24.30"));
    assert_eq!((parse[14].as_str(), parse[15].as_str()), ("0.6", "shrank"));
    assert!(of("steady").is_none() && of("rare").is_none());
    let compared = output.compared.as_ref().unwrap();
    assert_eq!((compared.hits, compared.hidden), ([1000.0, 1000.0], 2));
    let all = fields(&compare(with_share(400, 10), with_share(120, 5), true));
    assert!(all.iter().any(|row| row[1] == "steady" && row[15] == "not significant"));
}

#[test]
fn a_profile_does_not_differ_from_itself_or_from_one_twice_as_long() {
    for new in [with_share(400, 10), with_share(403, 20)] {
        let output = compare(with_share(400, 10), new, false);
        assert_eq!(fields(&output), Vec::<Vec<String>>::new());
        let text = output.print(TextFormat::Text, None, false);
        assert!(text.contains("no significant changes"), "{text}");
    }
}

#[test]
fn a_function_whose_file_moved_is_the_same_function() {
    let mut moved = ProfileMaker::new();
    let leaf = moved.location(&[("parse", "/build/2/f.c", 3)]);
    moved.sample(&[leaf], 1000, None);
    let mut before = ProfileMaker::new();
    let leaf = before.location(&[("parse", "/build/1/f.c", 3)]);
    before.sample(&[leaf], 1000, None);
    assert_eq!(fields(&compare(before.columns, moved.columns, true)).len(), 1);
}
