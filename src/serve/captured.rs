//! The profiles that were captured on the pages: the last ones, each as its file's bytes, and what is said of each.
//!
//! Not here: capturing (`ui`), what is shown of a profile (`web`).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use super::route::ProfileAsk;
use crate::{
    go_text::clock,
    process::Identity,
    web::{Offered, Site, Tools},
};

/// As many are kept,
pub const MOST: usize = 30;
/// and as many bytes: the oldest go first. The newest is kept whatever it has (`Limits::answer_bytes` bounds it).
pub const MOST_BYTES: usize = 256 << 20;

/// What is said of a profile that was captured.
#[derive(Clone, Debug)]
pub struct Captured {
    /// Its address has it; it stays its own.
    pub number: usize,
    pub pid: u32,
    /// The process's name.
    pub process: String,
    pub kind: &'static str,
    /// How long; `None`: of one moment.
    pub seconds: Option<u64>,
    /// When it was done, as a time of day.
    pub clock: String,
    pub bytes: usize,
}

/// The site that shows them, and the list of them: what one has the other has too.
pub struct Gallery {
    site: Arc<Site>,
    all: Mutex<VecDeque<Captured>>,
}

impl Gallery {
    pub fn new(tools: Tools) -> Gallery {
        Gallery { site: Arc::new(Site::growing(tools)), all: Mutex::default() }
    }

    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// The newest first.
    pub fn list(&self) -> Vec<Captured> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// Keeps a profile that was just made, for whose room older ones may go.
    pub fn keep(&self, identity: &Identity, ask: &ProfileAsk, profile: Vec<u8>) -> Captured {
        let (pid, process, kind) = (identity.pid, identity.display_name(), ask.kind.name);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = clock(i64::try_from(now.as_nanos()).unwrap_or_default());
        let took = ask.seconds.map_or(String::new(), |seconds| format!(" {seconds}s"));
        let name = format!("{process} (pid {pid}) {kind}{took} {clock}");
        let bytes = profile.len();
        // Numbers are given and taken away under the same lock, so that list and site never differ.
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.site.add(Offered::encoded(&name, profile, &format!("./?pid={pid}")));
        let captured = Captured { number, pid, process, kind, seconds: ask.seconds, clock, bytes };
        all.push_back(captured.clone());
        let mut kept: usize = all.iter().map(|one| one.bytes).sum();
        while all.len() > MOST || (kept > MOST_BYTES && all.len() > 1) {
            kept -= all.pop_front().map_or(0, |one| one.bytes);
            self.site.remove_oldest();
        }
        captured
    }
}
