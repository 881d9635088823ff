//! `rprof mcp`: a client speaks the Model Context Protocol with it about real programs.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::harness::{Fixture, Redis, Skip, Target, alone, installed, skip, wait_for_cpu_time, wait_until};

/// A client and its server.
struct Client {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    next: u64,
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    /// A server without a session.
    fn start() -> Client {
        let mut command = Command::new(env!("CARGO_BIN_EXE_rprof"));
        command.arg("mcp").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = command.spawn().expect("rprof");
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("piped"));
        Client { child, input, output: BufReader::new(output), next: 0 }
    }

    /// A server with a session.
    fn initialized() -> Client {
        let mut client = Client::start();
        let params = json!({
            "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": { "name": "test", "version": "1" }
        });
        let result = client.request("initialize", params);
        assert_eq!(result["result"]["protocolVersion"], "2025-06-18", "{result}");
        assert_eq!(result["result"]["serverInfo"]["name"], "rprof");
        client.send(&json!({ "jsonrpc": "2.0", "method": "notifications/initialized" }).to_string());
        client
    }

    fn send(&mut self, line: &str) {
        let input = self.input.as_mut().expect("open");
        writeln!(input, "{line}").and_then(|()| input.flush()).expect("the server reads");
    }

    fn receive(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("text");
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"))
    }

    fn send_request(&mut self, method: &str, params: Value) -> u64 {
        self.next += 1;
        let id = self.next;
        self.send(&json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params }).to_string());
        id
    }

    fn request(&mut self, method: &str, params: Value) -> Value {
        let id = self.send_request(method, params);
        let response = self.receive();
        assert_eq!(response["id"], id, "{response}");
        response
    }

    /// The text of a tool, and whether it is an error.
    fn try_tool(&mut self, name: &str, arguments: Value) -> (String, bool) {
        let response = self.request("tools/call", json!({ "name": name, "arguments": arguments }));
        let result = &response["result"];
        let text = result["content"][0]["text"].as_str();
        let text = text.unwrap_or_else(|| panic!("{name}: {response}"));
        (text.to_owned(), result["isError"] == true)
    }

    #[track_caller]
    fn tool(&mut self, name: &str, arguments: Value) -> String {
        let (text, is_error) = self.try_tool(name, arguments);
        assert!(!is_error, "{name}: {text}");
        text
    }

    #[track_caller]
    fn refused(&mut self, name: &str, arguments: Value) -> String {
        let (text, is_error) = self.try_tool(name, arguments);
        assert!(is_error && text.starts_with("error: "), "{name}: {text}");
        text
    }

    /// Closes the input and waits for the end of the server. Returns its exit code.
    fn end(mut self) -> Option<i32> {
        self.input = None;
        let ended = wait_until(20, || self.child.try_wait().expect("own child").is_some());
        assert!(ended, "the server does not end with its input");
        self.child.try_wait().expect("own child").and_then(|status| status.code())
    }
}

#[test]
fn an_agent_finds_the_hot_function_of_redis_and_its_callers() {
    let _alone = alone();
    let Some(redis) = Redis::start() else { return skip(Skip::NotInstalled("redis")) };
    let Some(_load) = redis.load() else { return skip(Skip::NotInstalled("redis")) };
    let mut target = redis.target;
    let pid = target.pid();
    let mut client = Client::initialized();
    let list = client.tool("list_processes", json!({ "name": "redis-server" }));
    assert!(list.contains(&format!("{pid} ")) && list.contains("redis-server"), "{list}");
    let first = client.tool("attach", json!({ "pid": pid, "seconds": 2, "frequency_hz": 499 }));
    assert!(first.starts_with("profile p1: redis-server"), "{first}");
    assert!(first.contains("quality: ") && first.contains("system call"), "{first}");
    let top = client.tool("top", json!({ "profile": "p1", "cum": true }));
    assert!(top.contains("cum%") && top.len() <= 8000, "{top}");
    let paths = client.tool("paths", json!({ "profile": "p1", "function": "write", "budget": 2000 }));
    assert!(paths.contains("of the profile has `write` on its stack") && paths.len() <= 2000, "{paths}");
    // Debian's redis has no sources here: there is a result with lines, or an error that says why.
    let (source, _) = client.try_tool("source", json!({ "profile": "p1", "function": "write" }));
    assert!(source.contains("write"), "{source}");
    let dump = client.tool("dump", json!({ "pid": pid }));
    assert!(dump.contains("profile p2: ") && dump.contains("thread"), "{dump}");
    client.tool("attach", json!({ "pid": pid, "seconds": 2, "frequency_hz": 499 }));
    let diff = client.tool("diff", json!({ "base": ["p1"], "new": ["p3"] }));
    assert!(diff.contains("base: p1: ") && diff.contains("new:  p3: "), "{diff}");
    let quality = client.tool("quality", json!({ "profile": "p3" }));
    assert!(
        quality.contains("a share of one half may be off by") && quality.contains("lost: 0 samples  ["),
        "{quality}"
    );
    let doctor = client.tool("doctor", json!({ "pid": pid, "budget": 1000 }));
    assert!(doctor.starts_with("attach: ") && doctor.contains("left out"), "{doctor}");
    target.assert_unhurt();
    assert_eq!(client.end(), Some(0));
}

