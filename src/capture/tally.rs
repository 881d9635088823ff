//! Counts for judging a capture: how many samples, how whole their stacks.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::{
    sampler::RawSample,
    unwind::{Frame, StackEnd, UnwindMethod},
};

/// What was counted while sampling.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    pub samples: u64,
    /// What the samples stand for, in all: nanoseconds, or page faults.
    pub amount: u64,
    /// Samples whose stack reaches its root; those that have none but the kernel's count as whole.
    pub whole: u64,
    /// Samples of processes in the midst of exec or exit: there is no user memory (any more).
    pub without_user_stack: u64,
    /// Samples the kernel took and had no room for.
    pub lost: u64,
    pub frames: u64,
    /// Frames that were found by scanning the stack: probably right.
    pub scanned_frames: u64,
    /// Samples that caught the thread inside the kernel.
    pub in_kernel: u64,
    /// Why the others end early.
    ends: FxHashMap<StackEnd, u64>,
    /// Bytes of stack copied.
    pub stack_bytes: u64,
}

impl Tally {
    pub(super) fn count(&mut self, sample: &RawSample<'_>, end: Option<StackEnd>, frames: &[Frame]) {
        self.samples += 1;
        self.amount += sample.period;
        self.frames += frames.len() as u64;
        self.scanned_frames += frames.iter().filter(|frame| frame.how == UnwindMethod::Scan).count() as u64;
        self.in_kernel += u64::from(!sample.kernel_stack.0.is_empty());
        self.stack_bytes += sample.stack.bytes.len() as u64;
        match end {
            None | Some(StackEnd::Root) => self.whole += 1,
            Some(end) => *self.ends.entry(end).or_default() += 1,
        }
    }

    /// Share of samples with a whole stack, 0 to 1; 1 where there are none.
    pub fn whole_share(&self) -> f64 {
        if self.samples == 0 { 1.0 } else { self.whole as f64 / self.samples as f64 }
    }

    /// Why stacks were cut, in words, with how many. `file_of` names the file of a module.
    pub fn cuts(&self, file_of: impl Fn(u32) -> String) -> BTreeMap<String, u64> {
        let mut cuts = BTreeMap::new();
        for (end, count) in &self.ends {
            *cuts.entry(reason(*end, &file_of)).or_default() += count;
        }
        cuts
    }
}

/// Why a stack ends, in words.
pub(super) fn reason(end: StackEnd, file_of: &impl Fn(u32) -> String) -> String {
    match end {
        StackEnd::Root => "whole".into(),
        StackEnd::StackCut => "the stack is deeper than what was copied of it".into(),
        StackEnd::NoUnwindInfo(Some(module)) => {
            format!("{} has no unwind information", file_of(module))
        }
        StackEnd::NoUnwindInfo(None) => "code outside any file has no frame pointers".into(),
        StackEnd::UnreadableMemory => "stack memory was not readable".into(),
        StackEnd::UnusableRule => "unwind information needs a register that is not known".into(),
        StackEnd::NotAdvancing => "the stack leads back to itself".into(),
        StackEnd::TooDeep => "more frames than rprof follows".into(),
        StackEnd::PcUnmapped => "a return address lies outside all code".into(),
    }
}
