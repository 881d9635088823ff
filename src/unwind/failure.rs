//! Why a rule could not be applied.

use super::{ReadFailure, StackEnd};

/// Why a rule could not be applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Root,
    Read(ReadFailure),
    Unusable,
    NotAdvancing,
}

impl From<ReadFailure> for Failure {
    fn from(failure: ReadFailure) -> Failure {
        Failure::Read(failure)
    }
}

impl Failure {
    /// The end of the stack that the failure leads to. `elsewhere`: a signal handler's stack was
    /// left, so unreadable memory is memory that was not copied.
    pub fn end(self, elsewhere: bool) -> StackEnd {
        match self {
            Failure::Root => StackEnd::Root,
            Failure::Read(ReadFailure::BeyondCopy) => StackEnd::StackCut,
            Failure::Read(ReadFailure::Unreadable) if elsewhere => StackEnd::StackCut,
            Failure::Read(ReadFailure::Unreadable) => StackEnd::UnreadableMemory,
            Failure::Unusable => StackEnd::UnusableRule,
            Failure::NotAdvancing => StackEnd::NotAdvancing,
        }
    }
}
