//! Messages: JSON-RPC 2.0 (<https://www.jsonrpc.org/specification>), one per line, and the messages
//! of the Model Context Protocol that a server with tools has.
//!
//! Two lifecycles are spoken. Up to version 2025-11-25 of the protocol, `initialize` agrees on a
//! version once. From 2026-07-28, each request has the version in its `_meta`, and
//! `server/discover` returns the versions that a server knows.

use std::io::{self, BufRead};

use serde_json::{Map, Value, json};

use super::tool::Tool;

/// The versions that are agreed on with `initialize`, the newest first.
const SESSION_VERSIONS: [&str; 4] = ["2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"];
/// The version that each request states itself.
const REQUEST_VERSION: &str = "2026-07-28";

/// The longest line, in bytes. Arguments of tools are short.
const MAX_LINE: usize = 1 << 20;

const VERSION_KEY: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES_KEY: &str = "io.modelcontextprotocol/clientCapabilities";
const SERVER_KEY: &str = "io.modelcontextprotocol/serverInfo";

/// The version of the tools and their arguments. A number of a later version means that a tool or
/// argument has changed its meaning.
pub const SCHEMA: &str = "rprof.mcp/1";

const INSTRUCTIONS: &str = "\
rprof profiles running processes from outside. Begin with list_processes (the busiest first), then \
attach, which samples a process and keeps the profile under a short id (p1, p2 ...). Give that id, or \
the path of a profile file, to top, paths, source, diff and quality. dump shows what every thread does \
now. doctor says what works here. Shares of few samples are uncertain: quality says how far to trust a \
profile. Nothing is changed, and no thread is stopped unless may_stop_threads is true.";

/// A line of input.
#[derive(Debug, PartialEq, Eq)]
pub enum Line {
    /// A whole line.
    Whole(Vec<u8>),
    /// A line that is longer than [`MAX_LINE`], which was skipped.
    TooLong,
}

/// Reads the next line. `None`: the input has ended (a line without an end is no message).
pub fn read_line(input: &mut impl BufRead) -> io::Result<Option<Line>> {
    let (mut line, mut is_too_long) = (Vec::new(), false);
    loop {
        let available = match input.fill_buf() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            available => available?,
        };
        if available.is_empty() {
            return Ok(None);
        }
        let end = available.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(available.len(), |at| at + 1);
        is_too_long |= line.len() + taken > MAX_LINE;
        if is_too_long {
            line = Vec::new();
        } else {
            line.extend_from_slice(&available[..taken]);
        }
        input.consume(taken);
        if end.is_some() {
            return Ok(Some(if is_too_long { Line::TooLong } else { Line::Whole(line) }));
        }
    }
}

/// An error of the protocol: the client, not the model, made a mistake.
#[derive(Debug, PartialEq)]
pub struct Failure {
    code: i64,
    message: String,
    data: Option<Value>,
}

impl Failure {
    /// The message is not a request.
    pub fn invalid(message: &str) -> Failure {
        Failure { code: -32600, message: message.into(), data: None }
    }

    /// There is no such method.
    pub fn no_method(method: &str) -> Failure {
        let message = format!("there is no method `{method}`; rprof has tools/list and tools/call");
        Failure { code: -32601, message, data: None }
    }

    /// There is no such tool.
    pub fn no_tool(name: &str, tools: &[Tool]) -> Failure {
        let all: Vec<&str> = tools.iter().map(|tool| tool.name).collect();
        let message = format!("there is no tool `{name}`; the tools are {}", all.join(", "));
        Failure { code: -32602, message, data: None }
    }

    /// Too many calls are running.
    pub fn busy(most: usize) -> Failure {
        let message = format!("{most} calls are running, which is the most: wait for one, or cancel one");
        Failure { code: -32000, message, data: None }
    }
}

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its ID: a text or a number.
    pub id: Value,
    /// The method.
    pub method: String,
    /// The parameters.
    pub params: Map<String, Value>,
}

/// What a version of the protocol expects in a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Versions that begin with `initialize`.
    Session,
    /// Versions that each request states; results have a type.
    Request,
}

impl Request {
    /// The dialect that the request is written in. Errors: a version that rprof does not speak, or
    /// metadata is missing.
    pub fn dialect(&self) -> Result<Dialect, Failure> {
        let meta = self.params.get("_meta").and_then(Value::as_object);
        let version = meta.and_then(|meta| meta.get(VERSION_KEY)).and_then(Value::as_str);
        let Some(version) = version else {
            return match &*self.method {
                "server/discover" => Err(missing(VERSION_KEY)),
                _ => Ok(Dialect::Session),
            };
        };
        match version {
            _ if SESSION_VERSIONS.contains(&version) => Ok(Dialect::Session),
            REQUEST_VERSION if meta.is_some_and(|meta| meta.contains_key(CAPABILITIES_KEY)) => {
                Ok(Dialect::Request)
            }
            REQUEST_VERSION => Err(missing(CAPABILITIES_KEY)),
            _ => Err(Failure {
                code: -32022,
                message: "Unsupported protocol version".into(),
                data: Some(json!({ "requested": version, "supported": versions() })),
            }),
        }
    }
}

