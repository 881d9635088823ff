//! The heaps of a process's native allocators: who uses how much, by arena, size and type. Read
//! once; the process is not stopped.
//!
//! Not here: how an allocator's chunks are found (`crate::heap`), what a runtime records itself
//! (`accounts`).

mod census;
mod format;
mod growth;
mod held_text;
mod profile;
mod reach;
mod recent;
mod render;
mod report;
mod sampled;
mod text;

use std::borrow::Cow;
use std::io;

pub use growth::Growth;
pub use report::{AllocatorReport, HeapReport, HeldRow, Leaks};
pub use text::write_growth;

use super::{
    CaptureError, Content, Reading, Request, Response,
    kinds::{Kind, TextForm, available},
};
use crate::{heap, issue::Issue, profile::proto::Profile, text::counted};

/// A census as a profile and as texts.
#[derive(Debug)]
pub struct HeapContent {
    /// The census.
    pub report: HeapReport,
    profile: Profile,
    /// Whether the profile has the stacks that the allocator itself recorded.
    has_stacks: bool,
}

impl HeapContent {
    fn write_report(&self, writer: &mut dyn io::Write) -> io::Result<()> {
        text::write(&self.report, writer)?;
        held_text::write(&self.report, writer)?;
        let about_stacks = if self.has_stacks { text::STACKS } else { text::NO_STACKS };
        writeln!(writer, "\n{about_stacks}.")
    }
}

impl Content for HeapContent {
    fn profile(&self) -> Cow<'_, Profile> {
        Cow::Borrowed(&self.profile)
    }

    fn write_text(&self, form: TextForm, writer: &mut dyn io::Write) -> Option<io::Result<()>> {
        Some(match form {
            TextForm::Json => serde_json::to_writer_pretty(&mut *writer, &render::json(&self.report))
                .map_err(io::Error::from)
                .and_then(|()| writeln!(writer)),
            _ => self.write_report(writer),
        })
    }

    fn heap(&self) -> Option<&HeapReport> {
        Some(&self.report)
    }
}

/// Whether the process uses an allocator that rprof reads. The error is the end of a sentence.
pub fn is_readable(pid: u32, request: &Request) -> Result<(), String> {
    let target = heap::Target::open(pid, &request.symbolize.budget)
        .map_err(|error| format!("need its memory: {error}"))?;
    if heap::ALL.iter().any(|allocator| allocator.detect(&target).is_some()) {
        return Ok(());
    }
    let known: Vec<_> = heap::ALL.iter().map(|allocator| allocator.name()).collect();
    Err(format!(
        "need an allocator that rprof reads ({}), and process {pid} has none of them",
        known.join(", ")
    ))
}

/// Reads the heaps of the request's process.
pub fn read(request: &Request, kind: Kind) -> Result<Response, CaptureError> {
    let pid = request.pids.first().copied().ok_or(CaptureError::NoProcess)?;
    let report = recent::take(pid, request)?;
    if report.heaps.is_empty() {
        let why = is_readable(pid, request).err().unwrap_or_else(|| "were not read".to_owned());
        return Err(CaptureError::NotOffered { kind, why, available: available(request) });
    }
    // Stacks of calls say more than arenas and types, but nothing of holders and leaks.
    let is_plain = !request.heap.holders && !request.heap.leaks;
    let sampled = if is_plain { sampled::read(&report, request) } else { None };
    let has_stacks = sampled.is_some();
    let profile = sampled.unwrap_or_else(|| profile::build(&report));
    let age = report.taken_at.elapsed().unwrap_or_default().as_secs();
    let when = if age == 0 { "now".to_owned() } else { format!("{age} s ago") };
    let names: Vec<_> = report.heaps.iter().map(|heap| heap.name.as_str()).collect();
    let objects: u64 = report.heaps.iter().map(|heap| heap.in_use().count).sum();
    Ok(Response::Read(Box::new(Reading {
        kind,
        summary: format!(
            "{}: {} of {}, read once in {:.2} s, {when}; nothing was stopped",
            kind.name,
            counted(objects, "chunk"),
            names.join(" and "),
            report.took.as_secs_f64()
        ),
        identities: vec![report.identity.clone()],
        warnings: warnings(&report),
        costs: String::new(),
        content: Box::new(HeapContent { report, profile, has_stacks }),
    })))
}

/// What makes a census incomplete.
fn warnings(report: &HeapReport) -> Vec<String> {
    let mut warnings = Vec::new();
    for heap in &report.heaps {
        let coverage = &heap.coverage;
        if let Some(why) = coverage.cut {
            warnings.push(Issue::LimitReached { what: heap.name.clone(), why: why.to_string() }.to_string());
        }
        if let Some(share) = coverage.share().filter(|share| *share < census::ENOUGH) {
            let percent = 100.0 * share;
            warnings.push(format!("only {percent:.1} % of the bytes of {} were read", heap.name));
        }
    }
    warnings
}
