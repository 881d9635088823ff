//! Opens the best sampler that the permissions allow, or the requested one.

use super::{CaptureError, request::Plan};
use crate::{
    issue::{Issue, Issues},
    process::Identity,
    sampler::{Sampler, SamplerError, SamplerOptions},
};

pub(super) fn open(
    plan: &Plan,
    pids: &[u32],
    identities: &[Identity],
    issues: &mut Issues,
) -> Result<Box<dyn Sampler>, CaptureError> {
    let options = SamplerOptions {
        trigger: plan.live.trigger,
        frequency_hz: plan.frequency_hz,
        pids: pids.to_vec(),
        follow_forks: plan.children,
        kernel: plan.kernel,
        max_stack_bytes: plan.max_stack_bytes,
        buffer_bytes: plan.buffer_bytes,
    };
    let mut tried: Vec<(&'static str, SamplerError)> = Vec::new();
    for source in plan.live.candidates(plan.sampler) {
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
