//! From registers and a copy of the stack to frames: call-frame information (`.eh_frame`,
//! `.debug_frame`) compiled to small cached rules, signal frames, frame pointers and, as the last
//! resort, a scan. A language can describe its own code ([`Code`]). Every stack has a reason for
//! its end.
//!
//! ```text
//! Unwinder::unwind(&modules, &registers, &mut memory, &mut frames) -> StackEnd
//! ```
//!
//! Everything read here comes from the target and may be crafted: work and memory are bounded,
//! arithmetic wraps or is checked, and nothing panics.
//!
//! Not here: finding files and mappings of a process, names of functions, inlined frames, stacks
//! that a language runtime keeps elsewhere.

mod cache;
mod code;
mod compile;
mod expression;
mod failure;
mod fallback;
mod memory;
mod modules;
mod rule;
mod tables;
mod walk;

pub use code::{Code, CodeAt, FrameKey, MappedCode, NextStack, Role, Step, fixed_caller};
pub use memory::{CopiedStack, LateReads, RED_ZONE, ReadFailure, StackMemory};
pub use modules::{Module, Modules};
pub use tables::UnwindTables;
pub use walk::Unwinder;

use crate::{
    addr::{FrameAddr, RuntimeAddr},
    arch::native,
};

pub use crate::arch::Registers;

/// The registers of a perf sample. `mask`: which ones `values` has, from the lowest bit on
/// (`sample_regs_user` of perf_event_open(2)).
pub fn registers_from_perf(mask: u64, values: &[u64]) -> Registers {
    let bits = (0..64).filter(|bit| mask >> bit & 1 == 1);
    let tracked = bits.zip(values).filter(|(bit, _)| native::PERF_REGISTER_MASK >> bit & 1 == 1);
    match mask & native::PERF_REGISTER_MASK == native::PERF_REGISTER_MASK {
        true => native::registers_from_perf(&tracked.map(|(_, value)| *value).collect::<Vec<_>>()),
        false => Registers::default(),
    }
}

/// Most frames of one stack; deeper stacks are cut ([`StackEnd::TooDeep`]).
pub const MAX_FRAMES: usize = 16_384;

/// One frame of a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The frame's address.
    pub addr: FrameAddr,
    /// The frame's stack pointer. The frame reaches up to that of the next frame (its canonical
    /// frame address), if both are on the same stack.
    pub sp: RuntimeAddr,
    /// [`Module::id`] of the module that contains `addr.lookup()`; `None` only for a leaf outside
    /// all executable mappings.
    pub module: Option<u32>,
    /// How this frame was found from the previous one.
    pub how: UnwindMethod,
}

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnwindMethod {
    /// The leaf: the registers themselves.
    Leaf,
    /// By call-frame information.
    Cfi,
    /// By what the code's language states.
    Runtime,
    /// By the registers that the kernel stored when it called a signal handler.
    SignalContext,
    /// By the machine code at the leaf, whose frame is not set up yet or no longer.
    Instructions,
    /// By the chain of frame pointers.
    FramePointer,
    /// By a scan of the stack for a return address: probably right.
    Scan,
}

/// Why a stack ends where it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StackEnd {
    /// The thread's outermost frame was reached: the stack is whole.
    Root,
    /// The copy of the stack ended: more of it is above (or on another stack that was not copied).
    StackCut,
    /// No table or heuristic leads on from the last frame, which is in the module with this ID.
    NoUnwindInfo(Option<u32>),
    /// A rule led to memory that cannot be read.
    UnreadableMemory,
    /// A rule needs a register whose value is unknown, or cannot be evaluated.
    UnusableRule,
    /// The next frame would not be above the last one: a loop, or a damaged stack.
    NotAdvancing,
    /// [`MAX_FRAMES`] frames were reached.
    TooDeep,
    /// The next return address is in no executable mapping.
    PcUnmapped,
}

impl StackEnd {
    /// Whether the stack is complete: it reaches the thread's outermost frame.
    pub fn is_whole(self) -> bool {
        self == StackEnd::Root
    }
}
