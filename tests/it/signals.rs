//! SIGINT and SIGTERM end every verb within a second, with what was collected until then.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rprof::{
    process::identity,
    profile::{Builder, LineSpec, MappingSpec, encode_gzip},
};

use crate::harness::{
    Fixture, Skip, Target, Terminal, alone, installed, is_root, open_folder, skip, wait_until,
};

/// When a run is interrupted.
#[derive(Clone, Copy)]
enum When {
    /// It samples.
    Sampling,
    /// It has read most of a profile from standard input, and waits for the rest.
    Reading,
    /// It has used some CPU time.
    Working,
    /// It waits for an answer of the debuginfod server.
    Asking,
    /// It has printed this to standard error.
    Printed(&'static str),
    /// It waits for requests on standard input.
    Started,
    /// Never: it ends by itself, and soon.
    Short,
}

/// What a run does after a signal.
#[derive(Clone, Copy)]
enum Then {
    /// It ends with success; this file of its folder has what was collected.
    Writes(&'static str),
    /// It ends with success.
    Succeeds,
    /// It ends with the status of the command that it started, which the signal has ended too.
    PassesOn,
    /// It ends: there is nothing to keep yet.
    Ends,
}

struct Row {
    verb: &'static str,
    arguments: &'static str,
    when: When,
    then: Then,
}

const fn row(verb: &'static str, arguments: &'static str, when: When, then: Then) -> Row {
    Row { verb, arguments, when, then }
}

/// `PID`: a program that works; `MANY`: a program with 10,000 threads; `GO`: one with 200,000
/// goroutines; `-`: a profile that never ends; `FILE`: a small profile.
const ROWS: &[Row] = &[
    row("attach", "--pid PID -d 60s -o out.pb.gz", When::Sampling, Then::Writes("out.pb.gz")),
    row("attach", "--kind wall --pid PID -d 60s -o out.pb.gz", When::Sampling, Then::Writes("out.pb.gz")),
    row("attach", "--kind wall --pid MANY -d 60s -o out.pb.gz", When::Sampling, Then::Writes("out.pb.gz")),
    row("attach", "--kind offcpu --pid PID -d 60s -o out.pb.gz", When::Sampling, Then::Writes("out.pb.gz")),
    row("attach", "--kind trace --pid PID -d 60s -o out.pftrace", When::Working, Then::Writes("out.pftrace")),
    row("attach", "--kind faults --pid PID -d 60s -o out.pb.gz", When::Sampling, Then::Writes("out.pb.gz")),
    row(
        "attach",
        "--kind threadcreate --pid PID -d 60s -o out.pb.gz",
        When::Working,
        Then::Writes("out.pb.gz"),
    ),
    row("attach", "--sampler ptrace --pid PID -d 60s -o out.pb.gz", When::Working, Then::Writes("out.pb.gz")),
    row(
        "attach",
        "--sampler ptrace --pid MANY -d 60s -o out.pb.gz",
        When::Working,
        Then::Writes("out.pb.gz"),
    ),
    row("attach", "--kind goroutine --pid GO -o out.pb.gz", When::Working, Then::Writes("out.pb.gz")),
    row("compare", "-n 2 -- sleep 60 -- sleep 60", When::Printed("run 1 of"), Then::Ends),
    row("diff", "- FILE", When::Reading, Then::Ends),
    row("doctor", "--pid PID", When::Working, Then::Ends),
    row("dump", "--pid MANY -o out.txt", When::Working, Then::Writes("out.txt")),
    row("dump", "--pid MANY --look ptrace -o out.txt", When::Working, Then::Writes("out.txt")),
    row("dump", "--pid GO -o out.txt", When::Working, Then::Writes("out.txt")),
    row("dump", "--pid GO --each -o out.txt", When::Working, Then::Writes("out.txt")),
    row("dump", "--pid GO --format json -o out.json", When::Working, Then::Writes("out.json")),
    row("flame", "-o out.svg -", When::Reading, Then::Ends),
    row("generate", "man out", When::Short, Then::Ends),
    row("heap", "--pid PID -d 60s", When::Started, Then::Ends),
    row("help", "", When::Short, Then::Ends),
    row("info", "--pid PID", When::Short, Then::Ends),
    row("list", "work -", When::Reading, Then::Ends),
    row("mcp", "", When::Started, Then::Ends),
    row("peek", "work -", When::Reading, Then::Ends),
    row("pprof", "-top -", When::Reading, Then::Ends),
    row("pprof", "-http=127.0.0.1:0 -no_browser FILE", When::Printed("Serving web UI"), Then::Succeeds),
    row("record", "-o out.pb.gz -- sleep 60", When::Sampling, Then::PassesOn),
    row("redact", "- -o out.pb.gz", When::Reading, Then::Ends),
    row("serve", "--pid PID --listen 127.0.0.1:0", When::Printed("serving"), Then::Succeeds),
    row("sidecar", "--pid PID --spool out", When::Printed("watching"), Then::Succeeds),
    row("snapshot", "--pid PID -d 60s -o out.tar.gz", When::Sampling, Then::Writes("out.tar.gz")),
    row("snapshot", "--pid GO -d 60s -o out.tar.gz", When::Working, Then::Writes("out.tar.gz")),
    row("symbolize", "--debuginfod FILE -o out.pb.gz", When::Asking, Then::Writes("out.pb.gz")),
    row("tags", "-", When::Reading, Then::Ends),
    row("top", "-", When::Reading, Then::Ends),
    row("traces", "-", When::Reading, Then::Ends),
    row("tree", "-", When::Reading, Then::Ends),
];

/// The verbs of `rprof --help`, and the one that is hidden there.
fn verbs() -> BTreeSet<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_rprof")).arg("--help").output().expect("rprof runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let list = text.split("Commands:\n").nth(1).and_then(|rest| rest.split("\n\n").next()).expect("a list");
    // A further line of a description is indented more.
    let verbs = list.lines().filter_map(|line| line.strip_prefix("  ").filter(|verb| !verb.starts_with(' ')));
    let named = verbs.filter_map(|line| line.split_whitespace().next()).map(str::to_owned);
    named.chain(["generate".to_owned()]).collect()
}

/// What the runs read.
struct Scene {
    folder: tempfile::TempDir,
    works: Target,
    many: Target,
    go: Option<Target>,
    /// A packed profile of more than a pipe holds.
    large: Vec<u8>,
    server: TcpListener,
}

impl Scene {
    fn new() -> Scene {
        let folder = open_folder();
        fs::write(folder.path().join("FILE"), profile(10, true)).expect("own folder");
        let program = Fixture::c(&["many_threads.c"]).build();
        let go = installed("go").map(|_| Fixture::go("gomany.go").build());
        let server = TcpListener::bind("127.0.0.1:0").expect("a port");
        server.set_nonblocking(true).expect("own socket");
        Scene {
            works: Target::start(&Fixture::c(&["ratio.c"]).build()),
            many: Target::start_with(&program, &["10000"]),
            go: go.map(|go| Target::start_with(&go, &["200000"])),
            large: profile(60_000, false),
            folder,
            server,
        }
    }