fn missing(key: &str) -> Failure {
    let message = format!("the request's _meta has no {key}, which version {REQUEST_VERSION} requires");
    Failure { code: -32602, message, data: None }
}

fn versions() -> Vec<&'static str> {
    [REQUEST_VERSION].into_iter().chain(SESSION_VERSIONS).collect()
}

/// What a line of input is.
#[derive(Debug, PartialEq)]
pub enum Incoming {
    /// A request.
    Request(Request),
    /// The client no longer wants the response to the request with this ID.
    Cancelled(Value),
    /// A response, or a notification that needs no action.
    Nothing,
    /// An error, with the ID of the request (null if it has none).
    Wrong(Value, Failure),
}

/// Reads a line as a message.
pub fn parse(line: Line) -> Incoming {
    let Line::Whole(line) = line else {
        let message = format!("the line is longer than {MAX_LINE} bytes and was skipped");
        return Incoming::Wrong(Value::Null, Failure::invalid(&message));
    };
    if line.trim_ascii().is_empty() {
        return Incoming::Nothing;
    }
    let message = match serde_json::from_slice(&line) {
        Ok(Value::Object(message)) => message,
        Ok(Value::Array(_)) => {
            let failure = Failure::invalid("batches are not supported: send one message per line");
            return Incoming::Wrong(Value::Null, failure);
        }
        Ok(_) => return Incoming::Wrong(Value::Null, Failure::invalid("a message is a JSON object")),
        Err(error) => {
            let message = format!("the line is not JSON: {error}");
            return Incoming::Wrong(Value::Null, Failure { code: -32700, message, data: None });
        }
    };
    of_object(message)
}

fn of_object(mut message: Map<String, Value>) -> Incoming {
    let id = message.remove("id");
    let is_response = message.contains_key("result") || message.contains_key("error");
    let params = match message.remove("params") {
        Some(Value::Object(params)) => Some(params),
        None => Some(Map::new()),
        Some(_) => None,
    };
    let method = match message.get("method").and_then(Value::as_str) {
        Some(method) => method.to_owned(),
        None if is_response => return Incoming::Nothing,
        None => {
            let failure = Failure::invalid("the message has no method");
            return Incoming::Wrong(id.unwrap_or_default(), failure);
        }
    };
    match (id, params) {
        (None, Some(params)) => match params.get("requestId").filter(|_| method == "notifications/cancelled")
        {
            Some(id) => Incoming::Cancelled(id.clone()),
            None => Incoming::Nothing,
        },
        (None, None) => Incoming::Nothing,
        (Some(id), _) if !(id.is_string() || id.is_number()) => {
            Incoming::Wrong(Value::Null, Failure::invalid("the id must be a text or a number"))
        }
        (Some(id), _) if message.get("jsonrpc").and_then(Value::as_str) != Some("2.0") => {
            Incoming::Wrong(id, Failure::invalid("jsonrpc must be \"2.0\""))
        }
        (Some(id), None) => {
            let failure = Failure { code: -32602, message: "params must be an object".into(), data: None };
            Incoming::Wrong(id, failure)
        }
        (Some(id), Some(params)) => Incoming::Request(Request { id, method, params }),
    }
}

