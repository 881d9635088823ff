//! Opens a sampler: the requested one, or the best that is permitted.

use super::{CaptureError, FrameChoice, SamplerChoice, kinds::Source, request::Plan};
use crate::{
    issue::{Issue, Issues},
    process::Identity,
    sampler::{Sampler, SamplerError, SamplerOptions},
};

/// Opens a sampler for a plan. `reports_changes`: it is to report new mappings, forks and exits
/// too.
pub(super) fn open(
    (plan, reports_changes): (&Plan, bool),
    identities: &[Identity],
    issues: &mut Issues,
) -> Result<Box<dyn Sampler>, CaptureError> {
    let options = SamplerOptions {
        trigger: plan.live.trigger,
        frequency_hz: plan.frequency_hz,
        pids: identities.iter().map(|identity| identity.pid).collect(),
        follow_forks: plan.children,
        kernel: plan.kernel,
        max_stack_bytes: plan.max_stack_bytes,
        language_alone: plan.frames == FrameChoice::Language,
        buffer_bytes: plan.buffer_bytes,
        reports_changes,
    };
    let mut tried: Vec<(&'static str, SamplerError)> = Vec::new();
    let stops = |source: &Source| source.choice == Some(SamplerChoice::Ptrace);
    let candidates = plan.live.candidates(plan.sampler).into_iter();
    for source in candidates.filter(|source| !(plan.stacks.never_stop && stops(source))) {
        match (source.open)(&options) {
            Ok(sampler) => {
                for (wanted, error) in &tried {
                    issues.add(Issue::WeakerSampler { wanted, why: error.to_string() }, 1);
                }
                return Ok(sampler);
            }
            Err(error) => tried.push((source.name, error)),
        }
    }
    // The error of perf or BPF is more useful than that of ptrace, which is tried last.
    let main = tried.iter().rposition(|(name, _)| *name != "ptrace").unwrap_or(0);
    let source = if tried.is_empty() { SamplerError::NoTarget } else { tried.remove(main).1 };
    Err(CaptureError::Sampler { source, tried, identities: identities.to_vec() })
}
