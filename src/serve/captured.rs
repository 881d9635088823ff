//! The profiles that were captured on the pages: the last ones, each as its file's bytes, and what is said of each.
//!
//! Not here: capturing (`ui`), what is shown of a profile (`web`).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use super::{kinds::KindRow, route::ProfileRequest};
use crate::{
    process::Identity,
    text::go::clock,
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
    pub kind: &'static KindRow,
    /// How long; `None`: of one moment.
    pub seconds: Option<u64>,
    /// When it was done, as a time of day.
    pub clock: String,
    pub bytes: usize,
}

/// The site that shows them, and the list of them: what one has the other has too.
pub struct CaptureStore {
    site: Arc<Site>,
    all: Mutex<VecDeque<Captured>>,
}

impl CaptureStore {
    pub fn new(tools: Tools) -> CaptureStore {
        CaptureStore { site: Arc::new(Site::growing(tools)), all: Mutex::default() }
    }

    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// The newest first.
    pub fn list(&self) -> Vec<Captured> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// Keeps a profile that was just made, for whose room older ones may go.
    pub fn keep(&self, identity: &Identity, ask: &ProfileRequest, profile: Vec<u8>) -> Captured {
        let (pid, process, kind) = (identity.pid, identity.display_name(), ask.kind);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = clock(i64::try_from(now.as_nanos()).unwrap_or_default());
        let took = ask.seconds.map_or(String::new(), |seconds| format!(" {seconds}s"));
        let name = format!("{process} (pid {pid}) {}{took} {clock}", kind.name);
        let bytes = profile.len();
        // Numbers are given and taken away under the same lock, so that list and site never differ.
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.site.add(Offered::encoded(&name, profile, &format!("./?pid={pid}")));
        let captured = Captured { number, pid, process, kind, seconds: ask.seconds, clock, bytes };
        all.push_back(captured.clone());
        let sizes: Vec<usize> = all.iter().map(|one| one.bytes).collect();
        for _ in 0..too_many(&sizes) {
            all.pop_front();
            self.site.remove_oldest();
        }
        captured
    }
}

/// How many of these, the oldest first, have to go.
fn too_many(sizes: &[usize]) -> usize {
    let mut kept: usize = sizes.iter().sum();
    let mut gone = 0;
    while sizes.len() - gone > MOST || (kept > MOST_BYTES && sizes.len() - gone > 1) {
        kept -= sizes[gone];
        gone += 1;
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_when_there_are_too_many_or_too_large_and_the_newest_stays() {
        assert_eq!(too_many(&[]), 0);
        assert_eq!(too_many(&[1; MOST]), 0);
        assert_eq!(too_many(&[1; MOST + 1]), 1);
        assert_eq!(too_many(&[MOST_BYTES / 2, 1, MOST_BYTES / 2]), 1);
        assert_eq!(too_many(&[MOST_BYTES / 2, MOST_BYTES / 2]), 0);
        assert_eq!(too_many(&[1, 1, MOST_BYTES]), 2);
        assert_eq!(too_many(&[1, MOST_BYTES + 1]), 1);
        assert_eq!(too_many(&[MOST_BYTES + 1]), 0);
    }
}
