//! HTTP: `/debug/pprof/*`, as Go programs offer it of themselves, for any process.
//!
//! ```text
//! door ► guard (may it ask?) ► route (what does it ask?) ► targets (of whom?) ► captures (one at a time) ► kinds ► pages
//!                            └► ui (pages on which profiles are made and looked at) ► captured, web
//! ```
//!
//! This module only translates: profiles are made by `capture`, texts by `report`. Not here: flags and
//! what is printed.

mod access;
mod capture_page;
mod captured;
mod captures;
mod discovery;
mod door;
mod guard;
mod kinds;
mod listen;
mod pages;
mod route;
mod symbol;
mod targets;
mod ui;
mod web;

use std::{sync::Arc, time::Duration};

pub use access::{Access, Address, TlsFiles};
pub use door::Door;
pub use kinds::Failed;
pub use targets::Targets;
pub use web::pages_of;

use crate::{
    capture::{Request, Stop},
    web::Tools,
};
use captured::CaptureStore;
use captures::Captures;

/// What is served, to whom, and how much of it.
pub struct Options {
    pub door: Door,
    pub targets: Targets,
    /// How profiles are made; processes, kind and duration are the asker's.
    pub request: Request,
    pub limits: Limits,
    /// Leave arguments out of command lines: they may hold secrets.
    pub redact_cmdline: bool,
    /// Why a capture failed and what to do, for a person.
    pub explain: fn(Failed) -> String,
}

/// What one asker, and all of them, may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest profile.
    pub most_seconds: u64,
    /// Captures at one time: so many that last, and so many of a moment.
    pub captures: usize,
    /// The largest answer, in bytes.
    pub answer_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { most_seconds: 300, captures: 16, answer_bytes: 256 << 20 }
    }
}

impl Door {
    /// Listens at an address, with limits that suit.
    pub fn new(listen: Address, access: Access) -> Door {
        Door { listen, access, connections: 64, request_timeout: Duration::from_secs(10) }
    }
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address}")]
    Listen {
        address: Address,
        #[source]
        source: std::io::Error,
    },
    #[error(
        "{address} can be reached from other machines: that takes --token-file, or --tls-client-ca with --tls-cert and --tls-key"
    )]
    Unprotected { address: Address },
    #[error("{what} {}", path.display())]
    File {
        what: &'static str,
        path: std::path::PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    #[error("the server cannot run")]
    Runtime(#[from] std::io::Error),
}

/// What all connections share.
struct Server {
    options: Options,
    captures: Captures,
    gallery: Arc<CaptureStore>,
}

/// Serves until told to stop; `tools` make the pages of captured profiles. `listening` is called with the
/// address once connections are taken; port 0 has become a real one.
pub fn run(
    options: Options,
    tools: Tools,
    stop: &Stop,
    listening: impl FnOnce(&Address),
) -> Result<(), ServeError> {
    let captures = Captures::new(options.limits.captures);
    let server = Arc::new(Server { options, captures, gallery: Arc::new(CaptureStore::new(tools)) });
    // Waiting is all that happens here: captures have threads of their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(door::serve(Arc::clone(&server), stop, listening));
    server.captures.stop_all();
    // Captures end within moments of being told to.
    runtime.shutdown_timeout(Duration::from_secs(5));
    done
}
