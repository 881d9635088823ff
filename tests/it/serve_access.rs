//! `rprof serve` under attack: reused PIDs, and clients without the token.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    process::Stdio,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    harness::{Fixture, Skip, Target, alone, is_root, open_folder, pid_namespace, skip, wait_until},
    serve::Server,
};

/// Serves a process in a PID namespace. When the file `kill` appears, ends the process and gives
/// its PID to another one.
const REUSE_PID: &str = r#"
cd "$0"
"$1" > /dev/null & target=$!
"$2" serve --pid $target --show-arguments --listen 127.0.0.1:0 2> server &
while [ ! -e kill ]; do sleep 0.05; done
kill -9 $target; wait $target
for attempt in $(seq 500); do
    echo $((target - 1)) > /proc/sys/kernel/ns_last_pid
    "$1" --password=canary > /dev/null &
    [ $! = $target ] && touch reused && break
    kill -9 $!; wait $!
done
wait
"#;

#[test]
fn a_process_that_gets_the_pid_of_an_ended_one_is_not_served() {
    let _alone = alone();
    if !is_root() {
        return skip(Skip::NeedsRoot);
    }
    let Some(mut command) = pid_namespace() else { return skip(Skip::NoNamespaces) };
    let folder = open_folder();
    let path = |name: &str| folder.path().join(name);
    command.args(["sh", "-c", REUSE_PID]).arg(folder.path()).arg(Fixture::c(&["ratio.c"]).build());
    command.arg(env!("CARGO_BIN_EXE_rprof")).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("unshare runs");
    let mut first_line = String::new();
    assert!(
        wait_until(20, || {
            first_line = fs::read_to_string(path("server")).unwrap_or_default();
            first_line.contains("/debug/pprof/\n")
        }),
        "the server starts: {first_line}"
    );
    let address = first_line.split("://").nth(1).and_then(|rest| rest.split('/').next());
    let server = Server::at(child, address.expect("an address"));
    assert!(server.get("/debug/pprof/cmdline").text().contains("ratio"));
    assert_eq!(server.get("/debug/pprof/goroutine").status, 200);
    // A capture that runs when the PID changes hands, and one that begins later.
    let during = thread::scope(|scope| {
        let capture = scope.spawn(|| server.get("/debug/pprof/wall?seconds=3"));
        thread::sleep(Duration::from_millis(500));
        fs::write(path("kill"), "").expect("own folder");
        assert!(wait_until(20, || path("reused").exists()), "the PID is reused");
        capture.join().expect("a response")
    });
    assert!(!String::from_utf8_lossy(&during.body).contains("canary"));
    assert_eq!(during.status, 404, "{}", during.text());
    assert_eq!(server.get("/pids").text(), "[]\n");
    for path in [
        "/debug/pprof/cmdline",
        "/debug/pprof/goroutine",
        "/debug/pprof/profile?seconds=1",
        "/debug/pprof/symbol?0x401000",
        "/debug/pprof/",
        "/ui/",
        "/sd",
    ] {
        let response = server.get(path);
        assert!(!response.text().contains("canary"), "{path}: {}", response.text());
        assert!(response.status == 404 || matches!(path, "/debug/pprof/" | "/ui/" | "/sd"), "{path}");
    }
}

/// A server with a token; the header that has it, and what must be kept.
fn with_token() -> (Server, &'static str, (Target, tempfile::TempDir)) {
    let target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let folder = open_folder();
    let token = folder.path().join("token");
    fs::write(&token, "correct-horse-battery\n").expect("own folder");
    let pid = target.pid().to_string();
    let server = Server::start(&["--pid", &pid, "--token-file", &token.to_string_lossy()]);
    (server, "Authorization: Bearer correct-horse-battery", (target, folder))
}

/// Holds as many connections as it can without the token: silent ones, and ones that send requests.
fn attack(address: &str, stop: &AtomicBool) {
    let mut connections: Vec<TcpStream> = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        while connections.len() < 90 {
            let Ok(stream) = TcpStream::connect(address) else { break };
            stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a time");
            connections.push(stream);
        }
        let mut number = 0;
        connections.retain_mut(|stream| {
            number += 1;
            if number % 3 != 0 && stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").is_err() {
                return false;
            }
            match stream.read(&mut [0; 4096]) {
                Ok(count) => count > 0,
                Err(error) => matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
            }
        });
    }
}

#[test]
fn clients_without_the_token_cannot_lock_out_a_client_with_it() {
    let _alone = alone();
    let (server, token, _kept) = with_token();
    let stop = AtomicBool::new(false);
    let statuses: Vec<u16> = thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| attack(&server.address, &stop));
        }
        thread::sleep(Duration::from_secs(1));
        let asked = || server.ask("GET", "/debug/pprof/cmdline", &[token], "").status;
        let statuses = (0..50).map(|_| asked()).collect();
        stop.store(true, Ordering::Relaxed);
        statuses
    });
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
}

#[test]
fn a_connection_is_closed_after_a_refused_request_and_kept_after_an_accepted_one() {
    let _alone = alone();
    let (server, token, _kept) = with_token();
    let responses = |header: &str| {
        let mut stream = TcpStream::connect(&server.address).expect("it listens");
        stream.set_read_timeout(Some(Duration::from_secs(3))).expect("a time");
        let request = format!("GET /pids HTTP/1.1\r\nHost: {}\r\n{header}\r\n\r\n", server.address);
        // The second one may find the connection closed.
        let _ = stream.write_all(request.repeat(2).as_bytes());
        let mut bytes = Vec::new();
        let closed = stream.read_to_end(&mut bytes).is_ok();
        (String::from_utf8_lossy(&bytes).matches("HTTP/1.1 ").count(), closed)
    };
    assert_eq!(responses("Accept: */*"), (1, true), "refused");
    assert_eq!(responses(token), (2, false), "accepted");
}

#[test]
fn a_connection_without_a_request_has_a_deadline() {
    let _alone = alone();
    let (server, ..) = with_token();
    let began = Instant::now();
    let mut silent = TcpStream::connect(&server.address).expect("it listens");
    silent.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
    assert_eq!(silent.read(&mut [0; 16]).ok(), Some(0), "the server closes it");
    assert!(began.elapsed() > Duration::from_secs(5), "slow clients have time: {:?}", began.elapsed());
}

/// Sends a POST with a body of so many bytes, and then reads the response.
fn post(address: &str, header: &str, body_bytes: usize) -> String {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("own socket");
    let head = format!(
        "POST /debug/pprof/symbol HTTP/1.1\r\nHost: localhost\r\n{header}Content-Length: {body_bytes}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("it reads");
    let piece = [b'x'; 16 << 10];
    for _ in 0..body_bytes / piece.len() {
        stream.write_all(&piece).expect("the connection is not reset while the body is sent");
    }
    let mut response = Vec::new();
    stream.read_to_end(&mut response).expect("the connection is not reset before the response is read");
    String::from_utf8_lossy(&response).into_owned()
}

#[test]
fn the_response_to_a_refused_request_arrives_also_if_it_has_a_large_body() {
    let (server, header, _kept) = with_token();
    let refused = post(&server.address, "", 16 << 20);
    assert!(refused.starts_with("HTTP/1.1 401 "), "{refused}");
    let too_long = post(&server.address, &format!("{header}\r\n"), 16 << 20);
    assert!(too_long.starts_with("HTTP/1.1 400 ") && too_long.contains("too long"), "{too_long}");
    assert!(too_long.to_ascii_lowercase().contains("connection: close"), "{too_long}");
}
