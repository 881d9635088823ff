//! What a result lacks, and why: counted beside the result, shown to the person, written into the
//! file. Nothing that is missing is passed over in silence.
//!
//! Not here: errors (what stops the work) and what is normal (a thread that ends).

use std::{collections::BTreeMap, fmt};

/// One kind of lack. Equal ones are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Issue {
    /// Samples the kernel took and had no room to hand over.
    LostSamples,
    /// Records of mappings, forks or exits may be missing; what they tell was read again.
    LostSideband,
    /// A stack ends before its root.
    CutStack { why: String },
    /// A mapped file could not be opened: its frames are unwound and named less well.
    UnreadableFile { path: String, why: String },
    /// Frames of this file have no name.
    UnnamedFrames { file: String, build_id: String },
    /// Kernel frames have no names.
    KernelSymbolsHidden { why: String },
    /// Debug information was there and could not be used.
    DebugInfo { file: String, why: String },
    /// A better way of looking was not available.
    WeakerSampler { wanted: &'static str, why: String },
    /// The table of different stacks was full: further new ones were counted under one name.
    StackTableFull,
    /// The sampler stopped working before the time was up.
    SamplerFailed { why: String },
    /// A process or thread that was asked for could not be watched.
    Unwatched { what: String, why: String },
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Issue::LostSamples => write!(f, "samples were lost: the buffer was full"),
            Issue::LostSideband => write!(f, "records of new mappings or processes were lost"),
            Issue::CutStack { why } => write!(f, "stacks are cut short: {why}"),
            Issue::UnreadableFile { path, why } => write!(f, "{path} could not be read: {why}"),
            Issue::UnnamedFrames { file, build_id } if build_id.is_empty() => {
                write!(f, "functions of {file} have no names: its symbols are not here")
            }
            Issue::UnnamedFrames { file, build_id } => {
                let short = build_id.get(..8).unwrap_or(build_id);
                write!(f, "functions of {file} (build {short}…) have no names: its symbols are not here")
            }
            Issue::KernelSymbolsHidden { why } => write!(f, "kernel functions have no names: {why}"),
            Issue::DebugInfo { file, why } => write!(f, "debug information of {file}: {why}"),
            Issue::WeakerSampler { wanted, why } => write!(f, "sampler `{wanted}` is not available: {why}"),
            Issue::StackTableFull => write!(f, "too many different stacks: new ones were put under one name"),
            Issue::SamplerFailed { why } => write!(f, "sampling ended early, with a failure: {why}"),
            Issue::Unwatched { what, why } => write!(f, "{what} is not in the profile: {why}"),
        }
    }
}

/// Issues with how often each occurred.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues {
    counts: BTreeMap<Issue, u64>,
}

impl Issues {
    pub fn add(&mut self, issue: Issue, count: u64) {
        if count > 0 {
            *self.counts.entry(issue).or_default() += count;
        }
    }

    pub fn count(&self, issue: &Issue) -> u64 {
        self.counts.get(issue).copied().unwrap_or(0)
    }

    /// Sum over the issues that `select` picks.
    pub fn sum(&self, select: impl Fn(&Issue) -> bool) -> u64 {
        self.counts.iter().filter(|(issue, _)| select(issue)).map(|(_, count)| count).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Issue, u64)> {
        self.counts.iter().map(|(issue, count)| (issue, *count))
    }

    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_issues_are_counted_together_and_none_is_not_an_issue() {
        let mut issues = Issues::default();
        issues.add(Issue::LostSamples, 0);
        assert!(issues.is_empty());
        issues.add(Issue::LostSamples, 2);
        issues.add(Issue::LostSamples, 3);
        assert_eq!(issues.count(&Issue::LostSamples), 5);
        assert_eq!(issues.iter().count(), 1);
    }
}
