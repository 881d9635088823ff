//! The memory that a stack is unwound from: a copy of the stack's top, and, where the caller can,
//! reads of what the copy does not hold.
//!
//! Not here: reading another process.

use crate::addr::RuntimeAddr;

/// Why a word could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// The address lies above a copy that was cut short.
    BeyondCopy,
    /// There is no memory there, or it was never at hand.
    Unreadable,
}

/// Memory of the thread that is being unwound, as it stood when its registers were taken.
pub trait StackMemory {
    /// The 64-bit word at `addr`, which need not be aligned.
    fn read_u64(&mut self, addr: RuntimeAddr) -> Result<u64, ReadFailure>;
}

/// The top of a stack, copied when the registers were taken.
#[derive(Clone, Copy, Debug)]
pub struct CopiedStack<'a> {
    /// Where the first byte stood: the stack pointer, or a little below.
    pub start: RuntimeAddr,
    pub bytes: &'a [u8],
    /// The copy ends because of a limit: more stack lies above it.
    pub capped: bool,
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
            Some(word) => Ok(word),
            None if self.capped && addr >= self.start => Err(ReadFailure::BeyondCopy),
            None => Err(ReadFailure::Unreadable),
        }
    }
}

/// A copy, and a way to read what it does not hold: memory of a thread that may have run on since,
/// so that the reader must know whether what it returns still fits.
pub struct LateReads<'a, F> {
    pub copy: CopiedStack<'a>,
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
    fn what_lies_above_a_capped_copy_is_told_from_what_is_not_there() {
        let mut copy = CopiedStack { start: RuntimeAddr(0x1000), bytes: &[1; 16], capped: true };
        assert_eq!(copy.read_u64(RuntimeAddr(0x1008)), Ok(0x0101_0101_0101_0101));
        assert_eq!(copy.read_u64(RuntimeAddr(0x1009)), Err(ReadFailure::BeyondCopy));
        assert_eq!(copy.read_u64(RuntimeAddr(0xff8)), Err(ReadFailure::Unreadable));
        copy.capped = false;
        assert_eq!(copy.read_u64(RuntimeAddr(0x1010)), Err(ReadFailure::Unreadable));
        assert_eq!(copy.read_u64(RuntimeAddr(u64::MAX)), Err(ReadFailure::Unreadable));
    }

    #[test]
    fn a_late_read_fills_in_what_the_copy_lacks() {
        let copy = CopiedStack { start: RuntimeAddr(0x1000), bytes: &[0; 8], capped: true };
        let mut memory = LateReads { copy, late: |addr: RuntimeAddr| (addr.0 == 0x1008).then_some(7) };
        assert_eq!(memory.read_u64(RuntimeAddr(0x1000)), Ok(0));
        assert_eq!(memory.read_u64(RuntimeAddr(0x1008)), Ok(7));
        assert_eq!(memory.read_u64(RuntimeAddr(0x1010)), Err(ReadFailure::BeyondCopy));
    }
}
