//! `--kind trace`: what each thread did when, in Perfetto's format.

use std::collections::BTreeMap;

use prost::Message;

use crate::{
    harness::{Fixture, Rprof, Skip, Stack, Target, alone, is_root, skip},
    rights::{ordinary_user, readable_by_all},
};

/// What is read of a trace: the fields and numbers of perfetto.protos (trace_packet.proto and its
/// kin).
#[derive(Clone, PartialEq, Message)]
struct Trace {
    #[prost(message, repeated, tag = "1")]
    packet: Vec<Packet>,
}

#[derive(Clone, PartialEq, Message)]
struct Packet {
    #[prost(uint64, tag = "8")]
    timestamp: u64,
    #[prost(message, optional, tag = "11")]
    track_event: Option<Event>,
    #[prost(message, optional, tag = "12")]
    interned_data: Option<Interned>,
    #[prost(message, optional, tag = "60")]
    track_descriptor: Option<Track>,
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(int32, tag = "9")]
    kind: i32,
    #[prost(uint64, tag = "10")]
    name_iid: u64,
    #[prost(uint64, tag = "11")]
    track_uuid: u64,
}

#[derive(Clone, PartialEq, Message)]
struct Interned {
    #[prost(message, repeated, tag = "2")]
    event_names: Vec<Name>,
}

#[derive(Clone, PartialEq, Message)]
struct Name {
    #[prost(uint64, tag = "1")]
    iid: u64,
    #[prost(string, tag = "2")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Track {
    #[prost(uint64, tag = "1")]
    uuid: u64,
    #[prost(message, optional, tag = "4")]
    thread: Option<Thread>,
}

#[derive(Clone, PartialEq, Message)]
struct Thread {
    #[prost(string, tag = "5")]
    thread_name: String,
}

/// By thread and name of slice: how many slices, and their seconds. Slices of a track follow each
/// other.
fn slices(trace: &Trace) -> BTreeMap<(String, String), (usize, f64)> {
    let (mut names, mut tracks, mut open) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    let mut found: BTreeMap<_, (usize, f64)> = BTreeMap::new();
    for packet in &trace.packet {
        names
            .extend(packet.interned_data.iter().flat_map(|data| &data.event_names).map(|n| (n.iid, &n.name)));
        if let Some(Track { uuid, thread: Some(thread) }) = &packet.track_descriptor {
            tracks.insert(*uuid, &thread.thread_name);
        }
        match packet.track_event.as_ref().map(|event| (event.kind, event)) {
            Some((1, begin)) => {
                let before = open.insert(begin.track_uuid, (packet.timestamp, names[&begin.name_iid]));
                assert!(before.is_none(), "two at once: {before:?}");
            }
            Some((2, end)) => {
                let (since, name) = open.remove(&end.track_uuid).expect("begun");
                let slice = found.entry((tracks[&end.track_uuid].clone(), name.clone())).or_default();
                slice.0 += 1;
                slice.1 += (packet.timestamp - since) as f64 / 1e9;
            }
            _ => {}
        }
    }
    assert!(open.is_empty(), "not ended: {open:?}");
    found
}

#[test]
fn a_thread_that_works_20_ms_and_sleeps_80_ms_is_seen_to_do_so() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["sleeps.c"]).build());
    let folder = crate::harness::open_folder();
    let file = folder.path().join("x.pftrace");
    let rprof = Rprof::verb("attach").args(&["--pid", &target.pid().to_string(), "--kind", "trace"]);
    let outcome = rprof.args(&["-d", "3s", "-o", file.to_str().expect("UTF-8")]).run();
    assert_eq!(outcome.code, Some(0), "{}", outcome.stderr);
    assert!(
        outcome.stderr.contains("clock_nanosleep") && outcome.stderr.contains("works"),
        "{}",
        outcome.stderr
    );
    let bytes = std::fs::read(&file).expect("written");
    let found = slices(&Trace::decode(&bytes[..]).expect("protobuf"));
    let of = |thread: &str, name: &str| {
        found.get(&(thread.to_owned(), name.to_owned())).copied().unwrap_or_default()
    };
    // 30 rounds of 100 ms, somewhat longer on a busy machine.
    let (sleeps, seconds) = of("works", "clock_nanosleep");
    assert!((24..=31).contains(&sleeps) && (1.9..2.5).contains(&seconds), "{sleeps} {seconds} {found:?}");
    // It works for 20 ms by the clock, not all of them on a CPU where others want it too.
    let awake: f64 = ["runs", "ready (preempted)"].iter().map(|name| of("works", name).1).sum();
    assert!((0.4..0.9).contains(&awake), "{awake} {found:?}");
    assert!(of("shorts", "clock_nanosleep").0 > 1000, "{found:?}");
    target.assert_unhurt();
}

#[test]
fn as_a_profile_a_trace_adds_up_to_all_of_each_threads_time() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["sleeps.c"]).build());
    let rprof = Rprof::attach(&target).args(&["--kind", "trace"]).seconds(2);
    let profile = rprof.profile();
    let works = |state: &str| -> f64 {
        let seen =
            |stack: &&Stack| stack.label("thread") == Some("works") && stack.label("state") == Some(state);
        profile.stacks.iter().filter(seen).map(|stack| stack.cpu_ns as f64 / 1e9).sum()
    };
    let all = works("runs") + works("ready") + works("waits");
    // What it did before its first moment is not all known.
    let seconds = profile.profile.duration_nanos as f64 / 1e9;
    assert!((seconds - 0.15..seconds + 0.01).contains(&all), "{all} of {seconds} s; {}", profile.summary());
    let waits = works("waits") / seconds;
    assert!((0.6..0.85).contains(&waits), "{waits}; {}", profile.summary());
    assert!(profile.share_of("clock_nanosleep") > 1.0, "{}", profile.summary());
    target.assert_unhurt();
}

#[test]
fn without_the_rights_a_trace_is_refused_with_what_to_do() {
    let _alone = alone();
    let program = readable_by_all(&Fixture::c(&["sleeps.c"]).build());
    let target = Target::start_as(ordinary_user(), &program.path, &[]);
    let rprof = Rprof::attach(&target).run_by(ordinary_user()).args(&["--kind", "trace"]);
    rprof.seconds(1).run().assert_refused(1, &["BPF is not permitted", "a trace needs BPF", "doctor"]);
}
