//! `/ui/` of `rprof serve`: captures are shown, and nobody gets more by it than from `/debug/pprof/`.

use std::{fs, io::Write, net::TcpStream, path::Path, process::Command};

use serde_json::Value;

use crate::{
    harness::{Fixture, Skip, Stacks, Target, alone, is_root, skip, wait_until},
    serve::{Answer, Server},
    web::browser_tests,
};

/// Captures, and gives the profile's number.
#[track_caller]
fn capture(server: &Server, query: &str) -> u64 {
    let answer = post(server, query);
    assert_eq!(answer.status, 200, "{query}: {}", answer.text());
    json(&answer)["number"].as_u64().expect("a number")
}

/// Captures a CPU profile in which the process, busy as it is, was seen to run: on a machine that is busier, the next one.
#[track_caller]
fn capture_busy(server: &Server, pid: &str) -> u64 {
    for _ in 0..20 {
        let number = capture(server, &format!("kind=profile&seconds=1&pid={pid}"));
        let samples = &json(&server.get(&format!("/ui/api/info?in={number}")))["samples"];
        if samples.as_u64().is_some_and(|count| count >= 5) {
            return number;
        }
    }
    panic!("it never runs");
}

fn post(server: &Server, query: &str) -> Answer {
    server.ask("POST", &format!("/ui/capture?{query}"), &[], "")
}

#[track_caller]
fn json(answer: &Answer) -> Value {
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
fn what_is_captured_on_the_page_is_shown_listed_and_given_as_a_file() {
    let _alone = alone();
    let mut target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let server = Server::of(&target);
    let page = server.get("/ui/").text();
    for kind in [
        "profile",
        "wall",
        "offcpu",
        "faults",
        "goroutine",
        "threadcreate",
        "heap",
        "allocs",
        "block",
        "mutex",
    ] {
        assert!(page.contains(&format!("data-kind=\"{kind}\"")), "{kind}: {page}");
    }
    assert!(page.contains("/debug/pprof/trace") && page.contains("ui.perfetto.dev"), "{page}");
    assert!(page.contains("Nothing yet"), "{page}");
    assert!(server.get("/debug/pprof/").text().contains("<a href=\"/ui/\">"));
    assert_eq!(server.get("/ui").status, 307);
    assert_eq!(server.get("/ui/api/info").status, 404, "there is no profile yet");

    let number = capture(&server, "kind=profile&seconds=3");
    let info = json(&server.get(&format!("/ui/api/info?in={number}")));
    let (name, pid) = (info["name"].as_str().expect("a name"), target.pid());
    let clock = name.strip_prefix(&format!("ratio (pid {pid}) profile 3s ")).expect(name);
    assert!(clock.len() == 8 && clock.matches(':').count() == 2, "{name}");
    assert_eq!(info["made_at"], format!("./?pid={pid}"), "there is a way back");
    assert_eq!(info["can_save"], false);

    let kept = server.get(&format!("/ui/download?in={number}"));
    assert!(kept.head.contains(&format!("filename=\"profile{number}.pb.gz\"")), "{}", kept.head);
    let stacks = Stacks::decode(&kept.body).expect("a profile");
    stacks.assert_at_least(30);
    stacks.assert_share("sixty", 60.0, 2.0);
    let flame = json(&server.get(&format!("/ui/api/flame?si=samples&in={number}")));
    let sixty = flame["frames"]["name"].as_array().expect("names").iter().position(|name| name == "sixty");
    let frames = flame["nodes"]["frame"].as_array().expect("nodes");
    // The first node is all, and has no frame.
    let node = (1..frames.len()).find(|at| frames[*at].as_u64() == sixty.map(|sixty| sixty as u64));
    let weight = flame["nodes"]["weight"][node.expect("it is in the picture")].as_f64().expect("a number");
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
    let states: Vec<&str> =
        whole["states"].as_array().expect("states").iter().filter_map(Value::as_str).collect();
    // Seconds of a thread in a state, in the time shown.
    let seconds = |timeline: &Value, thread: &str, state: &str| {
        let rows = timeline["rows"].as_array().expect("rows");
        let row = rows.iter().find(|row| row["name"].as_str().is_some_and(|name| name.starts_with(thread)));
        let at = states.iter().position(|known| *known == state);
        let values = row.zip(at).and_then(|(row, at)| row["values"][at].as_array()).into_iter().flatten();
        values.filter_map(Value::as_f64).sum::<f64>() / 1e9
    };
    // It works 20 ms and sleeps 80 ms, in turn.
    // It works by the clock: for a part of that it may have to wait for a CPU.
    let waits = seconds(&whole, "works", "waits");
    let awake = seconds(&whole, "works", "runs") + seconds(&whole, "works", "ready");
    assert!((1.2..1.7).contains(&waits) && (0.25..0.7).contains(&awake), "{waits} {awake}");
    let part = timeline("&from=500000000&until=1000000000");
    let shorter = seconds(&part, "works", "waits");
    assert!((0.2..0.5).contains(&shorter), "{shorter}");
    assert!(
        part["names"].as_array().expect("names").iter().any(|name| name == "clock_nanosleep"),
        "{}",
        part["names"]
    );
    assert!(server.get("/ui/").text().contains(&format!("<a href=\"timeline?in={number}\">trace 2s</a>")));
    target.assert_unhurt();
}

#[test]
fn a_capture_on_the_page_is_refused_as_those_of_debug_pprof_are() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let server = Server::of(&target);
    for (query, status, words) in [
        ("kind=heap", 501, "keeps no such account"),
        ("kind=profile&seconds=301", 400, "at most 300 seconds"),
        ("kind=goroutine&seconds=x", 400, "positive integer"),
        ("kind=goroutine&debug=2", 400, "nothing that these pages show"),
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
    let asked =
        |method: &str, header: &str| server.ask(method, "/ui/capture?kind=goroutine", &[header], "").status;
    assert_eq!(asked("GET", "Accept: */*"), 405, "a link captures nothing");
    assert_eq!(asked("HEAD", "Accept: */*"), 405);
    assert_eq!(asked("POST", "Origin: http://evil.example"), 403);
    assert_eq!(asked("POST", "Origin: null"), 403);
    assert_eq!(asked("POST", "Sec-Fetch-Site: cross-site"), 403);
    assert_eq!(asked("POST", "Host: evil.example"), 403);
    assert_eq!(server.ask("POST", "/ui/saveconfig?config=x&f=y", &[], "").status, 400, "nothing is written");
    let gone = server.get("/ui/?pid=1");
    assert!(gone.status == 404 && gone.text().contains("is not served"), "{}", gone.text());
    assert!(server.get("/ui/").text().contains("Nothing yet"), "none of these left anything");
}

#[test]
fn who_hangs_up_ends_his_capture_on_the_page_too() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let server = Server::of(&target);
    let mut first = TcpStream::connect(&server.address).expect("it listens");
    let question = format!(
        "POST /ui/capture?kind=profile&seconds=120 HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
        server.address
    );
    first.write_all(question.as_bytes()).expect("sent");
    assert!(wait_until(10, || post(&server, "kind=profile&seconds=1").status == 409), "the first is at work");
    assert_eq!(server.get("/debug/pprof/profile?seconds=1").status, 409, "for those who ask elsewhere too");
    drop(first);
    let mut number = 0;
    assert!(
        wait_until(10, || {
            let answer = post(&server, "kind=profile&seconds=1");
            number = serde_json::from_slice::<Value>(&answer.body)
                .map_or(0, |made| made["number"].as_u64().unwrap_or(0));
            answer.status == 200
        }),
        "his capture has ended"
    );
    let page = server.get("/ui/").text();
    assert!(page.contains(&format!("in={number}\">profile 1s")) && !page.contains("profile 120s"), "{page}");
}

