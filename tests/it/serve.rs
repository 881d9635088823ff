//! `rprof serve`: the responses of Go's net/http/pprof for programs that do not import it, and
//! access control.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rprof::profile::{self, Profile};

use crate::harness::{Fixture, Skip, Stacks, Target, alone, installed, open_folder, skip, wait_until};

/// A running `rprof serve`; dropping it ends the server.
pub struct Server {
    child: Child,
    pub address: String,
}

impl Server {
    /// Starts a server on a free loopback port, or where the arguments say.
    pub fn start(arguments: &[&str]) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rprof"));
        command.arg("serve").args(arguments).stderr(Stdio::piped());
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let mut child = command.spawn().expect("rprof starts");
        let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
        let first = lines.next().expect("it says where it listens").expect("text");
        // Drains stderr, so that the server never blocks on a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address = first.split("://").nth(1).map(|rest| rest.trim_end_matches("/debug/pprof/").to_owned());
        Server { child, address: address.unwrap_or(first) }
    }

    /// A server that a child process runs.
    pub fn at(child: Child, address: &str) -> Server {
        Server { child, address: address.to_owned() }
    }

    pub fn of(target: &Target) -> Server {
        Server::start(&["--pid", &target.pid().to_string()])
    }

    /// Sends bytes and reads until the connection closes.
    fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(&self.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
        let _ = stream.write_all(bytes);
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        bytes
    }

    pub fn ask(&self, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
        let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|header| header.to_lowercase().starts_with("host:")) {
            request += &format!("Host: {}\r\n", self.address);
        }
        for header in headers {
            request += &format!("{header}\r\n");
        }
        request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
        Response::parse(&self.raw(request.as_bytes()))
    }

    pub fn get(&self, path: &str) -> Response {
        self.ask("GET", path, &[], "")
    }

    fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("it runs").count()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[derive(Debug)]
pub struct Response {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: Vec<u8>,
}

