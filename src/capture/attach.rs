//! Finds the processes and opens a sampler: the requested one, or the best that is permitted.

use super::{CaptureError, FrameChoice, SamplerChoice, identify_all, kinds::Source, request::Plan};
use crate::{
    issue::{Issue, Issues},
    process::Identity,
    sampler::{Sampler, SamplerError, SamplerOptions},
};

/// How often a sampler is opened for processes that fork meanwhile.
const MOST_OPENINGS: usize = 3;

/// The processes of a plan and a running sampler of them.
///
/// A sampler follows forks from when it is open, which takes a tenth of a second. If a process has
/// a new child then, it may have been created before: the sampler is opened again, with the child.
pub(super) fn open(
    plan: &Plan,
    issues: &mut Issues,
) -> Result<(Vec<Identity>, Box<dyn Sampler>), CaptureError> {
    let mut identities = identify_all(&plan.pids, plan.children)?;
    let mut opened = open_sampler(plan, &identities)?;
    for _ in 1..MOST_OPENINGS {
        let Some(all) = with_new_children(plan, &identities) else { break };
        // The kernel may not have room for two.
        drop(opened);
        identities = all;
        opened = open_sampler(plan, &identities)?;
    }
    let (sampler, tried) = opened;
    for (wanted, error) in &tried {
        issues.add(Issue::WeakerSampler { wanted, why: error.to_string() }, 1);
    }
    Ok((identities, sampler))
}

/// All processes of a plan, if there are children that are not among `known`.
fn with_new_children(plan: &Plan, known: &[Identity]) -> Option<Vec<Identity>> {
    if !plan.children {
        return None;
    }
    // If a process has ended meanwhile, the sampler reports it.
    let all = identify_all(&plan.pids, true).ok()?;
    let is_known = |pid: u32| known.iter().any(|identity| identity.pid == pid);
    all.iter().any(|identity| !is_known(identity.pid)).then_some(all)
}

/// The samplers that could not be opened, and why.
type Tried = Vec<(&'static str, SamplerError)>;

fn open_sampler(plan: &Plan, identities: &[Identity]) -> Result<(Box<dyn Sampler>, Tried), CaptureError> {
    let options = SamplerOptions {
        trigger: plan.live.trigger,
        frequency_hz: plan.frequency_hz,
        pids: identities.iter().map(|identity| identity.pid).collect(),
        follow_forks: plan.children,
        kernel: plan.kernel,
        max_stack_bytes: plan.max_stack_bytes,
        language_alone: plan.frames == FrameChoice::Language,
        buffer_bytes: plan.buffer_bytes,
    };
    let mut tried = Tried::new();
    let stops = |source: &Source| source.choice == Some(SamplerChoice::Ptrace);
    let candidates = plan.live.candidates(plan.sampler).into_iter();
    for source in candidates.filter(|source| !(plan.stacks.never_stop && stops(source))) {
        match (source.open)(&options) {
            Ok(sampler) => return Ok((sampler, tried)),
            Err(error) => tried.push((source.name, error)),
        }
    }
    // The error of perf or BPF is more useful than that of ptrace, which is tried last.
    let main = tried.iter().rposition(|(name, _)| *name != "ptrace").unwrap_or(0);
    let source = if tried.is_empty() { SamplerError::NoTarget } else { tried.remove(main).1 };
    Err(CaptureError::Sampler { source, tried, identities: identities.to_vec() })
}
