//! Scrapers of profiles against `rprof serve`: the requests that they send, byte for byte as
//! recorded, and the checks that they apply to responses.
//!
//! Recorded from Parca (after 0.28.0) and from `discovery.http` and `pyroscope.scrape` of Grafana
//! Alloy (after 1.18.0), which sent the profiles to Pyroscope (after 2.2.0). Not here: these
//! programs.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use rprof::profile::Profile;

use crate::{
    go::Truthful,
    harness::{Fixture, Skip, Target, alone, installed, skip, wait_until},
    serve::{Response, Server, sample_type},
};

/// The headers of each scraper.
const PARCA: &str = "User-Agent: conprof/\r\n";
const ALLOY: &str = "User-Agent: Alloy/v1.18.0 (linux; binary)\r\n";
const DISCOVERY: &str = "User-Agent: Prometheus/v0.0.0\r\nAccept: application/json\r\n\
                         X-Prometheus-Refresh-Interval-Seconds: 60\r\n";

/// A scraper's persistent connection to one target.
struct Scraper {
    stream: TcpStream,
    address: String,
    headers: &'static str,
}

impl Scraper {
    fn connect(address: &str, headers: &'static str) -> Scraper {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
        Scraper { stream, address: address.to_owned(), headers }
    }

    fn get(&mut self, path: &str) -> Response {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{}\r\n", self.address, self.headers);
        self.stream.write_all(request.as_bytes()).expect("the connection is kept");
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).expect("an answer");
            bytes.push(byte[0]);
        }
        let head = Response::parse(&bytes).head;
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.expect("a content-length").parse().expect("a number")];
        self.stream.read_exact(&mut body).expect("all of it");
        bytes.extend(body);
        Response::parse(&bytes)
    }
}

/// The path that a scraper builds from the labels of a discovered target for a kind of profile.
fn path(labels: &BTreeMap<String, String>, kind: &str, seconds: &str) -> String {
    format!("/debug/pprof/{kind}?pid={}{seconds}", labels["__param_pid"])
}

/// The targets that Prometheus's HTTP service discovery finds: addresses and labels.
fn discovered(server: &Server) -> Vec<(String, BTreeMap<String, String>)> {
    let answer = Scraper::connect(&server.address, DISCOVERY).get("/sd");
    assert!(answer.status == 200 && answer.head.contains("content-type: application/json\r\n"), "{answer:?}");
    let groups: Vec<serde_json::Value> = serde_json::from_slice(&answer.body).expect("a list");
    let group = |group: &serde_json::Value| {
        let address = group["targets"][0].as_str().expect("an address").to_owned();
        (address, serde_json::from_value(group["labels"].clone()).expect("labels are text"))
    };
    groups.iter().map(group).collect()
}