    fn start(&self, row: &Row) -> Run {
        let folder = open_folder();
        let word = |word: &str| match word {
            "PID" => self.works.pid().to_string(),
            "MANY" => self.many.pid().to_string(),
            "GO" => self.go.as_ref().expect("checked").pid().to_string(),
            "-" => "/dev/stdin".to_owned(),
            "FILE" => self.folder.path().join("FILE").display().to_string(),
            word => word.to_owned(),
        };
        let errors = folder.path().join("errors");
        let address = self.server.local_addr().expect("own socket");
        let mut command = Command::new(env!("CARGO_BIN_EXE_rprof"));
        command.arg(row.verb).args(row.arguments.split_whitespace().map(word)).current_dir(folder.path());
        command.env("DEBUGINFOD_URLS", format!("http://{address}"));
        command.env("XDG_CACHE_HOME", folder.path()).env("DEBUGINFOD_TIMEOUT", "60");
        command.stdin(Stdio::piped()).stdout(File::create(folder.path().join("output")).expect("own folder"));
        command.stderr(File::create(&errors).expect("own folder"));
        Run { child: command.spawn().expect("rprof runs"), folder, errors }
    }

    /// Waits until the run is in the middle of its work; what must stay open until it ends.
    fn reach(&self, run: &mut Run, row: &Row) -> Option<TcpStream> {
        let pid = run.child.id();
        let mut connection = None;
        let reached = match row.when {
            When::Sampling => wait_until(60, || run.is_over() || has_perf_event(pid)),
            When::Working => wait_until(60, || {
                run.is_over() || identity::cpu_time_ns(pid).is_some_and(|used| used > 60_000_000)
            }),
            When::Printed(text) => wait_until(60, || run.is_over() || run.errors().contains(text)),
            When::Asking => wait_until(60, || {
                connection = connection.take().or_else(|| Some(self.server.accept().ok()?.0));
                run.is_over() || connection.is_some()
            }),
            When::Reading => {
                // All but the end. It returns when most of it was read.
                let (most, _) = self.large.split_at(self.large.len() - 1);
                run.child.stdin.as_mut().expect("piped").write_all(most).is_ok()
            }
            When::Started => {
                let blocked = || fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
                wait_until(60, || blocked().contains(") S "))
            }
            When::Short => true,
        };
        assert!(reached, "{} {}: {}", row.verb, row.arguments, run.errors());
        connection
    }
}

struct Run {
    child: Child,
    folder: tempfile::TempDir,
    errors: PathBuf,
}

impl Run {
    fn is_over(&mut self) -> bool {
        self.child.try_wait().expect("own child").is_some()
    }