#[test]
fn the_last_thirty_are_kept_and_of_older_ones_it_is_said_that_they_are_gone() {
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
    assert_eq!(page.matches("href=\"flamegraph?in=").count(), 30);
    let info = json(&server.get("/ui/api/info"));
    assert_eq!(info["number"], last, "the newest is shown where none is named");
    assert_eq!(info["profiles"].as_array().map(Vec::len), Some(30));
}

#[test]
fn source_files_are_shown_only_from_folders_that_were_given() {
    let _alone = alone();
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/programs");
    let ratio = Target::start(&Fixture::c(&["ratio.c"]).build());
    let liar = Target::start(&Fixture::c(&["liar.c"]).build());
    let pids = [ratio.pid().to_string(), liar.pid().to_string()];
    let users = fs::read_to_string("/etc/passwd").expect("every machine has it");
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
        assert!(lies.to_string().contains("/etc/passwd"), "it says so: {lies}");
        assert!(lies.to_string().contains("--source-path") && !lies.to_string().contains(users), "{lies}");
    }
}

#[test]
fn arguments_that_are_kept_back_are_not_on_the_page_either() {
    let _alone = alone();
    let target = Target::start_with(&Fixture::c(&["ratio.c"]).build(), &["password=<b>hunter2</b>"]);
    let pid = target.pid().to_string();
    let page = Server::start(&["--pid", &pid]).get("/ui/").text();
    assert!(page.contains("password=&lt;b&gt;hunter2&lt;/b&gt;") && !page.contains("<b>"), "{page}");
    let page = Server::start(&["--pid", &pid, "--redact-cmdline"]).get("/ui/").text();
    assert!(page.contains("ratio") && !page.contains("hunter2"), "{page}");
}

#[test]
fn a_browser_captures_shows_and_compares() {
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
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
}
