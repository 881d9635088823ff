//! The creation of threads: each one is a sample of the thread that creates it.

use super::{Opening, Source};
use crate::sampler::{
    SamplerError,
    bpf::load::{self, Loaded, Program},
};

struct Created;

pub(super) fn open(opening: &Opening<'_>) -> Result<(Loaded, Box<dyn Source>), SamplerError> {
    let Opening { options, settings, room, .. } = *opening;
    let loaded = load::load(Program::ThreadCreated, settings, room, options.follow_forks)?;
    Ok((loaded, Box::new(Created)))
}

impl Source for Created {
    fn event(&self) -> &'static str {
        "task_newtask"
    }

    fn summary(&self, max_stack_kib: u32) -> String {
        format!(
            "a BPF program that is called when a thread is created copies the creator's stack up to \
             {max_stack_kib} KiB"
        )
    }

    fn has_kernel_frames(&self) -> bool {
        false
    }

    fn stop(&mut self, _pids: &[u32]) -> Result<(), SamplerError> {
        Ok(())
    }
}