/// A response to a request.
pub fn response(id: &Value, result: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// An error response.
pub fn error(id: &Value, failure: &Failure) -> Value {
    let mut error = json!({ "code": failure.code, "message": failure.message });
    if let Some(data) = &failure.data {
        error["data"] = data.clone();
    }
    json!({ "jsonrpc": "2.0", "id": id, "error": error })
}

fn server() -> Value {
    json!({ "name": "rprof", "title": "rprof", "version": env!("CARGO_PKG_VERSION") })
}

fn instructions() -> String {
    format!("{INSTRUCTIONS} Schema {SCHEMA}.")
}

/// The result of `initialize`: the version that the client requests if rprof speaks it, else the
/// newest.
pub fn initialized(params: &Map<String, Value>) -> Value {
    let requested = params.get("protocolVersion").and_then(Value::as_str).unwrap_or_default();
    let known = SESSION_VERSIONS.iter().find(|version| **version == requested);
    json!({
        "protocolVersion": known.unwrap_or(&SESSION_VERSIONS[0]),
        "capabilities": { "tools": { "listChanged": false } },
        "serverInfo": server(),
        "instructions": instructions(),
    })
}

/// The result of `server/discover`.
pub fn discovered() -> Value {
    json!({
        "resultType": "complete",
        "supportedVersions": versions(),
        "capabilities": { "tools": {} },
        "instructions": instructions(),
        "ttlMs": 0,
        "cacheScope": "private",
        "_meta": { SERVER_KEY: server() },
    })
}

/// The result of `tools/list`.
pub fn listed(tools: &[Tool], dialect: Dialect) -> Value {
    let tools: Vec<Value> = tools.iter().map(Tool::json).collect();
    let mut result = json!({ "tools": tools });
    if dialect == Dialect::Request {
        result["ttlMs"] = json!(0);
        result["cacheScope"] = json!("private");
    }
    with_type(result, dialect)
}

/// The result of `tools/call`. An error of a tool is a result, so that the model reads it.
pub fn called(result: Result<String, String>, dialect: Dialect) -> Value {
    let is_error = result.is_err();
    let text = result.unwrap_or_else(|error| error);
    with_type(json!({ "content": [{ "type": "text", "text": text }], "isError": is_error }), dialect)
}

fn with_type(mut result: Value, dialect: Dialect) -> Value {
    if dialect == Dialect::Request {
        result["resultType"] = json!("complete");
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Incoming {
        parse(Line::Whole(text.as_bytes().to_vec()))
    }

    #[track_caller]
    fn code(text: &str) -> i64 {
        match read(text) {
            Incoming::Wrong(_, failure) => failure.code,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lines_are_read_whole_and_longer_ones_are_skipped() {
        let mut text = vec![b'x'; MAX_LINE + 1];
        text.extend(b"\nshort\n");
        text.extend(vec![b'y'; MAX_LINE - 1]);
        text.extend(b"\nno end");
        let mut input = io::BufReader::with_capacity(7, &text[..]);
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input).expect("memory") {
            lines.push(line);
        }
        assert_eq!(lines[..2], [Line::TooLong, Line::Whole(b"short\n".to_vec())]);
        assert!(matches!(&lines[2..], [Line::Whole(line)] if line.len() == MAX_LINE));
    }

    #[test]
    fn wrong_messages_get_the_codes_of_json_rpc() {
        assert_eq!(code("{"), -32700);
        assert_eq!(code("\u{0}"), -32700);
        assert_eq!(code("[]"), -32600);
        assert_eq!(code("7"), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"1.0","id":1,"method":"ping"}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#), -32600);
        assert_eq!(code(r#"{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}"#), -32602);
        assert!(matches!(parse(Line::TooLong), Incoming::Wrong(Value::Null, _)));
        for ignored in ["", " \r\n", r#"{"id":1,"result":{}}"#, r#"{"method":"notifications/initialized"}"#] {
            assert_eq!(read(ignored), Incoming::Nothing, "{ignored}");
        }
        let cancelled = r#"{"method":"notifications/cancelled","params":{"requestId":"a"}}"#;
        assert_eq!(read(cancelled), Incoming::Cancelled(json!("a")));
    }

    #[test]
    fn the_requested_version_is_used_if_it_is_known_else_the_newest() {
        let agreed = |version: &str| {
            let params = json!({ "protocolVersion": version });
            initialized(params.as_object().expect("an object"))["protocolVersion"].clone()
        };
        assert_eq!(agreed("2024-11-05"), "2024-11-05");
        assert_eq!(agreed("2099-01-01"), SESSION_VERSIONS[0]);
        assert_eq!(agreed(REQUEST_VERSION), SESSION_VERSIONS[0]);
    }

    fn request(method: &str, meta: Value) -> Request {
        let params = json!({ "_meta": meta }).as_object().expect("an object").clone();
        Request { id: json!(1), method: method.into(), params }
    }

    #[test]
    fn a_request_may_state_its_version() {
        let new = json!({ VERSION_KEY: REQUEST_VERSION, CAPABILITIES_KEY: {} });
        assert_eq!(request("tools/list", new).dialect(), Ok(Dialect::Request));
        assert_eq!(request("tools/list", json!({})).dialect(), Ok(Dialect::Session));
        let old = json!({ VERSION_KEY: "2025-06-18" });
        assert_eq!(request("tools/list", old).dialect(), Ok(Dialect::Session));
        let code = |request: Request| request.dialect().map_err(|failure| failure.code);
        assert_eq!(code(request("tools/list", json!({ VERSION_KEY: "1999-01-01" }))), Err(-32022));
        assert_eq!(code(request("tools/list", json!({ VERSION_KEY: REQUEST_VERSION }))), Err(-32602));
        assert_eq!(code(request("server/discover", json!({}))), Err(-32602));
    }

    #[test]
    fn results_have_a_type_where_the_version_requires_it() {
        assert_eq!(called(Ok("x".into()), Dialect::Session).get("resultType"), None);
        let result = called(Err("why".into()), Dialect::Request);
        assert_eq!((&result["resultType"], &result["isError"]), (&json!("complete"), &json!(true)));
        assert_eq!(listed(&[], Dialect::Request)["cacheScope"], "private");
    }
}
