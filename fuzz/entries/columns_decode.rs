//! Any bytes as a profile of any format, read by the analyzer. A valid profile must survive
//! encoding and decoding unchanged, and filters, merging and reports must accept it.

use rprof::{
    profile::columns::{Columns, decode, filter::ByName, merge},
    profile::go_regexp::GoRegexp,
    report::pprof::{COMMANDS, Command, Settings, commands::ReportKind, generate},
};

fn reports(columns: &Columns, settings: &Settings) {
    let harmless = |command: &&Command| {
        !matches!(command.kind, ReportKind::List | ReportKind::Disassembly | ReportKind::WebList)
            && command.name != "peek"
    };
    let mut kinds = Vec::new();
    for command in COMMANDS.iter().filter(harmless) {
        if !kinds.contains(&command.kind) {
            kinds.push(command.kind);
            let _ = generate(columns.clone(), command, None, settings, &mut Vec::new());
        }
    }
}

/// See the module.
pub fn run(bytes: &[u8]) {
    let Ok(columns) = decode::read(bytes.to_vec()) else { return };
    let written = columns.encode();
    let again = decode::read(written.clone()).expect("rprof reads its own output");
    assert_eq!(again.encode(), written);
    let mut filtered = columns.clone();
    filtered.drop_uninteresting();
    let regexp = GoRegexp::new("a|main|1").expect("a valid expression");
    filtered.filter_by_name(ByName { focus: Some(&regexp), hide: Some(&regexp), ..ByName::default() });
    let mut merged = merge::Accumulator::merged();
    let kept = merge::combine(vec![columns.clone(), columns.clone(), filtered.clone()]);
    let whole = [&columns, &columns, &filtered].into_iter().all(|part| merged.add(part.clone()));
    if let (true, Ok(kept)) = (whole, kept) {
        let merged = merged.finish().expect("compatible profiles").expect("three profiles");
        assert_eq!(merged.encode(), kept.encode());
    }
    reports(&columns, &Settings::default());
    reports(&filtered, &Settings { call_tree: true, granularity: "lines".into(), ..Settings::default() });
}
