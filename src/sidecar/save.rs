//! Writes the profiles of a window to the spool: one for each service and kind.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{Event, live::Members, select::Share};
use crate::{
    capture::{Capture, Outcome, Response, kinds::Kind},
    profile::Profile,
    spool::{Entry, Group, Spool, SpoolError, Time, split},
};

/// How the files are named, and what they say.
#[derive(Clone, Copy, Debug)]
pub struct Saving<'a> {
    /// A file for each process.
    pub per_process: bool,
    /// Why the window ended early.
    pub mark: Option<&'a str>,
    /// Which share of the processes is watched, and how many of those that match are not.
    pub share: (Share, usize),
}

/// A time as the spool counts it.
pub fn spool_time(at: SystemTime) -> Time {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

/// A file: the service, and the process if it has a file of its own.
type FileKey = (String, Option<u32>);

/// Writes the outcome of a kind. What was written and what was not is passed to `report`.
pub fn save(
    spool: &mut Spool,
    outcome: &Outcome,
    members: &Members,
    saving: Saving<'_>,
    report: &mut dyn FnMut(&Event<'_>),
) {
    match &outcome.result {
        Ok(Response::Sampled(capture)) => {
            let window = (capture.started_at, capture.elapsed);
            let samples = samples_of(capture);
            save_profile(spool, (outcome.kind, &capture.profile), window, (members, samples), saving, report);
        }
        Ok(_) => {}
        Err(error) => report(&Event::KindRefused { kind: outcome.kind, error }),
    }
}

fn samples_of(capture: &Capture) -> (u64, u64) {
    (capture.tally.samples, capture.tally.lost)
}

/// Writes a profile of the processes `members`, divided by service.
pub fn save_profile(
    spool: &mut Spool,
    (kind, profile): (Kind, &Profile),
    (start, elapsed): (SystemTime, Duration),
    (members, samples): (&Members, (u64, u64)),
    saving: Saving<'_>,
    report: &mut dyn FnMut(&Event<'_>),
) {
    let files = files(members, saving);
    let groups: Vec<Group> = files.values().cloned().collect();
    let parts = split(profile, &groups);
    for ((service, pid), part) in files.into_keys().zip(parts) {
        if part.sample.is_empty() {
            continue;
        }
        let entry = Entry {
            start: spool_time(start),
            duration_ms: elapsed.as_millis().try_into().unwrap_or(u64::MAX),
            service,
            kind: kind.name.to_owned(),
            pid,
            mark: saving.mark.map(str::to_owned),
        };
        let samples = (count_of(&part), samples.1);
        match spool.add(entry, &part) {
            Ok((entry, path)) => report(&Event::Saved { entry: &entry, path: &path, samples }),
            Err(error) => {
                report(&Event::NotSaved(&error));
                // The other files of this window would not fit either.
                if is_hopeless(&error) {
                    return;
                }
            }
        }
    }
}

/// The number of samples of a profile, or of what its first value counts.
fn count_of(profile: &Profile) -> u64 {
    let first = profile.sample.iter().filter_map(|sample| sample.value.first());
    first.fold(0, |sum, value| sum.saturating_add(u64::try_from(*value).unwrap_or_default()))
}

fn is_hopeless(error: &SpoolError) -> bool {
    error.is_disk_full()
}

/// The files of a window, with the processes in each.
fn files(members: &Members, saving: Saving<'_>) -> BTreeMap<FileKey, Group> {
    let mut files: BTreeMap<FileKey, Group> = BTreeMap::new();
    for (pid, process) in members {
        let key = (process.labels.service().to_owned(), saving.per_process.then_some(*pid));
        let group = files.entry(key).or_insert_with_key(|(service, _)| Group {
            labels: HashMap::new(),
            comments: comments(service, saving),
        });
        group.labels.insert(*pid, process.labels.0.clone());
    }
    files
}

fn comments(service: &str, saving: Saving<'_>) -> Vec<String> {
    let mut comments = vec![format!("service: {service}")];
    let (share, others) = saving.share;
    if !share.is_all() {
        let percent = share.percent();
        comments.push(format!("share: {percent}% of the matching processes; {others} were left out"));
    }
    comments.extend(saving.mark.map(|mark| format!("trigger: {mark}")));
    comments
}
