//! What a row of the live view shows.

use super::history::{FunctionId, ThreadId};

/// What a row shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A function.
    Function(FunctionId),
    /// A thread.
    Thread(ThreadId),
    /// A caller of the function shown.
    Caller(FunctionId),
    /// A callee of the function shown.
    Callee(FunctionId),
    /// A call path; equal paths have equal numbers.
    Path(u64),
}
