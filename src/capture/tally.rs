//! Counts that describe the quality of a capture: samples, frames, truncated stacks.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use crate::{
    sampler::RawSample,
    unwind::{Frame, StackEnd, UnwindMethod},
};

/// The counts of a capture.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Samples (or waits).
    pub samples: u64,
    /// What the samples are worth in total: nanoseconds, or page faults.
    pub amount: u64,
    /// Samples whose stack reaches its root; samples with only a kernel stack count as whole.
    pub whole: u64,
    /// Samples of processes during exec or exit, which have no user memory.
    pub without_user_stack: u64,
    /// Samples that were taken and are not in the profile: the kernel had no room for them, or they
    /// came too late.
    pub lost: u64,
    /// Those of the lost samples that came too late to be unwound.
    pub late: u64,
    /// User frames.
    pub frames: u64,
    /// Frames found by scanning the stack: probably correct.
    pub scanned_frames: u64,
    /// Samples with kernel frames.
    pub in_kernel: u64,
    /// Why the stacks that are not whole end early.
    ends: FxHashMap<StackEnd, u64>,
    /// Bytes of stack copied.
    pub stack_bytes: u64,
}

impl Tally {
    pub(super) fn count(&mut self, sample: &RawSample<'_>, end: Option<StackEnd>, frames: &[Frame]) {
        self.samples += 1;
        self.amount += sample.values.amount();
        self.frames += frames.len() as u64;
        self.scanned_frames += frames.iter().filter(|frame| frame.how == UnwindMethod::Scan).count() as u64;
        self.in_kernel += u64::from(!sample.kernel_stack.0.is_empty());
        self.stack_bytes += sample.stack.bytes.len() as u64;
        match end {
            None | Some(StackEnd::Root) => self.whole += 1,
            Some(end) => *self.ends.entry(end).or_default() += 1,
        }
    }

    /// Counts a sample that came too late to be unwound.
    pub(super) fn count_late(&mut self) {
        self.late += 1;
        self.lost += 1;
    }

    /// The mappings that the reasons for truncated stacks name.
    pub(super) fn mappings_of_cuts(&self) -> impl Iterator<Item = u32> {
        self.ends.keys().filter_map(|end| match end {
            StackEnd::NoUnwindInfo(module) => *module,
            _ => None,
        })
    }

    /// The share of samples with a whole stack, 0 to 1; 1 without samples.
    pub fn whole_share(&self) -> f64 {
        if self.samples == 0 { 1.0 } else { self.whole as f64 / self.samples as f64 }
    }

    /// The reasons for truncated stacks, as text, with counts. `file_of` names the file of a
    /// module.
    pub fn cuts(&self, file_of: impl Fn(u32) -> String) -> BTreeMap<String, u64> {
        let mut cuts = BTreeMap::new();
        for (end, count) in &self.ends {
            *cuts.entry(reason(*end, &file_of)).or_default() += count;
        }
        cuts
    }
}

/// The reason why a stack ends, as text.
pub(super) fn reason(end: StackEnd, file_of: &impl Fn(u32) -> String) -> String {
    match end {
        StackEnd::Root => "whole".into(),
        StackEnd::StackCut => "the stack is deeper than the copied part".into(),
        StackEnd::NoUnwindInfo(Some(module)) => {
            format!("{} has no unwind information", file_of(module))
        }
        StackEnd::NoUnwindInfo(None) => "code outside any file has no frame pointers".into(),
        StackEnd::UnreadableMemory => "the stack memory could not be read".into(),
        StackEnd::UnusableRule => "the unwind information needs a register whose value is unknown".into(),
        StackEnd::NotAdvancing => "the stack does not advance".into(),
        StackEnd::TooDeep => "the stack has more frames than rprof unwinds".into(),
        StackEnd::PcUnmapped => "a return address is outside all mapped code".into(),
    }
}
