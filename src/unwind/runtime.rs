//! What a language runtime states about its own code, if it keeps its own tables.
//!
//! Not here: any particular runtime; applying the information.

use super::{StackMemory, rule::Failure};
use crate::{
    addr::{ElfAddr, RuntimeAddr},
    arch::{Registers, native},
};

/// A frame, as described by its runtime's tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuntimeFrame {
    /// Not the runtime's code: call-frame information and the fallbacks are used.
    NotMine,
    /// The stack pointer is this many bytes below its value at the function's entry.
    Depth(u32),
    /// The runtime's code, but the tables do not state the depth.
    Unknown,
}

/// The tables that a language runtime keeps for one file.
pub trait RuntimeTables: std::fmt::Debug + Send + Sync {
    /// The description of the frame at an address (a return address minus one).
    fn frame(&self, address: ElfAddr) -> RuntimeFrame;

    /// Calls `each` with name, start and size of every function.
    fn functions(&self, each: &mut dyn FnMut(&[u8], u64, u64));
}

/// Replaces `registers` by the caller's, for a function `depth` bytes deep.
///
/// Go functions preserve no register for their callers except the frame pointer, and that only once
/// they have set up their own: then it points to the saved one.
pub(super) fn step<M: StackMemory + ?Sized>(
    depth: u32,
    registers: &mut Registers,
    memory: &mut M,
) -> Result<(), Failure> {
    let sp = registers.get(native::SP).ok_or(Failure::Unusable)?;
    let frame = native::go_frame(i64::from(depth));
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
