//! What a language states about code that it owns: the code of a file (compiled by the language's
//! own tools), or code in memory that a runtime generates.
//!
//! The unwinder asks for the [`Role`] of an address. For code of a file the role is cached by file
//! and address; a [`Role::Fixed`] frame then costs as much as one with call-frame information. Only
//! for [`Role::Own`] is [`Code::step`] called, for each frame.
//!
//! A `Code` reads the stack only through the [`StackMemory`] that it is given: that is the stack as
//! it was when the registers were taken. What else it needs to know of the process (a runtime's
//! metadata, which hardly changes) it reads itself, from the process's memory.
//!
//! Not here: any particular language; applying roles.

use std::ops::Range;

use super::{StackEnd, StackMemory, failure::Failure};
use crate::{
    addr::{ElfAddr, FrameAddr, RuntimeAddr},
    arch::{FixedFrame, Registers, native},
};

/// Mapped code, as languages read it.
pub trait MappedCode: std::fmt::Debug {
    /// The number of the mapping ([`super::Module::id`]).
    fn id(&self) -> u32;

    /// The ELF address of an address in the mapped file.
    fn elf_addr(&self, addr: RuntimeAddr) -> ElfAddr;

    /// The file's bytes from `addr` to the end of the mapping or of the file's part; `None`: there
    /// is no file, or `addr` is not in the mapping.
    fn code_from(&self, addr: RuntimeAddr) -> Option<&[u8]>;
}

/// A frame's address and the mapping that contains it.
#[derive(Clone, Copy, Debug)]
pub struct CodeAt<'a> {
    /// The frame's address.
    pub addr: FrameAddr,
    /// The mapping that contains `addr.lookup()`.
    pub module: &'a dyn MappedCode,
}

impl<'a> CodeAt<'a> {
    /// The address to look up in the file's tables.
    pub fn elf_addr(self) -> ElfAddr {
        self.module.elf_addr(self.addr.lookup())
    }

    /// The file's bytes from the lookup address on; empty if there is no file.
    pub fn bytes(self) -> &'a [u8] {
        self.module.code_from(self.addr.lookup()).unwrap_or_default()
    }
}

/// What the code at an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Not the language's code, or it states nothing about this address: call-frame information and
    /// the fallbacks are used.
    NotMine,
    /// The outermost function of a stack, which nothing calls.
    Root,
    /// A frame whose parts are at fixed offsets from the stack pointer.
    Fixed(FixedFrame),
    /// [`Code::step`] knows the caller.
    Own,
}

/// Identifies a frame of a language within its process. Only the language knows what the words
/// mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FrameKey(pub [u64; 2]);

/// Where a walk continues after it leaves a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NextStack {
    /// On the stack of the task that the thread runs, which was copied with the sample. A walk
    /// enters it at most once.
    Task,
    /// On another stack with these bounds, whose memory is read now.
    Live(Range<RuntimeAddr>),
}

/// The way from a frame of [`Role::Own`] to the next one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The caller is on the same stack; its stack pointer is higher.
    Caller(Registers),
    /// The next frame is on another stack. Stacks may be left and entered again, but no part of a
    /// stack is walked twice.
    Switch {
        /// The registers of the next frame.
        registers: Registers,
        /// The next frame was not left by a call: its pc is the current instruction.
        exact: bool,
        /// Its stack.
        stack: NextStack,
    },
    /// This is the outermost frame.
    Root,
    /// Call-frame information and the fallbacks are used after all.
    Native {
        /// The frame pointer may lead to another stack.
        switches: bool,
    },
    /// The stack ends here.
    Failed(StackEnd),
}

/// Code that a language owns. Bounded: [`Code::role`] and [`Code::step`] are called for frames of
/// every sample, on crafted stacks too.
pub trait Code: std::fmt::Debug + Send + Sync {
    /// What the code at an address is.
    fn role(&self, at: CodeAt<'_>) -> Role;

    /// The step from a frame of [`Role::Own`]. If the frame is one of the language (not of its
    /// machinery), `key` is set: the profile then shows what [`FrameKey`] stands for, not the
    /// address.
    fn step(
        &self,
        _at: CodeAt<'_>,
        _registers: &Registers,
        _stack: &mut dyn StackMemory,
        _key: &mut Option<FrameKey>,
    ) -> Step {
        Step::Native { switches: false }
    }

    /// Calls `each` with name, start and size of every function of the file, where the file's
    /// symbols do not list them.
    fn functions(&self, _each: &mut dyn FnMut(&[u8], u64, u64)) {}

    /// Whether all code of the file keeps frame pointers, down to a zero at the root.
    fn keeps_frame_pointers(&self) -> bool {
        false
    }
}

/// Replaces `registers` by the caller's.
pub(super) fn apply_fixed<M: StackMemory + ?Sized>(
    frame: &FixedFrame,
    registers: &mut Registers,
    memory: &mut M,
) -> Result<(), Failure> {
    let sp = registers.get(native::SP).ok_or(Failure::Unusable)?;
    let at = |offset: i64| RuntimeAddr(sp.wrapping_add_signed(offset));
    let return_address = match frame.return_at {
        Some(offset) => memory.read_u64(at(offset))?,
        None => registers.get(native::RETURN_ADDRESS).ok_or(Failure::Unusable)?,
    };
    let mut fp = registers.get(native::FP);
    if let Some(slot) = frame.saved_fp.map(at).filter(|slot| Some(slot.0) == fp) {
        fp = memory.read_u64(slot).ok();
    }
    registers.retain(0);
    fp.into_iter().for_each(|fp| registers.set(native::FP, fp));
    registers.set(native::SP, at(frame.caller_sp).0);
    registers.set(native::PC, native::strip_pointer_authentication(return_address));
    Ok(())
}

/// [`apply_fixed`] for a language's own [`Code::step`]. `None`: the stack does not have the frame.
pub fn fixed_caller(
    frame: &FixedFrame,
    registers: &Registers,
    stack: &mut dyn StackMemory,
) -> Option<Registers> {
    let mut caller = *registers;
    apply_fixed(frame, &mut caller, stack).is_ok().then_some(caller)
}
