//! What a spool survives: power cuts at any byte, damage, full limits, clocks that are set back.

use std::{fs, path::Path, time::Duration};

use super::{Catalog, Entry, INDEX, Limits, Query, Recovery, Spool, SpoolError};
use crate::profile::{Builder, LineSpec, Profile};

const NONE: Limits = Limits { bytes: 0, age: Duration::ZERO };
const MINUTE: i64 = 60_000;

fn profile(name: &str) -> Profile {
    let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
    let function = builder.function(name, name, "x.c", 1);
    let location = builder.location(None, 1, &[LineSpec { function, line: 3, column: 0 }]);
    builder.sample(&[location], &[1, 10], &[]);
    builder.set_time(1_796_001_600_000_000_000, 60_000_000_000);
    builder.finish()
}

fn entry(minute: i64) -> Entry {
    Entry {
        start: 1_796_001_600_000 + minute * MINUTE,
        duration_ms: 60_000,
        service: "web".into(),
        kind: "cpu".into(),
        pid: None,
        mark: None,
    }
}

/// A spool with this many profiles, one a minute.
fn filled(folder: &Path, count: i64) -> Vec<Entry> {
    let (mut spool, recovery) = Spool::open(folder, NONE).expect("a new spool");
    assert_eq!(recovery, Recovery::default());
    let entries: Vec<Entry> = (0..count).map(entry).collect();
    for (at, entry) in entries.iter().enumerate() {
        spool.add(entry.clone(), &profile(&format!("f{at}"))).expect("written");
    }
    entries
}

fn listed(folder: &Path) -> Vec<Entry> {
    Catalog::read(folder).expect("a spool").entries(&Query::default()).cloned().collect()
}

#[test]
fn a_file_that_is_cut_at_any_byte_is_set_aside_and_the_others_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let entries = filled(folder.path(), 3);
    let path = folder.path().join(entries[2].path());
    let whole = fs::read(&path).unwrap();
    let torn = path.with_file_name(format!("{}.torn", path.file_name().unwrap().to_string_lossy()));
    let index = fs::read(folder.path().join(INDEX)).unwrap();
    // With and without its line in the index: the power may have failed before that was written.
    let without_last = index.split_inclusive(|byte| *byte == b'\n').take(2).collect::<Vec<_>>().concat();
    for cut in 0..whole.len() {
        for index in [&index, &without_last] {
            fs::write(&path, &whole[..cut]).unwrap();
            fs::write(folder.path().join(INDEX), index).unwrap();
            let (_, recovery) = Spool::open(folder.path(), NONE).expect("it opens");
            assert_eq!(recovery.torn.len(), 1, "cut at {cut}");
            assert!(torn.exists() && !path.exists(), "cut at {cut}");
            assert_eq!(listed(folder.path()), entries[..2], "cut at {cut}");
            fs::remove_file(&torn).unwrap();
        }
    }
}

#[test]
fn an_index_that_is_cut_at_any_byte_is_built_from_the_files() {
    let folder = tempfile::tempdir().unwrap();
    let entries = filled(folder.path(), 3);
    let path = folder.path().join(INDEX);
    let whole = fs::read(&path).unwrap();
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).unwrap();
        let (spool, recovery) = Spool::open(folder.path(), NONE).expect("it opens");
        assert_eq!((spool.size().0, recovery.torn.len()), (3, 0), "cut at {cut}");
        assert!(recovery.found > 0);
        assert_eq!(listed(folder.path()), entries, "cut at {cut}");
        drop(spool);
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
    // Other damage: the reader builds the list itself.
    fs::write(&path, vec![b'x'; 300]).unwrap();
    fs::write(&path, "+ 0 x\n- 1\n\n").unwrap();
    assert_eq!(listed(folder.path()), entries);
    fs::remove_file(&path).unwrap();
    assert!(matches!(Catalog::read(folder.path()), Err(SpoolError::NotASpool(_))));
}

