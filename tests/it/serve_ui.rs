//! `/ui/` of `rprof serve`: captured profiles are shown, under the same access control as
//! `/debug/pprof/`.

use std::{fs, io::Write, net::TcpStream, path::Path, process::Command};

use serde_json::Value;

use crate::{
    harness::{Fixture, Skip, Stacks, Target, alone, is_root, skip, wait_until},
    serve::{Response, Server},
    web::browser_tests,
};

/// Captures a profile and returns its number.
#[track_caller]
fn capture(server: &Server, query: &str) -> u64 {
    let answer = post(server, query);
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    json(&answer)["number"].as_u64().expect("a number")
}

/// Captures a CPU profile with samples; repeats on a machine that is too busy to run the process.
#[track_caller]
fn capture_busy(server: &Server, pid: &str) -> u64 {
    for _ in 0..20 {
        let number = capture(server, &format!("kind=profile&seconds=1&pid={pid}"));
        let samples = &json(&server.get(&format!("/ui/api/info?in={number}")))["samples"];
        if samples.as_u64().is_some_and(|count| count >= 5) {
            return number;
        }
    }
    panic!("the process never runs");
}

fn post(server: &Server, query: &str) -> Response {
    server.ask("POST", &format!("/ui/capture?{query}"), &[], "")
}

#[track_caller]
fn json(answer: &Response) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.text()))
}

/// A report of a captured profile, on one function.
#[track_caller]
fn report(server: &Server, number: u64, report: &str, function: &str) -> Value {
    let answer = server.get(&format!("/ui/api/report?report={report}&re={function}&in={number}"));
    assert_eq!(answer.status, 200, "{report}: {}", answer.text());
    json(&answer)["functions"][0].clone()
}

#[test]
fn a_captured_profile_is_shown_listed_and_downloadable() {
    let _alone = alone();
    let mut target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let server = Server::of(&target);
    let page = server.get("/ui/").text();
    let has = |page: &str, kind: &str| page.contains(&format!("data-kind=\"{kind}\""));
    for kind in [
        "profile",
        "wall",
        "offcpu",
        "faults",
        "goroutine",
        "threadcreate",
        "heap",
        "trace",
        "block",
        "mutex",
    ] {
        assert!(has(&page, kind), "{kind}: {page}");
    }
    assert!(!has(&page, "allocs"), "a C program has no allocs profile: {page}");
    assert!(!server.get("/debug/pprof/").text().contains("<a href=\"allocs?debug=1\">"));
    assert!(page.contains("/debug/pprof/trace") && page.contains("ui.perfetto.dev"), "{page}");
    assert!(page.contains("No profiles yet"), "{page}");
    assert!(server.get("/debug/pprof/").text().contains("<a href=\"/ui/\">"));
    assert_eq!(server.get("/ui").status, 307);
    assert_eq!(server.get("/ui/api/info").status, 404, "no profile has been captured");

    let number = capture(&server, "kind=profile&seconds=3");
    let info = json(&server.get(&format!("/ui/api/info?in={number}")));
    let (name, pid) = (info["name"].as_str().expect("a name"), target.pid());
    let clock = name.strip_prefix(&format!("ratio (pid {pid}) profile 3s ")).expect(name);
    assert!(clock.len() == 8 && clock.matches(':').count() == 2, "{name}");
    assert_eq!(info["made_at"], format!("./?pid={pid}"), "the page that captured it");
    assert_eq!(info["can_save"], false);

    let kept = server.get(&format!("/ui/download?in={number}"));
    assert!(kept.head.contains(&format!("filename=\"profile{number}.pb.gz\"")), "{}", kept.head);
    let stacks = Stacks::decode(&kept.body).expect("a profile");
    stacks.assert_at_least(30);
    stacks.assert_share("sixty", 60.0, 2.0);
    let flame = json(&server.get(&format!("/ui/api/flame?si=samples&in={number}")));
    let sixty = flame["frames"]["name"].as_array().expect("names").iter().position(|name| name == "sixty");
    let frames = flame["nodes"]["frame"].as_array().expect("nodes");
    // The first node is the root, which has no frame.
    let node = (1..frames.len()).find(|at| frames[*at].as_u64() == sixty.map(|sixty| sixty as u64));
    let weight =
        flame["nodes"]["weight"][node.expect("it is in the flame graph")].as_f64().expect("a number");
    let share = 100.0 * weight / flame["total"].as_f64().expect("a total");
    assert!((share - stacks.share_of("sixty")).abs() < 0.01, "{share}");

    let page = server.get("/ui/").text();
    assert!(page.contains(&format!("<a href=\"flamegraph?in={number}\">profile 3s</a>")), "{page}");
    target.assert_unhurt();
}

