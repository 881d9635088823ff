//! Why a capture ended.

/// Why sampling ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The requested time was over.
    Duration,
    /// [`super::Stop`] was set.
    Stopped,
    /// The last profiled process has ended.
    TargetsGone,
    /// The sampler failed; the profile has the samples taken before that.
    Failed,
}
