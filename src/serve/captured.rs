//! The profiles that were captured on the pages: the newest ones, each as its file's bytes, and the
//! facts that the list shows about each.
//!
//! Not here: capturing (`ui`), showing a profile (`web`).

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use super::route::ProfileRequest;
use crate::{
    capture::kinds::Kind,
    process::Identity,
    text::go::clock,
    web::{Offered, Site, Tools},
};

/// The number of profiles that are kept.
pub const MAX_KEPT: usize = 30;
/// The bytes that are kept; the oldest profiles are dropped first. The newest profile is always
/// kept (`Limits::max_response_bytes` bounds it).
pub const MAX_KEPT_BYTES: usize = 256 << 20;

/// A captured profile, as the list shows it.
#[derive(Clone, Debug)]
pub struct Captured {
    /// The number in its URL, which is never used again.
    pub number: usize,
    /// The process's PID.
    pub pid: u32,
    /// The process's name.
    pub process: String,
    /// The kind of profile.
    pub kind: Kind,
    /// The duration in seconds; `None` for an instant profile.
    pub seconds: Option<u64>,
    /// The time of day at which the capture ended.
    pub clock: String,
    /// The size of the file in bytes.
    pub bytes: usize,
}

/// The captured profiles: the site that shows them and the list, which always have the same
/// content.
pub struct CaptureStore {
    site: Arc<Site>,
    all: Mutex<VecDeque<Captured>>,
}

impl CaptureStore {
    /// An empty store; `tools` make the pages.
    pub fn new(tools: Tools) -> CaptureStore {
        CaptureStore { site: Arc::new(Site::growing(tools)), all: Mutex::default() }
    }

    /// The site that shows the profiles.
    pub fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// All kept profiles, the newest first.
    pub fn list(&self) -> Vec<Captured> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    /// Adds a profile; old ones are dropped when the limits are exceeded.
    pub fn keep(&self, identity: &Identity, request: &ProfileRequest, profile: Vec<u8>) -> Captured {
        let (pid, process, kind) = (identity.pid, identity.display_name(), request.kind);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let clock = clock(i64::try_from(now.as_nanos()).unwrap_or_default());
        let took = request.seconds.map_or(String::new(), |seconds| format!(" {seconds}s"));
        let name = format!("{process} (pid {pid}) {}{took} {clock}", kind.path());
        let bytes = profile.len();
        // One lock covers both, so that the list and the site never differ.
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let number = self.site.add(Offered::encoded(&name, profile, &format!("./?pid={pid}")));
        let captured = Captured { number, pid, process, kind, seconds: request.seconds, clock, bytes };
        all.push_back(captured.clone());
        let sizes: Vec<usize> = all.iter().map(|one| one.bytes).collect();
        for _ in 0..excess(&sizes) {
            all.pop_front();
            self.site.remove_oldest();
        }
        captured
    }
}

/// How many of these profiles, the oldest first, exceed the limits.
fn excess(sizes: &[usize]) -> usize {
    let mut kept: usize = sizes.iter().sum();
    let mut gone = 0;
    while sizes.len() - gone > MAX_KEPT || (kept > MAX_KEPT_BYTES && sizes.len() - gone > 1) {
        kept -= sizes[gone];
        gone += 1;
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_profiles_are_dropped_at_a_limit_and_the_newest_is_kept() {
        assert_eq!(excess(&[]), 0);
        assert_eq!(excess(&[1; MAX_KEPT]), 0);
        assert_eq!(excess(&[1; MAX_KEPT + 1]), 1);
        assert_eq!(excess(&[MAX_KEPT_BYTES / 2, 1, MAX_KEPT_BYTES / 2]), 1);
        assert_eq!(excess(&[MAX_KEPT_BYTES / 2, MAX_KEPT_BYTES / 2]), 0);
        assert_eq!(excess(&[1, 1, MAX_KEPT_BYTES]), 2);
        assert_eq!(excess(&[1, MAX_KEPT_BYTES + 1]), 1);
        assert_eq!(excess(&[MAX_KEPT_BYTES + 1]), 0);
    }
}
