//! What is missing or uncertain in a result, and why. Issues are counted, shown to the user and
//! written into the file, so that nothing is missing silently.
//!
//! Not here: errors, which stop the work, and normal events, such as the end of a thread.

use std::{collections::BTreeMap, fmt};

/// One kind of issue. Equal issues are counted together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Issue {
    /// Samples that the kernel dropped because the buffer was full.
    LostSamples,
    /// Samples came faster than their stacks could be unwound, and those that came too late were
    /// dropped.
    LateSamples,
    /// So few samples that shares are uncertain by this many percentage points.
    FewSamples {
        /// The number of samples.
        samples: u64,
        /// The error of a share, in percentage points.
        points: u32,
    },
    /// Records of mappings, forks or exits may be missing; their content was read from /proc
    /// instead.
    LostSideband,
    /// A stack ends before its root.
    CutStack {
        /// Why the unwinder stopped.
        why: String,
    },
    /// A mapped file could not be opened: its frames are unwound and symbolized less well.
    UnreadableFile {
        /// Path as in /proc/PID/maps.
        path: String,
        /// The error.
        why: String,
    },
    /// Frames of this file have no name.
    UnnamedFrames {
        /// Path of the file.
        file: String,
        /// Its build ID in hexadecimal, empty if it has none.
        build_id: String,
    },
    /// Code that a runtime generated has no name.
    UnnamedJit {
        /// The process, as in its own PID namespace.
        pid: u32,
        /// The runtime and what makes it state names; `None`: not recognized.
        generator: Option<(&'static str, &'static str)>,
    },
    /// Kernel frames have no names.
    KernelSymbolsHidden {
        /// The error.
        why: String,
    },
    /// Debug information exists and could not be used.
    DebugInfo {
        /// Path of the file.
        file: String,
        /// What is missing or damaged.
        why: String,
    },
    /// A better sampler was not available.
    WeakerSampler {
        /// Name of the better method.
        wanted: &'static str,
        /// Why it is not available.
        why: String,
    },
    /// Names were found more slowly than samples came: a window went on until there was room.
    LateNames,
    /// The table of distinct stacks was full: further new stacks were counted under one name.
    StackTableFull,
    /// Samples have no frames of a language whose frames are not on the native stack.
    LanguageFrames {
        /// The error.
        why: String,
    },
    /// The sampler failed before the end of the profile.
    SamplerFailed {
        /// The error.
        why: String,
    },
    /// A file or process needs more memory, disk space or time than rprof may use for it; or rprof
    /// was stopped before all of it was read.
    LimitReached {
        /// The file or process.
        what: String,
        /// The limit that was reached.
        why: String,
    },
    /// A requested process or thread could not be profiled.
    Unwatched {
        /// The process or thread.
        what: String,
        /// The error.
        why: String,
    },
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Issue::LostSamples => write!(f, "samples were lost: the buffer was full"),
            Issue::LateSamples => write!(
                f,
                "samples were dropped: they came faster than their stacks could be unwound (a lower -F takes fewer)"
            ),
            Issue::FewSamples { samples, points } => write!(
                f,
                "few samples ({samples}): a share may be off by {points} points; sample for longer or at a higher -F"
            ),
            Issue::LostSideband => write!(f, "records of new mappings or processes were lost"),
            Issue::CutStack { why } => write!(f, "stacks are cut short: {why}"),
            Issue::UnreadableFile { path, why } => write!(f, "{path} could not be read: {why}"),
            Issue::UnnamedFrames { file, build_id } if build_id.is_empty() => {
                write!(f, "functions of {file} have no names: no symbols found")
            }
            Issue::UnnamedFrames { file, build_id } => {
                let short = build_id.get(..8).unwrap_or(build_id);
                write!(f, "functions of {file} (build {short}…) have no names: no symbols found")
            }
            Issue::UnnamedJit { generator: Some((name, advice)), .. } => {
                write!(f, "code that {name} generated has no names: {advice}")
            }
            Issue::UnnamedJit { pid, generator: None } => write!(
                f,
                "code generated at run time has no names in /tmp/perf-{pid}.map, and the process describes it \
                 neither by jitdump nor for debuggers (many runtimes do so on request)"
            ),
            Issue::KernelSymbolsHidden { why } => write!(f, "kernel functions have no names: {why}"),
            Issue::DebugInfo { file, why } => write!(f, "debug information of {file}: {why}"),
            Issue::WeakerSampler { wanted, why } => write!(f, "sampler `{wanted}` is not available: {why}"),
            Issue::LateNames => {
                write!(f, "looking up names took long: this profile covers more time than requested")
            }
            Issue::StackTableFull => {
                write!(f, "too many distinct stacks: new ones are counted under one name")
            }
            Issue::LanguageFrames { why } => write!(f, "language frames are missing: {why}"),
            Issue::SamplerFailed { why } => write!(f, "sampling ended early: {why}"),
            Issue::LimitReached { what, why } => write!(f, "{what} was not read completely: {why}"),
            Issue::Unwatched { what, why } => write!(f, "{what} is not in the profile: {why}"),
        }
    }
}

/// Issues with their counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues {
    counts: BTreeMap<Issue, u64>,
}

impl Issues {
    /// Adds `count` occurrences of an issue; none if `count` is 0.
    pub fn add(&mut self, issue: Issue, count: u64) {
        if count > 0 {
            *self.counts.entry(issue).or_default() += count;
        }
    }

    /// Adds an occurrence of an issue, if there is one.
    pub fn extend_with(&mut self, issue: Option<Issue>) {
        issue.into_iter().for_each(|issue| self.add(issue, 1));
    }

    /// Adds those of `other`.
    pub fn extend(&mut self, other: &Issues) {
        other.iter().for_each(|(issue, count)| self.add(issue.clone(), count));
    }

    /// How often an issue occurred.
    pub fn count(&self, issue: &Issue) -> u64 {
        self.counts.get(issue).copied().unwrap_or(0)
    }

    /// The sum of the counts of the issues that `select` accepts.
    pub fn sum(&self, select: impl Fn(&Issue) -> bool) -> u64 {
        self.counts.iter().filter(|(issue, _)| select(issue)).map(|(_, count)| count).sum()
    }

    /// All issues with their counts, in a fixed order.
    pub fn iter(&self) -> impl Iterator<Item = (&Issue, u64)> {
        self.counts.iter().map(|(issue, count)| (issue, *count))
    }

    /// Whether there are no issues.
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_issues_are_counted_together_and_a_count_of_zero_adds_none() {
        let mut issues = Issues::default();
        issues.add(Issue::LostSamples, 0);
        assert!(issues.is_empty());
        issues.add(Issue::LostSamples, 2);
        issues.add(Issue::LostSamples, 3);
        assert_eq!(issues.count(&Issue::LostSamples), 5);
        assert_eq!(issues.iter().count(), 1);
    }
}
