//! Kinds that one call reads, at the end of each window: heap, goroutines, threads …

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{
    Event, Settings,
    live::Members,
    save::{Saving, save_profile},
    select::Watched,
};
use crate::{
    capture::{
        self, Request,
        kinds::{Kind, Make, Span},
    },
    profile::{Profile, amend::add_pid_label},
    spool::Spool,
};

/// The kinds that are read at one instant.
fn instant_kinds(kinds: &[Kind]) -> Vec<Kind> {
    let is_read = |kind: &Kind| {
        kind.span == Span::Instant && kind.makers.iter().all(|maker| matches!(maker.make, Make::Once(_)))
    };
    kinds.iter().copied().filter(is_read).collect()
}

/// Reads the instant kinds of the processes that have them, and writes them.
pub fn save_instant_kinds(
    spool: &mut Spool,
    settings: &Settings,
    watched: &[Arc<Watched>],
    saving: Saving<'_>,
    report: &mut dyn FnMut(&Event<'_>),
) {
    // Each process has a file of its own: the profiles are not of the same instant.
    let saving = Saving { per_process: true, ..saving };
    for kind in instant_kinds(&settings.kinds) {
        for process in watched {
            let pid = process.identity.pid;
            if let Some(profile) = read(kind, pid) {
                let members = Members::from([(pid, Arc::clone(process))]);
                let now = (SystemTime::now(), Duration::ZERO);
                save_profile(spool, (kind, &profile), now, (&members, (0, 0)), saving, report);
            }
        }
    }
}

/// The profile of a process; `None`: it has none of this kind, or has ended.
fn read(kind: Kind, pid: u32) -> Option<Profile> {
    let request = Request { kinds: vec![kind], ..Request::now(pid) };
    let is_offered = kind.makers.iter().any(|maker| (maker.offers)(&request).is_ok());
    let response = is_offered.then(|| capture::once(&request, &mut |_| {}).ok())??;
    let mut profile = response.profile()?.into_owned();
    add_pid_label(&mut profile, pid);
    Some(profile)
}
