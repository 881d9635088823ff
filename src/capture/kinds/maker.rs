//! Who makes a kind of profile: the sampler of rprof, a reading of the process, or a language
//! runtime's own records.

use super::super::{Capture, CaptureError, Request, Response, SamplerChoice, collector::Lock};
use crate::{
    profile::proto::Profile,
    sampler::{Sampler, SamplerError, SamplerOptions, Trigger, checks},
};

use super::Kind;

/// Why a maker does not offer a kind, as the end of a sentence that begins with its name: `need a
/// Go program, and process 7 is not one`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason(pub String);

/// Makes a kind of profile.
pub struct Maker {
    /// Whether the processes of a request can have it. This may read their programs.
    pub offers: fn(&Request) -> Result<(), Reason>,
    /// How it is made.
    pub make: Make,
    /// Whether it makes the same as another kind, for processes without a better maker.
    pub is_substitute: bool,
    /// What must work on this machine: the first that does is used.
    pub needs: &'static [Need],
}

/// How a profile is made.
#[derive(Clone, Copy)]
pub enum Make {
    /// Samples are taken while the session runs.
    Live(&'static Live),
    /// One call makes it: a reading, or a recording of the requested duration.
    Once(fn(&Request, Kind) -> Result<Response, CaptureError>),
}

/// A check of this machine (`rprof doctor`).
pub type Check = checks::Source;

/// One method to make a profile, for `rprof doctor`.
pub struct Need {
    /// The method: `bpf`.
    pub by: &'static str,
    /// The checks that must pass, besides that of the memory map.
    pub checks: &'static [Check],
    /// What is special about it; may be empty.
    pub note: &'static str,
}

impl Need {
    /// A method that needs these checks.
    pub const fn one(by: &'static str, checks: &'static [Check], note: &'static str) -> Need {
        Need { by, checks, note }
    }
}

impl Maker {
    /// The first method that works on this machine, where `works` tells which checks passed.
    pub fn method(&self, works: impl Fn(Check) -> bool) -> Option<&'static Need> {
        // Memory is read as a file where process_vm_readv(2) is not permitted, and the reverse.
        let has_memory = works(Check::ProcMem) || works(Check::ProcessVmReadv);
        let passed = |check: &Check| works(*check) || (*check == Check::ProcMem && has_memory);
        let is_met = |need: &&Need| works(Check::Maps) && need.checks.iter().all(passed);
        self.needs.iter().find(is_met)
    }
}

/// How samples are taken and counted.
pub struct Live {
    /// What causes a sample.
    pub trigger: Trigger,
    /// The samplers that can take them, the best first.
    pub sources: &'static [Source],
    /// Whether samples are taken at a rate, so that few samples make shares uncertain.
    pub is_periodic: bool,
    /// Whether the threads that wait when sampling ends still have a sample to come.
    pub sees_waiting: bool,
    /// Whether the threads that exist when sampling begins are read too.
    pub reads_threads: bool,
    /// How many seconds it lasts where the state now is requested; `None`: it has such a state.
    pub default_seconds: Option<u64>,
    /// What the samples wait for, as `waits_for`.
    pub waits: Option<WaitFilter>,
    /// Leaves what changed during the profile, where it also has what was there before.
    pub keep_changes: Option<fn(&mut Profile)>,
    /// Comments on the rate and on what was measured.
    pub comments: fn(&Request, &Capture) -> Vec<String>,
}

/// What a thread waited for or released, as the label `waits_for`, by the names of its innermost
/// functions, leaf first, and its lock. `None`: the sample does not belong into the profile.
pub type WaitFilter = fn(&[&str], Option<Lock>) -> Option<&'static str>;

/// A sampler that can take the samples of a kind.
pub struct Source {
    /// Its name in errors.
    pub name: &'static str,
    /// The choice that names it.
    pub choice: Option<SamplerChoice>,
    /// Whether it is tried without a choice.
    pub is_automatic: bool,
    /// Opens it.
    pub open: fn(&SamplerOptions) -> Result<Box<dyn Sampler>, SamplerError>,
}

impl Live {
    /// The samplers to try, the best first. A choice that cannot take these samples is ignored.
    pub fn candidates(&self, choice: SamplerChoice) -> Vec<&'static Source> {
        let named: Vec<_> = self.sources.iter().filter(|source| source.choice == Some(choice)).collect();
        match named.is_empty() {
            true => self.sources.iter().filter(|source| source.is_automatic).collect(),
            false => named,
        }
    }
}

/// Whether every process can have a kind: sampling needs nothing of the program.
pub(super) fn any_process(_: &Request) -> Result<(), Reason> {
    Ok(())
}
