//! What a language's runtime tells the unwinder of its own code, where it keeps tables of its own.
//!
//! Not here: any runtime; applying what it says.

use super::{StackMemory, rule::Failure};
use crate::{
    addr::{ElfAddr, RuntimeAddr},
    arch::{Registers, native},
};

/// A frame, as its runtime's tables describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RuntimeFrame {
    /// Not the runtime's code: call-frame information and the rest are asked.
    NotMine,
    /// The stack pointer lies so many bytes below where the function was entered.
    Depth(u32),
    /// The runtime's code, of which the tables do not say that.
    Unknown,
}

/// A file's tables that a language's runtime keeps for itself.
pub trait RuntimeTables: std::fmt::Debug + Send + Sync {
    /// What they say of the frame at an address (a return address less one).
    fn frame(&self, address: ElfAddr) -> RuntimeFrame;

    /// Calls `each` with name, start and size of every function.
    fn functions(&self, each: &mut dyn FnMut(&[u8], u64, u64));
}

/// Turns `registers` into the caller's, of a function `depth` bytes deep.
///
/// Go's functions keep no register for their callers but the frame pointer, and that only once they
/// have set up their own: then it points to where they saved the caller's.
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