    fn errors(&self) -> String {
        fs::read_to_string(&self.errors).unwrap_or_default()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn has_perf_event(pid: u32) -> bool {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let name = |file: &fs::DirEntry| fs::read_link(file.path()).unwrap_or_default();
    files.into_iter().any(|file| name(&file).as_os_str() == "anon_inode:[perf_event]")
}

/// A profile with so many stacks, which do not pack well. `unnamed`: its addresses have no
/// functions.
fn profile(stacks: u64, unnamed: bool) -> Vec<u8> {
    let mut builder = Builder::new(&[("samples", "count")]);
    let mapping = builder.mapping(&MappingSpec {
        start: 0x1000,
        limit: 0x2000_0000,
        file_offset: 0,
        filename: "/nowhere/program",
        build_id: "0123456789abcdef0123456789abcdef01234567",
        symbolized: false,
    });
    let work = builder.function("work", "work", "work.c", 1);
    for number in 0..stacks {
        let address = 0x1000 + number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 0x1000_0000;
        let lines = [LineSpec { function: work, line: number as u32, column: 0 }];
        let location = builder.location(Some(mapping), address, if unnamed { &[] } else { &lines });
        builder.sample(&[location], &[1], &[]);
    }
    encode_gzip(&builder.finish())
}

/// The time that a short run takes: how busy the machine is.
fn short_run() -> Duration {
    let began = Instant::now();
    let status = Command::new(env!("CARGO_BIN_EXE_rprof")).arg("--version").stdout(Stdio::null()).status();
    assert!(status.expect("rprof runs").success());
    began.elapsed()
}

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
}

fn check(row: &Row, run: &mut Run, signal: &str, code: Option<i32>) {
    let what = format!("{} {} {signal}: status {code:?}\n{}", row.verb, row.arguments, run.errors());
    match row.then {
        Then::Writes(name) => {
            let size = fs::metadata(run.file(name)).map(|file| file.len()).unwrap_or_default();
            assert!(code == Some(0) && size > 0, "{what}");
        }
        Then::Succeeds => assert_eq!(code, Some(0), "{what}"),
        Then::PassesOn => {
            let expected = 128 + if signal == "-INT" { 2 } else { 15 };
            assert_eq!(code, Some(expected), "{what}");
            assert!(run.file("out.pb.gz").exists(), "{what}");
        }
        Then::Ends => {}
    }
    assert!(!run.errors().contains("panicked"), "{what}");
}

#[test]
fn every_verb_ends_within_a_second_of_sigint_and_sigterm_with_what_was_collected() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    assert_eq!(ROWS.iter().map(|row| row.verb.to_owned()).collect::<BTreeSet<_>>(), verbs());
    let mut scene = Scene::new();
    let mut late = Vec::new();
    for row in ROWS {
        if row.arguments.contains("GO") && scene.go.is_none() {
            skip(Skip::NotInstalled("go"));
            continue;
        }
        for signal in ["-INT", "-TERM"] {
            let usual = short_run();
            let mut run = scene.start(row);
            let connection = scene.reach(&mut run, row);
            let began = Instant::now();
            if !matches!(row.when, When::Short) && !run.is_over() {
                send(&run.child, signal);
            }
            let ended = wait_until(30, || run.is_over());
            let took = began.elapsed();
            let status = run.child.try_wait().expect("own child");
            // On a busy machine everything takes longer.
            if !ended || took > Duration::from_secs(1) + 20 * usual {
                late.push(format!("{} {} {signal}: {took:?}", row.verb, row.arguments));
                continue;
            }
            check(row, &mut run, signal, status.and_then(|status| status.code()));
            drop(connection);
        }
    }
    assert_eq!(late, Vec::<String>::new());
    scene.works.assert_unhurt();
    scene.many.assert_unhurt();
}

#[test]
fn the_live_view_ends_within_a_second_of_a_signal() {
    let _alone = alone();
    if installed("tmux").is_none() {
        return skip(Skip::NotInstalled("tmux"));
    }
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let pid = target.pid().to_string();
    for signal in ["-INT", "-TERM"] {
        let usual = short_run();
        let terminal = Terminal::start(&format!("signals{signal}"), &["top", "--pid", &pid]);
        terminal.shows("sixty");
        let began = Instant::now();
        crate::live::send(crate::live::watching(&pid).expect("rprof runs"), signal);
        assert!(wait_until(30, || crate::live::watching(&pid).is_none()));
        assert!(began.elapsed() < Duration::from_secs(1) + 20 * usual, "{signal}: {:?}", began.elapsed());
        terminal.assert_ended(0);
    }
}

#[test]
fn a_server_ends_within_a_second_also_while_it_captures() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let folder = open_folder();
    let errors = folder.path().join("errors");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rprof"));
    command.args(["serve", "--listen", "127.0.0.1:0", "--pid", &target.pid().to_string()]);
    command.stdin(Stdio::null()).stderr(File::create(&errors).expect("own folder"));
    let usual = short_run();
    let mut child = command.spawn().expect("rprof runs");
    let printed = || fs::read_to_string(&errors).unwrap_or_default();
    assert!(wait_until(20, || printed().contains("/debug/pprof/\n")), "{}", printed());
    let address = printed().split("://").nth(1).and_then(|rest| rest.split('/').next().map(str::to_owned));
    let mut client = TcpStream::connect(address.expect("an address")).expect("it listens");
    let request = "GET /debug/pprof/profile?seconds=60 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.write_all(request.as_bytes()).expect("it reads");
    if is_root() {
        assert!(wait_until(20, || has_perf_event(child.id())), "{}", printed());
    }
    let began = Instant::now();
    send(&child, "-TERM");
    let ended = wait_until(30, || child.try_wait().expect("own child").is_some());
    let took = began.elapsed();
    let _ = (child.kill(), child.wait());
    assert!(ended && took < Duration::from_secs(1) + 20 * usual, "{took:?}");
    let mut rest = Vec::new();
    client.set_read_timeout(Some(Duration::from_secs(5))).expect("own socket");
    let _ = client.read_to_end(&mut rest);
}

