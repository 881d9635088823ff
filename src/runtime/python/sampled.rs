//! Samples a running program with the walker, for tests. Needs root.

use std::time::{Duration, Instant};

use super::walker::Section;
use crate::{
    process::{Hints, LanguageId, identity},
    sampler::{Event, Sampler as _, SamplerOptions, Trigger, bpf},
};

/// How long samples are waited for.
const PATIENCE: Duration = Duration::from_secs(30);

/// The options of a sampler of one process.
pub fn options(pid: u32, trigger: Trigger) -> SamplerOptions {
    SamplerOptions {
        trigger,
        frequency_hz: 997,
        pids: vec![pid],
        follow_forks: false,
        kernel: false,
        max_stack_bytes: 64 << 10,
        buffer_bytes: 0,
    }
}

/// Passes the section of each sample to `each` until `enough` samples have come, and returns their
/// number. Samples that were taken before the sampler had the hints do not count: they have none.
pub fn sample(
    (pid, hints, language): (u32, &Hints, LanguageId),
    trigger: Trigger,
    enough: usize,
    mut each: impl FnMut(Option<Section>),
) -> usize {
    let mut sampler = bpf::open(&options(pid, trigger)).expect("root may");
    sampler.hint_runtimes(pid, hints).expect("the kernel takes the walker");
    let hinted_ns = identity::monotonic_ns();
    let (mut samples, begin) = (0, Instant::now());
    while samples < enough && begin.elapsed() < PATIENCE {
        let mut sink = |event: Event<'_>| {
            if let Event::Sample(sample) = event
                && sample.time_ns > hinted_ns
            {
                samples += 1;
                let section = sample.sections.of(language);
                each(section.map(|section| Section::decode(section.bytes).expect("a whole section")));
            }
        };
        sampler.poll(Duration::from_millis(20), &mut sink).expect("poll");
    }
    samples
}