impl Response {
    pub fn parse(bytes: &[u8]) -> Response {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(bytes.len());
        let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
        let status = head.split(' ').nth(1).and_then(|number| number.parse().ok()).unwrap_or(0);
        Response { status, head, body: bytes.get(end + 4..).unwrap_or_default().to_vec() }
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    #[track_caller]
    pub fn profile(&self) -> Profile {
        assert_eq!(self.status, 200, "{}", self.text());
        assert!(self.head.contains("application/octet-stream"), "{}", self.head);
        let found = profile::decode(&self.body).expect("a profile");
        profile::check(&found).expect("a valid profile");
        found
    }
}

pub fn sample_type(profile: &Profile) -> &str {
    profile.string(profile.sample_type[0].r#type)
}

#[test]
fn a_c_program_has_the_endpoints_of_go_programs() {
    let _alone = alone();
    let mut target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let server = Server::of(&target);
    let cpu = server.get("/debug/pprof/profile?seconds=3");
    assert!(cpu.head.contains("attachment; filename=\"profile\""), "{}", cpu.head);
    cpu.profile();
    let stacks = Stacks::decode(&cpu.body).expect("a CPU profile");
    stacks.assert_at_least(100);
    stacks.assert_share("sixty", 60.0, 2.0);
    stacks.assert_whole(&["_start"]);

    assert_eq!(sample_type(&server.get("/debug/pprof/goroutine").profile()), "threads");
    let counted = server.get("/debug/pprof/goroutine?debug=1");
    assert!(counted.text().starts_with("thread profile: total 1\n1 @ 0x"), "{}", counted.text());
    assert!(counted.head.contains("text/plain; charset=utf-8"), "{}", counted.head);
    let each = server.get("/debug/pprof/goroutine?debug=2").text();
    assert!(each.contains("thread ") && each.contains("\nmain(...)\n"), "{each}");
    let made = server.get("/debug/pprof/threadcreate").profile();
    assert_eq!((sample_type(&made), made.sample.len()), ("threadcreate", 1));
    assert!(
        server.get("/debug/pprof/threadcreate?debug=1").text().starts_with("threadcreate profile: total 1\n")
    );
    assert!(
        server.get("/debug/pprof/threadcreate?seconds=1").profile().sample.is_empty(),
        "it creates no thread"
    );
    let wall = server.get("/debug/pprof/wall?seconds=1").profile();
    assert_eq!(wall.string(wall.sample_type[1].r#type), "wall");

    assert!(server.get("/debug/pprof/cmdline").text().contains("ratio"));
    let main = stacks.profile.location.iter().find(|location| location.line.len() == 1).expect("a location");
    let name = stacks.profile.string(
        stacks.profile.function.iter().find(|f| f.id == main.line[0].function_id).expect("a function").name,
    );
    for answer in [
        server.get(&format!("/debug/pprof/symbol?{:#x}+0x1", main.address)),
        server.ask("POST", "/debug/pprof/symbol", &[], &format!("0x1+{:#x}", main.address)),
    ] {
        assert_eq!(answer.text(), format!("num_symbols: 1\n{:#x} {name}\n", main.address));
    }
    target.assert_unhurt();
}

#[test]
fn a_go_program_without_the_import_has_its_goroutines() {
    let _alone = alone();
    if installed("go").is_none() {
        return skip(Skip::NotInstalled("go"));
    }
    let mut target = Target::start(&Fixture::go("ratio.go").build());
    let server = Server::of(&target);
    let goroutines = server.get("/debug/pprof/goroutine").profile();
    assert_eq!(sample_type(&goroutines), "goroutine");
    let counted = server.get("/debug/pprof/goroutine?debug=1").text();
    assert!(counted.starts_with("goroutine profile: total ") && counted.contains("main.main"), "{counted}");
    let each = server.get("/debug/pprof/goroutine?debug=2").text();
    assert!(each.contains("goroutine 1 [") && each.contains("main.main("), "{each}");
    let heap = server.get("/debug/pprof/heap");
    assert!(
        heap.status == 501 && heap.text().contains("runtime.MemProfile"),
        "{} {}",
        heap.status,
        heap.text()
    );
    target.assert_unhurt();
}

#[test]
fn an_unavailable_profile_is_refused_with_the_reason() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let server = Server::of(&target);
    for (path, status, words) in [
        ("/debug/pprof/allocs", 501, "need a go program"),
        ("/debug/pprof/allocs?debug=1", 501, "need a go program"),
        ("/debug/pprof/nonsense", 404, "unknown profile"),
        ("/debug/pprof/../../etc/passwd", 404, "unknown profile"),
        ("/etc/passwd", 404, "not found"),
        ("/debug/pprof/goroutine?seconds=0", 400, "must be a positive integer"),
        ("/debug/pprof/goroutine?seconds=1&debug=1", 400, "incompatible"),
        ("/debug/pprof/profile?seconds=301", 400, "must be at most 300 seconds"),
        ("/debug/pprof/profile?pid=1", 404, "process 1 is not served"),
        ("/debug/pprof/?pid=%3Cscript%3E", 404, "is not served"),
    ] {
        let answer = server.get(path);
        assert!(
            answer.status == status && answer.text().to_lowercase().contains(words),
            "{path}: {answer:?} {}",
            answer.text()
        );
        assert!(answer.head.contains("x-content-type-options: nosniff"), "{}", answer.head);
    }
    let (pid, pids) = (target.pid(), server.get("/pids"));
    assert!(pids.text().contains(&format!("\"pid\": {pid}")), "{}", pids.text());
    drop(target);
    assert_eq!(server.get("/debug/pprof/profile?seconds=1").status, 404);
}

#[test]
fn closing_the_connection_cancels_the_capture() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let server = Server::of(&target);
    let mut first = TcpStream::connect(&server.address).expect("it listens");
    let request =
        format!("GET /debug/pprof/profile?seconds=120 HTTP/1.1\r\nHost: {}\r\n\r\n", server.address);
    first.write_all(request.as_bytes()).expect("sent");
    assert!(
        wait_until(10, || server.get("/debug/pprof/profile?seconds=1").status == 409),
        "the first capture runs"
    );
    assert_eq!(server.get("/debug/pprof/goroutine").status, 200, "another kind has its own slot");
    drop(first);
    assert!(
        wait_until(10, || server.get("/debug/pprof/profile?seconds=1").status == 200),
        "the first capture has ended"
    );
}

#[test]
fn a_request_chooses_among_several_processes() {
    let _alone = alone();
    let program = Fixture::c(&["ratio.c"]).build();
    let (one, two) = (Target::start(&program), Target::start(&program));
    let pids = [one.pid().to_string(), two.pid().to_string()];
    let server = Server::start(&["--pid", &pids[0], "--pid", &pids[1]]);
    assert_eq!(server.get("/debug/pprof/goroutine").status, 400, "ambiguous");
    let index = server.get("/debug/pprof/").text();
    assert!(pids.iter().all(|pid| index.contains(&format!("?pid={pid}"))), "{index}");
    let chosen = server.get(&format!("/debug/pprof/goroutine?pid={}", pids[1])).profile();
    assert!(chosen.comments().any(|comment| comment.contains(&format!("(pid {})", pids[1]))));
}

#[test]
fn requests_of_other_sites_and_with_other_host_names_are_refused() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let server = Server::of(&target);
    let with = |header: &str| server.ask("GET", "/debug/pprof/goroutine", &[header], "").status;
    assert_eq!(with("Host: evil.example"), 403);
    assert_eq!(with("Origin: http://evil.example"), 403);
    assert_eq!(with("Sec-Fetch-Site: cross-site"), 403);
    assert_eq!(with("Host: localhost"), 200);
    assert_eq!(server.ask("PUT", "/debug/pprof/", &[], "").status, 405);

    let refused = Command::new(env!("CARGO_BIN_EXE_rprof"))
        .args(["serve", "--pid", &target.pid().to_string(), "--listen", "0.0.0.0:0"])
        .output()
        .expect("rprof starts");
    let words = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(1) && words.contains("--token-file"), "{words}");
}

