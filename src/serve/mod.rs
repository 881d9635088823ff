//! The HTTP server: `/debug/pprof/*`, as Go's `net/http/pprof` serves it, for any process.
//!
//! ```text
//! door ► guard (is it allowed?) ► route (which resource?) ► targets (which process?)
//!                                   │                        └► captures (concurrency) ► job ► pages
//!                                   └► ui (pages that capture and show profiles) ► captured, web
//! ```
//!
//! This module translates between HTTP and the rest: `capture` makes profiles, `report` makes
//! texts. Not here: command-line flags and printing.

mod access;
mod capture_page;
mod capture_response;
mod captured;
mod captures;
mod discovery;
mod door;
mod guard;
mod job;
mod listen;
mod pages;
mod pending;
mod route;
mod spool;
mod spool_page;
mod status;
mod symbol;
mod targets;
mod ui;
mod web;

/// Gives any text to the parser of paths and queries, for fuzzing.
pub fn parse_any_request(text: &str) {
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    if let Err(error) = route::parse(path, &route::Parameters::parse(query), 3600) {
        assert!((400..600).contains(&error.status), "{}", error.status);
    }
}

use std::{sync::Arc, time::Duration};

pub use access::{Access, Address, TlsFiles};
pub use door::Door;
pub use spool::pages_of_spool;
pub use status::{Status, status};
pub use targets::Targets;
pub use web::pages_of;

use crate::{
    capture::{CaptureError, Request, Stop},
    web::Tools,
};
use captured::CaptureStore;
use captures::Captures;

/// What the server serves, to which clients, within which limits.
pub struct Options {
    /// Where to listen and which clients are accepted.
    pub door: Door,
    /// The processes that can be profiled.
    pub targets: Targets,
    /// How profiles are captured. Each HTTP request sets the process, the kind and the duration.
    pub request: Request,
    /// Limits on captures and responses.
    pub limits: Limits,
    /// Show the arguments of command lines. They may contain secrets.
    pub show_arguments: bool,
    /// Explains to a person why a capture failed and what to do.
    pub explain: fn(CaptureError) -> String,
}

/// Limits on captures and responses.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest duration of a capture, in seconds.
    pub max_seconds: u64,
    /// The number of concurrent captures: this many timed ones and this many instant ones.
    pub captures: usize,
    /// The largest profile that is sent, in bytes.
    pub max_response_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { max_seconds: 300, captures: 16, max_response_bytes: 256 << 20 }
    }
}

impl Door {
    /// A door that listens on `listen`, with default limits.
    pub fn new(listen: Address, access: Access) -> Door {
        Door { listen, access, connections: 64, request_timeout: Duration::from_secs(10) }
    }
}

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be bound.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address that was requested.
        address: Address,
        /// The error of bind(2) or listen(2).
        #[source]
        source: std::io::Error,
    },
    /// Other machines can connect, but clients need not authenticate.
    #[error(
        "other machines can connect to {address}: add --token-file, or --tls-client-ca with --tls-cert and --tls-key"
    )]
    Unprotected {
        /// The address that was requested.
        address: Address,
    },
    /// A token, key or certificate file cannot be used.
    #[error("{what} {}", path.display())]
    File {
        /// What failed, for example `cannot read the key`.
        what: &'static str,
        /// The file.
        path: std::path::PathBuf,
        /// The error of reading or parsing it.
        #[source]
        source: std::io::Error,
    },
    /// The certificate and the key cannot be used together.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
    /// The asynchronous runtime cannot start.
    #[error("cannot start the server")]
    Runtime(#[from] std::io::Error),
}

/// How long running work may take to end after a signal, before the process ends.
const SHUTDOWN: Duration = Duration::from_millis(500);

/// The state that all connections share.
struct Server {
    options: Options,
    captures: Captures,
    store: Arc<CaptureStore>,
}

/// Serves until `stop` is set. `tools` make the pages of captured profiles. `listening` is called
/// with the address when connections are accepted; port 0 has then become the real port.
///
/// # Errors
/// [`ServeError`] when the address, the files of TLS or the token cannot be used.
pub fn run(
    options: Options,
    tools: Tools,
    stop: &Stop,
    listening: impl FnOnce(&Address),
) -> Result<(), ServeError> {
    let captures = Captures::new(options.limits.captures);
    let server = Arc::new(Server { options, captures, store: Arc::new(CaptureStore::new(tools)) });
    // One thread suffices: captures run on threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(door::serve(Arc::clone(&server), stop, listening));
    server.captures.stop_all();
    // A capture ends soon after its stop flag is set; nobody needs a page that is still being made.
    runtime.shutdown_timeout(SHUTDOWN);
    done
}
