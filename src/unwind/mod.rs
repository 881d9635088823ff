//! From registers and a copy of the stack to frames: call-frame information (`.eh_frame`,
//! `.debug_frame`) compiled to small cached rules, signal frames, frame pointers, and, last, a
//! cautious scan. Every stack says why it ended.
//!
//! ```text
//! Unwinder::unwind(&modules, &registers, &mut memory, &mut frames) -> StackEnd
//! ```
//!
//! Everything read here is the target's and may be crafted: work and memory are bounded, arithmetic
//! wraps or is checked, and nothing panics.
//!
//! Not here: finding files and mappings of a process, names of functions, inline frames, stacks that
//! a language runtime keeps elsewhere.

mod cache;
mod compile;
mod expression;
mod fallback;
mod memory;
mod modules;
mod rule;
mod runtime;
mod tables;
mod walk;

pub use memory::{CopiedStack, LateReads, ReadFailure, StackMemory};
pub use modules::{Module, Modules};
pub use runtime::{RuntimeFrame, RuntimeTables};
pub use tables::UnwindTables;
pub use walk::Unwinder;

use crate::addr::FrameAddr;

pub use crate::arch::Registers;

/// The most frames of one stack; what lies deeper is cut ([`StackEnd::TooDeep`]).
pub const MAX_FRAMES: usize = 16_384;

/// One frame of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    pub addr: FrameAddr,
    /// [`Module::id`] of the module that `addr.lookup()` lies in; `None` only for a leaf that runs
    /// outside all executable mappings.
    pub module: Option<u32>,
    /// How this frame was found from the one before it.
    pub how: UnwindMethod,
}

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnwindMethod {
    /// It is the leaf: the registers themselves.
    Leaf,
    /// By call-frame information.
    Cfi,
    /// By the tables that a language's runtime keeps for itself.
    Runtime,
    /// By the registers that the kernel stored when it called a signal handler.
    SignalContext,
    /// By what the machine code at the leaf says about a frame that is not, or no longer, set up.
    Instructions,
    /// By the chain of frame pointers.
    FramePointer,
    /// By looking through the stack for a return address that fits: probably right.
    Scan,
}

/// Why a stack ends where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StackEnd {
    /// The thread's outermost frame was reached: the stack is whole.
    Root,
    /// The copy of the stack ended: more lies above (or on another stack that was not copied).
    StackCut,
    /// Nothing says how to go on from the last frame, which lies in the module of this id.
    NoUnwindInfo(Option<u32>),
    /// A rule led to memory that cannot be read.
    UnreadableMemory,
    /// A rule needs a register whose value is not known, or cannot be evaluated.
    UnusableRule,
    /// The next frame would not lie above the last one: a loop, or a damaged stack.
    NotAdvancing,
    /// [`MAX_FRAMES`] were reached.
    TooDeep,
    /// The next return address lies in no executable mapping.
    PcUnmapped,
}

impl StackEnd {
    /// Whether the stack is whole: it reaches the thread's outermost frame.
    pub fn is_whole(self) -> bool {
        self == StackEnd::Root
    }
}
