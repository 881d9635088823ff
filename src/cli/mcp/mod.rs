//! `rprof mcp`: the profiler as tools of a language model, by the Model Context Protocol
//! (<https://modelcontextprotocol.io>) on standard input and output.
//!
//! `protocol` reads and writes messages, `tools` is the table of tools, `arguments` describes and
//! checks their arguments, `store` keeps captured profiles. A tool uses the same code as the verb
//! of its name: `capture::open` and the modules of `report`. `docs/MCP.md` documents all tools; a
//! test compares it with the table.
//!
//! Tools change nothing. What may stop a thread of a process needs the argument `may_stop_threads`.
//! Files are read only where a call names them.
//!
//! The messages are read and written with `serde_json`. The SDK of the protocol's authors (the
//! crate `rmcp`, version 3.11) would add 40 packages to the 270 of `Cargo.lock` (an asynchronous
//! codec, tracing, chrono, schemars) for the few messages that a server with tools alone has.

mod arguments;
mod capture;
mod protocol;
mod reports;
mod store;
mod text;
mod tool;
mod tools;

use std::{
    collections::HashMap,
    io::{self, BufRead, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;
use serde_json::Value;

use super::{
    args::{DebugArgs, McpArgs},
    sampling::check_debug_options,
    signals::stop_on_signals,
};
use crate::capture::{CaptureError, Stop};
use arguments::Arguments;
use protocol::{Dialect, Failure, Incoming, Line, Request};
use store::Store;
use tool::{Call, MAY_STOP, Tool};

/// How many calls run at the same time.
const MOST_CALLS: usize = 4;
/// How many lines wait to be read. A client that sends more has to wait.
const MOST_LINES: usize = 16;
/// How often signals are checked.
const CHECK_EVERY: Duration = Duration::from_millis(100);

/// Runs the verb: until standard input ends, or a signal.
pub fn run(arguments: McpArgs) -> Result<()> {
    check_debug_options(&arguments.debug)?;
    let ended = stop_on_signals()?;
    let server = Arc::new(Server {
        store: Store::default(),
        debug: arguments.debug,
        running: Mutex::default(),
        out: Mutex::new(io::stdout()),
    });
    let (sender, lines) = mpsc::sync_channel(MOST_LINES);
    // Not joined: a thread that waits for input cannot be woken.
    thread::spawn(move || {
        let mut input = io::stdin().lock();
        while let Some(line) = read_line(&mut input) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    let mut calls: Vec<JoinHandle<()>> = Vec::new();
    while !ended.is_set() {
        match lines.recv_timeout(CHECK_EVERY) {
            Ok(line) => calls.extend(server.receive(line)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => break,
        }
        calls.retain(|call| !call.is_finished());
    }
    server.stop_all();
    for call in calls {
        let _ = call.join();
    }
    Ok(())
}

fn read_line(input: &mut impl BufRead) -> Option<Line> {
    protocol::read_line(input).ok().flatten()
}

/// The state of a session.
struct Server {
    store: Store,
    debug: DebugArgs,
    /// The running calls by the ID of their request, as JSON.
    running: Mutex<HashMap<String, Running>>,
    out: Mutex<io::Stdout>,
}

/// A running call.
#[derive(Clone, Default)]
struct Running {
    stop: Stop,
    /// Set when the client has cancelled the request: it gets no response.
    is_cancelled: Stop,
}

impl Server {
    /// Handles a line of input. Returns the thread of a call that it starts.
    fn receive(self: &Arc<Self>, line: Line) -> Option<JoinHandle<()>> {
        match protocol::parse(line) {
            Incoming::Nothing => None,
            Incoming::Wrong(id, failure) => {
                self.send(&protocol::error(&id, &failure));
                None
            }
            Incoming::Cancelled(id) => {
                if let Some(running) = self.running().get(&id.to_string()) {
                    running.is_cancelled.set();
                    running.stop.set();
                }
                None
            }
            Incoming::Request(request) => self.handle(request),
        }
    }

    fn handle(self: &Arc<Self>, request: Request) -> Option<JoinHandle<()>> {
        let dialect = match request.dialect() {
            Ok(dialect) => dialect,
            Err(failure) => {
                self.send(&protocol::error(&request.id, &failure));
                return None;
            }
        };
        let result = match &*request.method {
            "initialize" => Ok(protocol::initialized(&request.params)),
            "server/discover" => Ok(protocol::discovered()),
            "ping" => Ok(Value::Object(serde_json::Map::new())),
            "tools/list" => Ok(protocol::listed(tools::ALL, dialect)),
            "tools/call" => match self.start(request.clone(), dialect) {
                Ok(call) => return Some(call),
                Err(failure) => Err(failure),
            },
            method => Err(Failure::no_method(method)),
        };
        self.send(&match result {
            Ok(result) => protocol::response(&request.id, result),
            Err(failure) => protocol::error(&request.id, &failure),
        });
        None
    }

    /// Starts a call of a tool on a thread of its own.
    fn start(self: &Arc<Self>, request: Request, dialect: Dialect) -> Result<JoinHandle<()>, Failure> {
        let name = request.params.get("name").and_then(Value::as_str).unwrap_or_default();
        let tool = tools::ALL
            .iter()
            .find(|tool| tool.name == name)
            .ok_or_else(|| Failure::no_tool(name, tools::ALL))?;
        let key = request.id.to_string();
        let running = Running::default();
        {
            let mut all = self.running();
            if all.contains_key(&key) {
                return Err(Failure::invalid(&format!("request {key} is running already: use another id")));
            }
            if all.len() >= MOST_CALLS {
                return Err(Failure::busy(MOST_CALLS));
            }
            all.insert(key.clone(), running.clone());
        }
        let server = Arc::clone(self);
        Ok(thread::spawn(move || {
            let arguments = request.params.get("arguments").cloned().unwrap_or_default();
            let called = AssertUnwindSafe(|| server.call(tool, arguments, running.stop.clone()));
            let result = catch_unwind(called).unwrap_or_else(|_| {
                Err("error: the call failed by a bug in rprof; other tools still work".to_owned())
            });
            server.running().remove(&key);
            if !running.is_cancelled.is_set() {
                server.send(&protocol::response(&request.id, protocol::called(result, dialect)));
            }
        }))
    }

    /// The text that a tool returns, or the explanation of its error.
    fn call(&self, tool: &'static Tool, arguments: Value, stop: Stop) -> Result<String, String> {
        let arguments = Arguments::check(tool.name, tool.parameters, arguments)?;
        let call = Call { arguments: &arguments, store: &self.store, stop, debug: &self.debug };
        (tool.call)(&call).map_err(|error| {
            let mut text = super::advice::explain(&error);
            let is_refused = matches!(error.downcast_ref(), Some(CaptureError::Sampler { .. }));
            if is_refused && tool.may_stop() && !arguments.flag(MAY_STOP) {
                text += "\n  or       with may_stop_threads: true (ask the user), which permits ptrace";
            }
            text
        })
    }

    fn running(&self) -> std::sync::MutexGuard<'_, HashMap<String, Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all captures early, as the client has gone.
    fn stop_all(&self) {
        self.running().values().for_each(|running| running.stop.set());
    }

    /// Writes a message. A client that has closed its end gets nothing: then the input ends too.
    fn send(&self, message: &Value) {
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(out, "{message}").and_then(|()| out.flush());
    }
}
