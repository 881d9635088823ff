//! The memory that a stack is unwound from: a copy of the top of the stack and, if the caller can
//! provide them, reads of what the copy lacks.
//!
//! Not here: reading another process.

use std::ops::Range;

use crate::{
    addr::RuntimeAddr,
    arch::{Registers, native},
};

/// How many bytes below the stack pointer a leaf may keep values in.
pub const RED_ZONE: u64 = native::RED_ZONE;

/// Why a word could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// The address is above a truncated copy.
    BeyondCopy,
    /// No memory is mapped there, or it was never available.
    Unreadable,
}

/// Memory of the thread being unwound, as it was when its registers were taken.
pub trait StackMemory {
    /// The 64-bit word at `addr`, which need not be aligned.
    fn read_u64(&mut self, addr: RuntimeAddr) -> Result<u64, ReadFailure>;

    /// Reads code that is in no file (generated at run time) from `addr` on, as it is now. Returns
    /// how many bytes of `into` are set.
    fn code(&self, _addr: RuntimeAddr, _into: &mut [u8]) -> usize {
        0
    }

    /// If the thread runs, on a stack of its own, on behalf of a task with another stack: the
    /// registers at which the task's stack was left.
    fn task_registers(&self) -> Option<&Registers> {
        None
    }

    /// The walk continues on another stack with these bounds. `false`: its memory cannot be read.
    fn enter_stack(&mut self, _bounds: &Range<RuntimeAddr>) -> bool {
        false
    }
}

/// A language's code reads through a reference, whatever the memory is.
impl<M: StackMemory + ?Sized> StackMemory for &mut M {
    fn read_u64(&mut self, addr: RuntimeAddr) -> Result<u64, ReadFailure> {
        (**self).read_u64(addr)
    }

    fn code(&self, addr: RuntimeAddr, into: &mut [u8]) -> usize {
        (**self).code(addr, into)
    }

    fn task_registers(&self) -> Option<&Registers> {
        (**self).task_registers()
    }

    fn enter_stack(&mut self, bounds: &Range<RuntimeAddr>) -> bool {
        (**self).enter_stack(bounds)
    }
}

/// The top of a stack, copied together with the registers.
#[derive(Clone, Copy, Debug)]
pub struct CopiedStack<'a> {
    /// Address of the first byte: the stack pointer, or slightly below.
    pub start: RuntimeAddr,
    /// The copied bytes.
    pub bytes: &'a [u8],
    /// The copy was truncated at a limit: more of the stack is above it.
    pub capped: bool,
    /// Some pages could not be copied and are zeros in the copy.
    pub has_holes: bool,
}

/// Granularity of missing memory. With larger pages this is finer than necessary.
const PAGE_BYTES: u64 = 4096;

impl CopiedStack<'_> {
    /// Whether this word, read as 0, is part of a page that could not be copied.
    #[cold]
    fn is_in_hole(&self, addr: RuntimeAddr) -> bool {
        let page = (addr.0 & !(PAGE_BYTES - 1)).max(self.start.0) - self.start.0;
        let bytes = usize::try_from(page).ok().and_then(|page| self.bytes.get(page..)).unwrap_or_default();
        bytes.iter().take(PAGE_BYTES as usize).all(|byte| *byte == 0)
    }
}

impl StackMemory for CopiedStack<'_> {
    #[inline]
    fn read_u64(&mut self, addr: RuntimeAddr) -> Result<u64, ReadFailure> {
        let offset = addr.0.wrapping_sub(self.start.0);
        let word = usize::try_from(offset)
            .ok()
            .and_then(|offset| self.bytes.get(offset..)?.first_chunk::<8>())
            .map(|word| u64::from_le_bytes(*word));
        match word {
            Some(0) if self.has_holes && self.is_in_hole(addr) => Err(ReadFailure::Unreadable),
            Some(word) => Ok(word),
            None if self.capped && addr >= self.start => Err(ReadFailure::BeyondCopy),
            None => Err(ReadFailure::Unreadable),
        }
    }
}

/// A copy, and a way to read what it lacks. The thread may have run on since, so the reader must
/// know whether what it returns is still consistent.
pub struct LateReads<'a, F> {
    /// The copy, which is read first.
    pub copy: CopiedStack<'a>,
    /// Reads the word at an address that the copy lacks.
    pub late: F,
}

impl<F: FnMut(RuntimeAddr) -> Option<u64>> StackMemory for LateReads<'_, F> {
    fn read_u64(&mut self, addr: RuntimeAddr) -> Result<u64, ReadFailure> {
        self.copy.read_u64(addr).or_else(|failure| (self.late)(addr).ok_or(failure))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_above_a_truncated_copy_is_distinguished_from_unmapped_memory() {
        let mut copy =
            CopiedStack { start: RuntimeAddr(0x1000), bytes: &[1; 16], capped: true, has_holes: false };
        assert_eq!(copy.read_u64(RuntimeAddr(0x1008)), Ok(0x0101_0101_0101_0101));
        assert_eq!(copy.read_u64(RuntimeAddr(0x1009)), Err(ReadFailure::BeyondCopy));
        assert_eq!(copy.read_u64(RuntimeAddr(0xff8)), Err(ReadFailure::Unreadable));
        copy.capped = false;
        assert_eq!(copy.read_u64(RuntimeAddr(0x1010)), Err(ReadFailure::Unreadable));
        assert_eq!(copy.read_u64(RuntimeAddr(u64::MAX)), Err(ReadFailure::Unreadable));
    }

    #[test]
    fn a_zero_is_a_value_except_in_a_page_that_could_not_be_copied() {
        let mut bytes = vec![0; 3 * 4096];
        bytes[8] = 1;
        bytes[2 * 4096 + 8] = 1;
        let mut copy =
            CopiedStack { start: RuntimeAddr(0x1000), bytes: &bytes, capped: false, has_holes: true };
        assert_eq!(copy.read_u64(RuntimeAddr(0x1000)), Ok(0));
        assert_eq!(copy.read_u64(RuntimeAddr(0x2000)), Err(ReadFailure::Unreadable));
        assert_eq!(copy.read_u64(RuntimeAddr(0x3000)), Ok(0));
        copy.has_holes = false;
        assert_eq!(copy.read_u64(RuntimeAddr(0x2000)), Ok(0));
    }

    #[test]
    fn a_late_read_supplies_what_the_copy_lacks() {
        let copy = CopiedStack { start: RuntimeAddr(0x1000), bytes: &[0; 8], capped: true, has_holes: false };
        let mut memory = LateReads { copy, late: |addr: RuntimeAddr| (addr.0 == 0x1008).then_some(7) };
        assert_eq!(memory.read_u64(RuntimeAddr(0x1000)), Ok(0));
        assert_eq!(memory.read_u64(RuntimeAddr(0x1008)), Ok(7));
        assert_eq!(memory.read_u64(RuntimeAddr(0x1010)), Err(ReadFailure::BeyondCopy));
    }
}