/// How a run that writes to a named pipe ended: its status, the time, what it printed.
fn write_to_pipe(reader: Option<&str>) -> (Option<i32>, Duration, String) {
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let folder = open_folder();
    let path = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&path).status().expect("mkfifo runs").success());
    let start = |how| Command::new("sh").args(["-c", how]).arg(&path).spawn().expect("sh runs");
    let mut reading = reader.map(start);
    let errors = folder.path().join("errors");
    let mut command = Command::new(env!("CARGO_BIN_EXE_rprof"));
    command.args(["attach", "-d", "60s", "--kind", "wall", "-F", "999", "--format", "folded"]);
    command.args(["--sampler", "ptrace", "--pid", &target.pid().to_string(), "-o"]).arg(&path);
    command.env("TMPDIR", folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
    command.stderr(File::create(&errors).expect("own folder"));
    let mut child = command.spawn().expect("rprof runs");
    let works = || identity::cpu_time_ns(child.id()).is_none_or(|used| used > 50_000_000);
    assert!(wait_until(30, works), "it samples");
    let began = Instant::now();
    send(&child, "-TERM");
    assert!(wait_until(30, || child.try_wait().expect("own child").is_some()), "it hangs");
    let took = began.elapsed();
    let code = child.wait().expect("own child").code();
    if let Some(reading) = &mut reading {
        let _ = (reading.kill(), reading.wait());
    }
    (code, took, fs::read_to_string(errors).unwrap_or_default())
}

#[test]
fn a_pipe_without_a_reader_does_not_keep_rprof_from_ending_and_the_profile_is_saved_elsewhere() {
    let _alone = alone();
    let usual = short_run();
    let (code, took, errors) = write_to_pipe(None);
    assert!(took < Duration::from_secs(1) + 20 * usual, "{took:?}");
    assert_eq!(code, Some(1), "{errors}");
    assert!(errors.contains("no process reads from the pipe"), "{errors}");
    assert!(errors.contains("rprof-rescued-"), "{errors}");
    let (code, _, errors) = write_to_pipe(Some("cat \"$0\" > /dev/null"));
    assert_eq!(code, Some(0), "{errors}");
}