#[test]
fn a_trace_is_shown_as_a_timeline_of_each_thread() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let mut target = Target::start(&Fixture::c(&["sleeps.c"]).build());
    let server = Server::of(&target);
    let number = capture(&server, "kind=trace&seconds=2");
    let timeline = |more: &str| json(&server.get(&format!("/ui/api/timeline?in={number}{more}")));
    let whole = timeline("");
    // The seconds of a thread in a state, within the visible range. Each response numbers its states anew.
    let seconds = |timeline: &Value, thread: &str, state: &str| {
        let states = timeline["states"].as_array().expect("states");
        let rows = timeline["rows"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["name"].as_str().is_some_and(|name| name.starts_with(thread)));
        let at = states.iter().position(|known| known == state);
        let values = row.zip(at).and_then(|(row, at)| row["values"][at].as_array()).into_iter().flatten();
        values.filter_map(Value::as_f64).sum::<f64>() / 1e9
    };
    // It works 20 ms by the clock and sleeps 80 ms, alternately: on a busy machine it is ready for a part
    // of the 20 ms, or longer, but never runs for longer.
    let of_works =
        |timeline: &Value| ["runs", "ready", "waits"].map(|state| seconds(timeline, "works", state));
    let length = |timeline: &Value| {
        (timeline["until_ns"].as_f64().expect("until") - timeline["from_ns"].as_f64().expect("from")) / 1e9
    };
    let assert_proportions = |timeline: &Value| {
        let (all, [runs, ready, waits]) = (length(timeline), of_works(timeline));
        let said = format!("runs {runs}, ready {ready}, waits {waits} of {all} s");
        let known = (runs + ready + waits) / all;
        assert!((0.95..1.001).contains(&known), "a thread is always in one state: {said}");
        assert!(waits > 2.0 * runs && runs + ready > 0.12 * all, "{said}");
    };
    assert_proportions(&whole);
    let part = timeline("&from=500000000&until=1000000000");
    assert!((length(&part) - 0.5).abs() < 0.001, "{}", length(&part));
    assert_proportions(&part);
    assert!(
        part["names"].as_array().expect("names").iter().any(|name| name == "clock_nanosleep"),
        "{}",
        part["names"]
    );
    assert!(server.get("/ui/").text().contains(&format!("<a href=\"timeline?in={number}\">trace 2s</a>")));
    target.assert_unhurt();
}

#[test]
fn a_capture_on_the_page_is_refused_for_the_same_reasons_as_on_debug_pprof() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let server = Server::of(&target);
    for (query, status, words) in [
        ("kind=allocs", 501, "need a go program"),
        ("kind=profile&seconds=301", 400, "must be at most 300 seconds"),
        ("kind=goroutine&seconds=x", 400, "positive integer"),
        ("kind=goroutine&debug=2", 400, "these pages cannot show text"),
        ("kind=nonsense", 404, "unknown profile"),
        ("kind=profile&seconds=1&pid=1", 404, "process 1 is not served"),
    ] {
        let answer = post(&server, query);
        assert!(
            answer.status == status && answer.text().to_lowercase().contains(words),
            "{query}: {} {}",
            answer.status,
            answer.text()
        );
    }
    let status =
        |method: &str, header: &str| server.ask(method, "/ui/capture?kind=goroutine", &[header], "").status;
    assert_eq!(status("GET", "Accept: */*"), 405, "a link cannot capture");
    assert_eq!(status("HEAD", "Accept: */*"), 405);
    assert_eq!(status("POST", "Origin: http://evil.example"), 403);
    assert_eq!(status("POST", "Origin: null"), 403);
    assert_eq!(status("POST", "Sec-Fetch-Site: cross-site"), 403);
    assert_eq!(status("POST", "Host: evil.example"), 403);
    assert_eq!(server.ask("POST", "/ui/saveconfig?config=x&f=y", &[], "").status, 400, "nothing is written");
    let gone = server.get("/ui/?pid=1");
    assert!(gone.status == 404 && gone.text().contains("is not served"), "{}", gone.text());
    assert!(server.get("/ui/").text().contains("No profiles yet"), "none of these stored a profile");
}

#[test]
fn closing_the_connection_cancels_a_capture_on_the_page() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let server = Server::of(&target);
    let mut first = TcpStream::connect(&server.address).expect("it listens");
    let request = format!(
        "POST /ui/capture?kind=profile&seconds=120 HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
        server.address
    );
    first.write_all(request.as_bytes()).expect("sent");
    assert!(
        wait_until(10, || post(&server, "kind=profile&seconds=1").status == 409),
        "the first capture runs"
    );
    assert_eq!(
        server.get("/debug/pprof/profile?seconds=1").status,
        409,
        "the slot is shared with /debug/pprof/"
    );
    drop(first);
    let mut number = 0;
    assert!(
        wait_until(10, || {
            let answer = post(&server, "kind=profile&seconds=1");
            number = serde_json::from_slice::<Value>(&answer.body)
                .map_or(0, |stored| stored["number"].as_u64().unwrap_or(0));
            answer.status == 200
        }),
        "the first capture has ended"
    );
    let page = server.get("/ui/").text();
    assert!(page.contains(&format!("in={number}\">profile 1s")) && !page.contains("profile 120s"), "{page}");
}