#[test]
fn an_agent_finds_the_hot_line_of_a_python_program() {
    let _alone = alone();
    let Some(python) = installed("python3") else { return skip(Skip::NotInstalled("python3")) };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/programs/python_ratio.py");
    let mut target = Target::spawn(Command::new(python).args([script, "long", "60"]));
    let mut client = Client::initialized();
    let pid = target.pid();
    client.tool("attach", json!({ "pid": pid, "seconds": 4, "frequency_hz": 499 }));
    let paths = client.tool("paths", json!({ "profile": "p1", "function": "hot50" }));
    let share: f64 = paths.split('%').next().and_then(|share| share.parse().ok()).expect("a share");
    assert!((40.0..60.0).contains(&share), "{paths}");
    assert!(paths.contains("hot50"), "{paths}");
    let source = client.tool("source", json!({ "profile": "p1", "function": "hot50" }));
    assert!(source.contains("total = (total * 31 + index) & 0xFFFFFFFF"), "{source}");
    let json = client.tool("top", json!({ "profile": "p1", "format": "json", "budget": 3000 }));
    let report: Value = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
    assert!(
        json.len() <= 3000 && report["functions"].as_array().is_some_and(|all| !all.is_empty()),
        "{json}"
    );
    target.assert_unhurt();
}

#[test]
fn wrong_calls_are_explained_and_the_session_goes_on() {
    let mut client = Client::initialized();
    assert!(client.refused("attach", json!({ "pid": 4_000_000 })).contains("4000000"));
    assert!(client.refused("attach", json!({ "pid": "redis" })).contains("an integer"));
    assert!(client.refused("top", json!({ "profile": "p1" })).contains("call attach first"));
    assert!(client.refused("top", json!({ "profile": "/nonexistent" })).contains("nor a file"));
    let me = std::process::id();
    let ptrace = client.refused("attach", json!({ "pid": me, "sampler": "ptrace" }));
    assert!(ptrace.contains("may_stop_threads: true"), "{ptrace}");
    let consistent = client.refused("dump", json!({ "pid": me, "consistent": true }));
    assert!(consistent.contains("may_stop_threads: true"), "{consistent}");
    for (params, method, code) in [
        (json!({ "name": "rm", "arguments": {} }), "tools/call", -32602),
        (json!({}), "tools/call", -32602),
        (json!({}), "resources/list", -32601),
    ] {
        let response = client.request(method, params);
        assert_eq!(response["error"]["code"], code, "{response}");
    }
    for (line, code) in [("{\"jsonrpc\"", -32700), ("[]", -32600), (&*"x".repeat(3 << 20), -32600)] {
        client.send(line);
        let response = client.receive();
        assert_eq!((&response["id"], &response["error"]["code"]), (&Value::Null, &json!(code)), "{response}");
    }
    assert_eq!(client.request("ping", json!({}))["result"], json!({}));
    assert_eq!(client.end(), Some(0));
}

#[test]
fn a_cancelled_capture_ends_at_once_and_gets_no_response() {
    let _alone = alone();
    let mut target = Target::start(&Fixture::c(&["ratio.c"]).build());
    let mut client = Client::initialized();
    let arguments = json!({ "pid": target.pid(), "seconds": 100 });
    let id = client.send_request("tools/call", json!({ "name": "attach", "arguments": arguments }));
    wait_for_cpu_time(target.pid(), Duration::from_millis(500));
    let began = Instant::now();
    let params = json!({ "requestId": id, "reason": "no longer needed" });
    client.send(
        &json!({ "jsonrpc": "2.0", "method": "notifications/cancelled", "params": params }).to_string(),
    );
    // The next message is the response to this: the cancelled call has none.
    assert_eq!(client.request("ping", json!({}))["result"], json!({}));
    assert_eq!(client.end(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    target.assert_unhurt();
}

#[test]
fn a_client_of_the_protocol_without_sessions_is_served() {
    let mut client = Client::start();
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {}
    });
    let discovered = client.request("server/discover", json!({ "_meta": meta }));
    assert_eq!(discovered["result"]["supportedVersions"][0], "2026-07-28", "{discovered}");
    let listed = client.request("tools/list", json!({ "_meta": meta }));
    assert_eq!(listed["result"]["resultType"], "complete", "{listed}");
    assert_eq!(listed["result"]["tools"].as_array().map(Vec::len), Some(9), "{listed}");
    let arguments = json!({ "name": "^systemd$|^init$|.", "budget": 500 });
    let params = json!({ "_meta": meta, "name": "list_processes", "arguments": arguments });
    let called = client.request("tools/call", params);
    let text = called["result"]["content"][0]["text"].as_str().expect("a text");
    assert!(text.contains("PID") && text.len() <= 500, "{text}");
    assert_eq!(client.end(), Some(0));
}