#[test]
fn with_a_token_configured_every_request_needs_it() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let folder = open_folder();
    let token = folder.path().join("token");
    std::fs::write(&token, "correct-horse-battery\n").expect("own folder");
    let pid = target.pid().to_string();
    let server = Server::start(&["--pid", &pid, "--token-file", &token.to_string_lossy()]);
    let with = |header: &str| server.ask("GET", "/debug/pprof/cmdline", &[header], "").status;
    assert_eq!(server.get("/debug/pprof/").status, 401);
    assert_eq!(with("Authorization: Bearer wrong-horse-battery"), 401);
    assert_eq!(with("Authorization: Bearer correct-horse-battery"), 200);
}

#[test]
fn a_unix_socket_has_mode_0600_and_is_removed_at_the_end() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let folder = open_folder();
    let path = folder.path().join("socket");
    let mut server =
        Server::start(&["--pid", &target.pid().to_string(), "--listen", &format!("unix:{}", path.display())]);
    let mode = std::fs::metadata(&path).expect("it exists").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream = UnixStream::connect(&path).expect("it listens");
    stream
        .write_all(b"GET /debug/pprof/cmdline HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("a response");
    assert!(Response::parse(&bytes).text().contains("ratio"));
    let ended = Command::new("kill").args(["-TERM", &server.child.id().to_string()]).status();
    assert!(ended.expect("kill runs").success());
    assert!(wait_until(10, || matches!(server.child.try_wait(), Ok(Some(_)))), "it ends on SIGTERM");
    assert!(!path.exists());
}