#[test]
fn the_last_thirty_profiles_are_kept_and_older_ones_are_reported_as_gone() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let server = Server::of(&target);
    let first = capture(&server, "kind=goroutine");
    for _ in 1..30 {
        capture(&server, "kind=goroutine");
    }
    assert_eq!(server.get(&format!("/ui/flamegraph?in={first}")).status, 200);
    let last = capture(&server, "kind=goroutine");
    assert_eq!(last, first + 30);
    assert_eq!(server.get(&format!("/ui/flamegraph?in={first}")).status, 404);
    for path in ["api/info?", "api/flame?", "download?", "api/report?report=top&", "api/diff?vs=5&"] {
        let answer = server.get(&format!("/ui/{path}in={first}"));
        assert!(
            answer.status == 404 && answer.text().contains("is not kept any more"),
            "{path}: {} {}",
            answer.status,
            answer.text()
        );
    }
    assert_eq!(server.get(&format!("/ui/api/flame?in={}", first + 1)).status, 200);
    let page = server.get("/ui/").text();
    assert_eq!(page.matches("href=\"threads?in=").count(), 30);
    let info = json(&server.get("/ui/api/info"));
    assert_eq!(info["number"], last, "the newest is the default");
    assert_eq!(info["profiles"].as_array().map(Vec::len), Some(30));
}

#[test]
fn source_files_are_shown_only_from_the_given_folders() {
    let _alone = alone();
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/programs");
    let ratio = Target::start(&Fixture::c(&["ratio.c"]).build());
    let liar = Target::start(&Fixture::c(&["liar.c"]).build());
    let pids = [ratio.pid().to_string(), liar.pid().to_string()];
    let users = fs::read_to_string("/etc/passwd").expect("the file exists");
    let users = users.lines().next().expect("a user");
    let folder = programs.to_string_lossy();
    for (arguments, shows) in [(&[][..], false), (&["--source-path", &*folder], true)] {
        let server = Server::start(&[&["--pid", &pids[0], "--pid", &pids[1]], arguments].concat());
        let number = capture_busy(&server, &pids[0]);
        let sixty = report(&server, number, "list", "sixty");
        assert_eq!(sixty.to_string().contains("spin_unit();"), shows, "{sixty}");
        assert_eq!(sixty.to_string().contains("--source-path"), !shows, "{sixty}");
        let code = report(&server, number, "disasm", "sixty");
        assert!(code["instructions"].as_array().is_some_and(|code| code.len() > 3), "{code}");

        let number = capture_busy(&server, &pids[1]);
        let lies = report(&server, number, "list", "lies");
        assert!(lies.to_string().contains("/etc/passwd"), "its debug information names the file: {lies}");
        assert!(lies.to_string().contains("--source-path") && !lies.to_string().contains(users), "{lies}");
    }
}

#[test]
fn arguments_are_on_the_page_only_with_show_arguments() {
    let _alone = alone();
    let target = Target::start_with(&Fixture::c(&["ratio.c"]).build(), &["password=<b>hunter2</b>"]);
    let pid = target.pid().to_string();
    let page = Server::start(&["--pid", &pid, "--show-arguments"]).get("/ui/").text();
    assert!(page.contains("password=&lt;b&gt;hunter2&lt;/b&gt;") && !page.contains("<b>"), "{page}");
    let page = Server::start(&["--pid", &pid]).get("/ui/").text();
    assert!(page.contains("ratio") && !page.contains("hunter2"), "{page}");
}

#[test]
fn a_browser_captures_shows_and_compares_profiles() {
    let folder = match browser_tests() {
        Ok(folder) => folder,
        Err(why) => return skip(why),
    };
    let _alone = alone();
    let program = Fixture::c(&["ratio.c"]).build();
    let (one, two) = (Target::start(&program), Target::start(&program));
    let pids = [one.pid().to_string(), two.pid().to_string()];
    let server = Server::start(&["--pid", &pids[0], "--pid", &pids[1]]);
    let mut command = Command::new("node");
    command.arg(folder.join("capture.mjs")).arg(format!("http://{}", server.address));
    command.args(std::env::var_os("RPROF_SCREENSHOTS")).current_dir(&folder);
    let output = command.output().expect("node runs");
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{stdout}\n{}", String::from_utf8_lossy(&output.stderr));
}