/// The checks of Parca and Pyroscope, in addition to a valid profile.
#[track_caller]
fn accepted(answer: &Response) -> Profile {
    let profile = answer.profile();
    assert!(answer.head.contains("content-type: application/octet-stream\r\n"), "{}", answer.head);
    assert!(!answer.head.contains("content-encoding"), "the profile is gzip, the answer is not");
    assert!(answer.body.starts_with(&[0x1f, 0x8b]));
    assert_eq!(profile.string_table[0], "");
    for ids in [
        profile.mapping.iter().map(|mapping| mapping.id).collect::<Vec<_>>(),
        profile.function.iter().map(|function| function.id).collect(),
        profile.location.iter().map(|location| location.id).collect(),
    ] {
        assert!(ids.iter().zip(1..).all(|(id, place)| *id == place), "consecutive from 1: {ids:?}");
    }
    let names =
        profile.sample_type.iter().chain(&profile.period_type).map(|name| profile.string(name.r#type));
    assert!(
        names.clone().all(|name| !name.is_empty() && !name.contains('-')),
        "{:?}",
        names.collect::<Vec<_>>()
    );
    assert!(profile.period_type.is_some() && profile.period > 0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_nanos() as i64;
    assert!((now - profile.time_nanos).abs() < 600_000_000_000, "it is recent: {}", profile.time_nanos);
    assert!(profile.sample.iter().flat_map(|sample| &sample.value).all(|value| *value >= 0));
    profile
}

fn types(profile: &Profile) -> Vec<String> {
    let name = |of: &rprof::profile::proto::ValueType| {
        format!("{}/{}", profile.string(of.r#type), profile.string(of.unit))
    };
    profile.sample_type.iter().chain(&profile.period_type).map(name).collect()
}

/// Scrapes one process repeatedly, as a scraper does: timed kinds on their own connections, instant
/// kinds beside them.
fn scrape_twice(address: &str, labels: &BTreeMap<String, String>, headers: &'static str) {
    thread::scope(|scope| {
        for (kind, of) in [
            ("profile", ["samples/count", "cpu/nanoseconds", "cpu/nanoseconds"]),
            ("offcpu", ["waits/count", "offcpu/nanoseconds", "offcpu/nanoseconds"]),
        ] {
            scope.spawn(move || {
                let mut scraper = Scraper::connect(address, headers);
                for _ in 0..2 {
                    let profile = accepted(&scraper.get(&path(labels, kind, "&seconds=2")));
                    assert_eq!(types(&profile), of);
                    assert!((1_900_000_000..30_000_000_000).contains(&profile.duration_nanos));
                    assert!(kind == "offcpu" || !profile.sample.is_empty(), "it is busy");
                }
            });
        }
        let mut scraper = Scraper::connect(address, headers);
        for _ in 0..2 {
            let profile = accepted(&scraper.get(&path(labels, "goroutine", "")));
            assert_eq!(types(&profile), ["threads/count", "threads/count"]);
            assert_eq!(profile.duration_nanos, 0, "instant: Parca sums up profiles that have a duration");
            let refused = scraper.get(&path(labels, "allocs", ""));
            assert_eq!(refused.status, 501);
            assert!(refused.text().contains("need a Go program"), "scrapers log the reason");
            for kind in ["block", "mutex"] {
                let profile = accepted(&scraper.get(&path(labels, kind, "&seconds=1")));
                assert_eq!(types(&profile), ["contentions/count", "delay/nanoseconds", "delay/nanoseconds"]);
                assert!(profile.duration_nanos >= 900_000_000, "{kind} is sampled, not read");
            }
        }
    });
}

#[test]
fn scrapers_discover_processes_and_accept_their_profiles() {
    let _alone = alone();
    let program = Fixture::c(&["ratio.c"]).build();
    let (one, two) = (Target::start(&program), Target::start(&program));
    let pids = [one.pid().to_string(), two.pid().to_string()];
    // Of a C program, block and mutex are captures that take as long as the others.
    let server = Server::start(&["--pid", &pids[0], "--pid", &pids[1], "--max-captures", "8"]);
    let found = discovered(&server);
    assert_eq!(found.len(), 2);
    for (address, labels) in &found {
        assert_eq!((address, &labels["pid"]), (&server.address, &labels["__param_pid"]));
        assert!(pids.contains(&labels["pid"]) && labels["service_name"].starts_with("ratio"), "{labels:?}");
        assert_eq!((labels["__meta_rprof_go"].as_str(), labels["__scheme__"].as_str()), ("false", "http"));
    }
    thread::scope(|scope| {
        for ((address, labels), headers) in found.iter().zip([PARCA, ALLOY]) {
            scope.spawn(move || scrape_twice(address, labels, headers));
        }
    });
    drop(one);
    assert!(wait_until(10, || discovered(&server).len() == 1), "only the other one is left");
}

#[test]
fn scrapers_accept_the_profiles_of_the_go_runtime() {
    let _alone = alone();
    let Some(go) = installed("go") else { return skip(Skip::NotInstalled("go")) };
    let program = Truthful::start(&Fixture::go_with(&["gotruth.go", "gotruth_plain.go"], &go).build());
    let server = Server::start(&["--pid", &program.child.id().to_string()]);
    let found = discovered(&server);
    assert_eq!(found[0].1["__meta_rprof_go"], "true");
    let memory = [
        "alloc_objects/count",
        "alloc_space/bytes",
        "inuse_objects/count",
        "inuse_space/bytes",
        "space/bytes",
    ];
    let waits = ["contentions/count", "delay/nanoseconds", "contentions/count"];
    let mut scraper = Scraper::connect(&server.address, ALLOY);
    for (kind, of) in [
        ("allocs", &memory[..]),
        ("block", &waits),
        ("mutex", &waits),
        ("goroutine", &["goroutine/count", "goroutine/count"]),
    ] {
        // Twice: Alloy forwards the difference to the previous profile.
        for _ in 0..2 {
            let profile = accepted(&scraper.get(&path(&found[0].1, kind, "")));
            assert_eq!(types(&profile), of, "{kind}");
            assert_eq!(profile.duration_nanos, 0, "{kind}");
            assert!(!profile.sample.is_empty(), "{kind}");
        }
    }
    let changed = scraper.get(&path(&found[0].1, "allocs", "&seconds=1")).profile();
    assert!((900_000_000..30_000_000_000).contains(&changed.duration_nanos), "{}", changed.duration_nanos);
}

/// Parca with `params` in its configuration sends the `seconds` of the CPU profile with all kinds.
#[test]
fn sleeping_threads_are_not_a_change() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["sleeper.c"]).build());
    let server = Server::of(&target);
    let mut scraper = Scraper::connect(&server.address, PARCA);
    let profile = scraper.get("/debug/pprof/goroutine?seconds=1").profile();
    assert_eq!(sample_type(&profile), "threads");
    assert!(profile.sample.iter().all(|sample| sample.value[0] == 0), "{:?}", profile.sample);
    assert!((900_000_000..30_000_000_000).contains(&profile.duration_nanos), "{}", profile.duration_nanos);
}

#[test]
fn an_instant_profile_does_not_wait_for_a_timed_one() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let pid = target.pid().to_string();
    let server = Server::start(&["--pid", &pid, "--max-captures", "1"]);
    let ask = || {
        let stream = TcpStream::connect(&server.address).expect("it listens");
        let request =
            format!("GET /debug/pprof/profile?seconds=120 HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
        (&stream).write_all(request.as_bytes()).expect("sent");
        stream
    };
    let mut lasting = ask();
    let is_full = || {
        let is_full = server.get("/debug/pprof/wall?seconds=1").status == 503;
        if !is_full {
            // The probe took the slot, so the long capture was refused.
            lasting = ask();
        }
        is_full
    };
    assert!(wait_until(30, is_full), "the long capture runs");
    let began = Instant::now();
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| accepted(&Scraper::connect(&server.address, ALLOY).get("/debug/pprof/goroutine")));
        }
    });
    assert!(began.elapsed() < Duration::from_secs(60), "they did not wait for it");
    drop(lasting);
}
