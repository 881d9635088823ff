//! One file and one row (`capture::kinds::invented`) reach every verb.

use std::{
    fs,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command},
    thread,
    time::{Duration, Instant},
};

use clap::{CommandFactory, Parser};

use super::{
    advice,
    args::{Cli, Verb},
    attach, doctor, dump, pprof, snapshot,
};
use crate::{
    capture::{self, Request, Response, Stop, kinds::KindRow},
    profile::{Profile, decode},
    serve::{self, Access, Door, Limits, Options, Targets},
};

/// A process that ends with the test.
struct Target(Child);

impl Target {
    fn start() -> Target {
        Target(Command::new("sleep").arg("600").spawn().expect("sleep"))
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

fn verb(words: &[&str]) -> Verb {
    Cli::try_parse_from([&["rprof"], words].concat()).expect("a command line").verb
}

fn profile(path: &Path) -> Profile {
    decode(&fs::read(path).expect("written")).expect("a profile")
}

/// The sum of the first values.
fn inventions(profile: &Profile) -> i64 {
    assert_eq!(profile.string(profile.sample_type[0].r#type), "inventions");
    profile.sample.iter().map(|sample| sample.value[0]).sum()
}

#[test]
fn the_help_of_the_verbs_lists_an_invented_kind() {
    let mut command = Cli::command();
    for verb in ["attach", "top"] {
        let help = command.find_subcommand_mut(verb).expect("a verb").render_long_help().to_string();
        assert!(help.contains("- invented:"), "{verb}: {help}");
    }
}

#[test]
fn attach_and_dump_write_an_invented_kind() {
    let (target, folder) = (Target::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("x.pb.gz");
    let path = file.to_str().expect("UTF-8");
    let Verb::Attach(arguments) =
        verb(&["attach", "--pid", &target.pid(), "--kind", "invented", "-q", "-o", path])
    else {
        panic!("another verb")
    };
    attach::run(arguments).expect("attached");
    assert_eq!(inventions(&profile(&file)), 1);
    fs::remove_file(&file).expect("written");
    let Verb::Dump(arguments) = verb(&["dump", "--pid", &target.pid(), "-q", "-o", path]) else {
        panic!("another verb")
    };
    dump::run(&arguments).expect("dumped");
    assert_eq!(inventions(&profile(&file)), 1);
}

#[test]
fn a_snapshot_and_the_doctor_include_an_invented_kind() {
    let (target, folder) = (Target::start(), tempfile::tempdir().expect("a folder"));
    let file = folder.path().join("x.tar.gz");
    let path = file.to_str().expect("UTF-8");
    let Verb::Snapshot(arguments) =
        verb(&["snapshot", "--pid", &target.pid(), "-d", "300ms", "-q", "-o", path])
    else {
        panic!("another verb")
    };
    snapshot::run(&arguments).expect("taken");
    let mut archive =
        tar::Archive::new(flate2::read::GzDecoder::new(fs::File::open(&file).expect("written")));
    let mut found = Vec::new();
    for entry in archive.entries().expect("an archive") {
        let mut entry = entry.expect("an entry");
        let (name, mut bytes) = (entry.path().expect("a path").display().to_string(), Vec::new());
        entry.read_to_end(&mut bytes).expect("readable");
        match name.as_str() {
            "x/invented.pb.gz" => assert!(inventions(&decode(&bytes).expect("a profile")) > 1),
            "x/README.md" => {
                let readme = String::from_utf8(bytes).expect("text");
                assert!(readme.contains("## Inventions\n\nSomething was invented."), "{readme}");
                assert!(readme.contains("`invented.pb.gz`: What a test has invented"), "{readme}");
            }
            _ => continue,
        }
        found.push(name);
    }
    assert_eq!(found, ["x/README.md", "x/invented.pb.gz"]);
    let diagnosis = doctor::diagnose(Some(target.0.id()), false).expect("a process");
    assert!(diagnosis.text.contains("invented: by imagination\n"), "{}", diagnosis.text);
}

/// Ends the server also when the test fails.
struct Ends<'a>(&'a Stop);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.set();
    }
}

/// The response to a request on a Unix socket: the head and the body.
fn request(socket: &Path, method: &str, path: &str) -> (String, Vec<u8>) {
    let mut stream = UnixStream::connect(socket).expect("the server listens");
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
    .expect("sent");
    let mut response = Vec::new();
    stream.read_to_end(&mut response).expect("a response");
    let end = response.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("a head");
    (String::from_utf8_lossy(&response[..end]).into_owned(), response[end + 4..].to_vec())
}

#[test]
fn the_server_and_its_pages_offer_an_invented_kind() {
    let (target, folder) = (Target::start(), tempfile::tempdir().expect("a folder"));
    let socket = folder.path().join("socket");
    let address = format!("unix:{}", socket.display()).parse().expect("an address");
    let options = Options {
        door: Door::new(address, Access::default()),
        targets: Targets::of_pids(&[target.0.id()]).expect("it runs"),
        request: Request::default(),
        limits: Limits::default(),
        show_arguments: false,
        explain: |error| advice::explain(&anyhow::Error::new(error)),
    };
    let (stop, tools) = (Stop::default(), pprof::web::tools_for_others(&[]).expect("tools"));
    thread::scope(|scope| {
        let _ends = Ends(&stop);
        scope.spawn(|| serve::run(options, tools, &stop, |_| {}).expect("served"));
        let began = Instant::now();
        while !socket.exists() && began.elapsed() < Duration::from_secs(60) {
            thread::sleep(Duration::from_millis(5));
        }
        let text = |path| String::from_utf8_lossy(&request(&socket, "GET", path).1).into_owned();
        assert!(text("/debug/pprof/").contains("<a href=\"invention?debug=1\">invention</a>"));
        assert!(text("/ui/").contains("data-kind=\"invention\" data-view=\"flamegraph\""));
        let (head, body) = request(&socket, "GET", "/debug/pprof/invention");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(inventions(&decode(&body).expect("a profile")), 1);
        let (head, body) = request(&socket, "GET", "/debug/pprof/invention?seconds=1");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert!(inventions(&decode(&body).expect("a profile")) > 1);
        let (head, body) = request(&socket, "POST", "/ui/capture?kind=invention");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}: {}", String::from_utf8_lossy(&body));
    });
}

#[test]
fn the_live_view_watches_an_invented_kind() {
    let target = Target::start();
    let Verb::Top(arguments) = verb(&["top", "--pid", &target.pid(), "--kind", "invented"]) else {
        panic!("another verb")
    };
    let kind = arguments.live.kind;
    assert_eq!(Some(kind), KindRow::named("invented"));
    let request = Request {
        pids: vec![target.0.id()],
        kinds: vec![kind],
        duration: None,
        every: Some(Duration::from_millis(50)),
        ..Request::default()
    };
    let mut session = capture::open(&request).expect("opened");
    let mut elapsed = Duration::ZERO;
    for _ in 0..2 {
        let window = session.next_window(&mut |_| {}).expect("a window");
        let Ok(Response::Sampled(capture)) = &window[0].result else { panic!("{window:?}") };
        assert!(capture.tally.samples > 0, "{capture:?}");
        elapsed += capture.elapsed;
    }
    // A window that began late is shorter.
    assert!(elapsed >= Duration::from_millis(100), "{elapsed:?}");
    request.stop.set();
    assert!(session.next_window(&mut |_| {}).is_some() && session.next_window(&mut |_| {}).is_none());
}

#[test]
fn several_kinds_are_captured_in_one_session_and_one_failure_leaves_the_others() {
    let target = Target::start();
    let named = |name| KindRow::named(name).expect("a kind");
    let request = Request {
        pids: vec![target.0.id()],
        kinds: ["allocs", "invented", "invented"].map(named).to_vec(),
        duration: Some(Duration::from_millis(100)),
        ..Request::default()
    };
    let mut session = capture::open(&request).expect("each kind has an outcome of its own");
    let window = session.next_window(&mut |_| {}).expect("a window");
    assert_eq!(
        window.iter().map(|outcome| outcome.kind.name).collect::<Vec<_>>(),
        ["allocs", "invented", "invented"]
    );
    let error = window[0].result.as_ref().expect_err("it is not a Go program");
    assert!(error.to_string().starts_with("allocs profiles need a Go"), "{error}");
    assert!(window[1..].iter().all(|outcome| matches!(outcome.result, Ok(Response::Sampled(_)))));
    assert!(session.next_window(&mut |_| {}).is_none());
}