#[test]
fn changed_bytes_of_a_recent_file_are_detected() {
    let folder = tempfile::tempdir().unwrap();
    let entries = filled(folder.path(), 2);
    let path = folder.path().join(entries[1].path());
    let (whole, index) = (fs::read(&path).unwrap(), fs::read(folder.path().join(INDEX)).unwrap());
    for at in (0..whole.len()).step_by(7) {
        let mut changed = whole.clone();
        changed[at] ^= 0x40;
        fs::write(&path, &changed).unwrap();
        fs::write(folder.path().join(INDEX), &index).unwrap();
        let (_, recovery) = Spool::open(folder.path(), NONE).expect("it opens");
        assert_eq!(recovery.torn.len(), 1, "byte {at}");
        fs::remove_file(&recovery.torn[0].0).unwrap();
    }
}

#[test]
fn the_oldest_profiles_are_removed_when_the_spool_is_too_large_or_they_are_too_old() {
    let folder = tempfile::tempdir().unwrap();
    let entries = filled(folder.path(), 6);
    let (mut spool, _) = Spool::open(folder.path(), NONE).expect("it opens");
    let (_, bytes) = spool.size();
    let now = entries[5].end();
    assert_eq!(spool.retain(now), 0);
    spool.set_limits(Limits { bytes: bytes / 2, age: Duration::ZERO });
    assert_eq!((spool.retain(now), spool.size().0), (3, 3));
    spool.set_limits(Limits { bytes: 0, age: Duration::from_secs(60) });
    assert_eq!((spool.retain(now), spool.size().0), (1, 2));
    assert_eq!(listed(folder.path()), entries[4..]);
    assert_eq!((spool.retain(now + 10 * MINUTE), spool.size()), (2, (0, 0)));
    assert!(!folder.path().join("web").exists(), "empty directories are removed");
}

#[test]
fn a_profile_is_not_replaced_when_the_clock_is_set_back() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 1);
    let (mut spool, _) = Spool::open(folder.path(), NONE).expect("it opens");
    let (_, second) = spool.add(entry(0), &profile("later")).expect("written");
    assert!(second.to_string_lossy().contains("T012000.001Z"), "{second:?}");
    assert_eq!(listed(folder.path()).len(), 2);
}

#[test]
fn a_spool_has_one_writer_and_is_not_made_of_another_directory() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Spool::open(folder.path(), NONE);
    let first = open().expect("a new spool");
    assert!(matches!(open(), Err(SpoolError::InUse(_))));
    drop(first);
    open().expect("the first writer is gone");
    let other = tempfile::tempdir().unwrap();
    fs::write(other.path().join("mine"), "x").unwrap();
    assert!(matches!(Spool::open(other.path(), NONE), Err(SpoolError::NotEmpty(_))));
}

#[test]
fn windows_are_merged_by_service_kind_and_time() {
    let folder = tempfile::tempdir().unwrap();
    let entries = filled(folder.path(), 5);
    fs::write(folder.path().join(entries[3].path()), "torn").unwrap();
    let catalog = Catalog::read(folder.path()).expect("a spool");
    let query = Query {
        service: Some("web".into()),
        kind: Some("cpu".into()),
        since: Some(entries[1].start),
        until: Some(entries[4].start),
    };
    let (merged, damaged) = catalog.merge(&query).expect("two of three");
    assert_eq!((merged.sample_count(), damaged.len()), (2, 1));
    assert_eq!(merged.header.duration_ns, 120_000_000_000);
    let series = catalog.series(&Query::default());
    assert_eq!((series.len(), series[0].count, series[0].last), (1, 5, entries[4].end()));
    let totals: Vec<(i64, &str)> = catalog.totals(&query).map(|(_, total, unit)| (total, unit)).collect();
    assert_eq!(totals, [(10, "nanoseconds"); 3]);
    let nothing = catalog.merge(&Query { service: Some("db".into()), ..Query::default() });
    assert!(matches!(nothing, Err(SpoolError::NothingMatches(_))));
}

#[test]
fn a_query_is_parsed_with_durations_and_times() {
    let now = entry(0).start;
    let parsed = Query::parse("since=1h&until=2026-11-30T01:00&service=web&kind=cpu", now);
    let query = Query {
        service: Some("web".into()),
        kind: Some("cpu".into()),
        since: Some(now - 60 * MINUTE),
        until: Some(now - 20 * MINUTE),
    };
    assert_eq!(parsed, Ok(query));
    assert_eq!(Query::parse("", now), Ok(Query::default()));
    for wrong in ["since=soon", "until=2026-13-01", "what=1", "service"] {
        assert!(Query::parse(wrong, now).is_err(), "{wrong}");
    }
}