/// A deterministic pseudo-random number (xorshift).
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[test]
fn ten_thousand_malformed_requests_do_not_affect_the_server() {
    let _alone = alone();
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let server = Server::of(&target);
    let good = format!(
        "GET /debug/pprof/cmdline?a=%41 HTTP/1.1\r\nHost: {}\r\nContent-Length: 0\r\n\r\n",
        server.address
    );
    let before = server.open_files();
    let mut state = 0x9e37_79b9_7f4a_7c15;
    let began = Instant::now();
    for round in 0..10_000 {
        let mut bytes = good.clone().into_bytes();
        for _ in 0..1 + random(&mut state) % 4 {
            if bytes.is_empty() {
                break;
            }
            let at = random(&mut state) as usize % bytes.len();
            match random(&mut state) % 4 {
                0 => bytes[at] = random(&mut state) as u8,
                1 => drop(bytes.drain(at..(at + 9).min(bytes.len()))),
                2 => bytes.truncate(at.max(1)),
                _ => drop(bytes.splice(at..at, [b'\r', b'\n', 0, b':'])),
            }
        }
        let mut stream =
            TcpStream::connect(&server.address).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let _ = stream.write_all(&bytes);
        if round % 100 == 0 {
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.set_read_timeout(Some(Duration::from_secs(15)));
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    assert!(server.get("/debug/pprof/cmdline").text().contains("ratio"), "after {:?}", began.elapsed());
    assert!(
        wait_until(20, || server.open_files() <= before + 2),
        "{before} files, now {}",
        server.open_files()
    );
}

#[test]
fn go_tool_pprof_reads_from_it() {
    let _alone = alone();
    let Some(go) = installed("go") else { return skip(Skip::NotInstalled("go")) };
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let server = Server::of(&target);
    let folder = open_folder();
    let pprof = |path: &str| {
        let url = format!("http://{}/debug/pprof/{path}", server.address);
        let output = Command::new(&go)
            .args(["tool", "pprof", "-top", &url])
            .env("PPROF_TMPDIR", folder.path())
            .env("GOCACHE", crate::harness::go_cache())
            .output()
            .expect("go runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (String::from_utf8_lossy(&output.stdout).into_owned(), stderr)
    };
    let (top, stderr) = pprof("profile?seconds=2");
    assert!(top.contains("sixty") && top.contains("Type: cpu"), "{top}\n{stderr}");
    let (top, stderr) = pprof("goroutine");
    assert!(top.contains("Type: threads") && top.contains("main"), "{top}\n{stderr}");
    let (top, stderr) = pprof("heap");
    assert!(top.contains("Type: inuse_space") && top.contains("[heap: glibc malloc"), "{top}\n{stderr}");
    let (_, stderr) = pprof("allocs");
    assert!(stderr.contains("need a Go program"), "{stderr}");
}

#[test]
fn tls_with_client_certificates_works() {
    let _alone = alone();
    let (Some(openssl), Some(curl)) = (installed("openssl"), installed("curl")) else {
        return skip(Skip::NotInstalled("openssl and curl"));
    };
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let folder = open_folder();
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let make = |name: &str, authority: Option<&str>| {
        let mut command = Command::new(&openssl);
        command
            .args([
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
            ])
            .args(["-subj", &format!("/CN={name}"), "-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-keyout", &path(&format!("{name}.key")), "-out", &path(&format!("{name}.pem"))]);
        if let Some(authority) = authority {
            command.args(["-addext", "basicConstraints=critical,CA:FALSE"]);
            command.args([
                "-CA",
                &path(&format!("{authority}.pem")),
                "-CAkey",
                &path(&format!("{authority}.key")),
            ]);
        }
        let made = command.output().expect("openssl runs");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    for (name, authority) in [
        ("ours", None),
        ("other", None),
        ("server", Some("ours")),
        ("client", Some("ours")),
        ("stranger", Some("other")),
    ] {
        make(name, authority);
    }
    let pid = target.pid().to_string();
    let server = Server::start(&[
        "--pid",
        &pid,
        "--tls-cert",
        &path("server.pem"),
        "--tls-key",
        &path("server.key"),
        "--tls-client-ca",
        &path("ours.pem"),
    ]);
    let ask = |who: &str| {
        let url = format!("https://{}/debug/pprof/cmdline", server.address);
        let mut command = Command::new(&curl);
        command.args(["-s", "-S", "--max-time", "20", "--cacert", &path("ours.pem"), &url]);
        if Path::new(&path(&format!("{who}.pem"))).exists() {
            command.args(["--cert", &path(&format!("{who}.pem")), "--key", &path(&format!("{who}.key"))]);
        }
        let output = command.output().expect("curl runs");
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        (String::from_utf8_lossy(&output.stdout).into_owned(), stderr)
    };
    let (answer, stderr) = ask("client");
    assert!(answer.contains("ratio"), "{stderr}");
    for other in ["nobody", "stranger"] {
        assert_eq!(ask(other).0, "", "{other}");
    }
}
