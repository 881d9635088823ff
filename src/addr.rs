//! The kinds of address used in a profiler, each with its own type, so that a run-time address is
//! never looked up in a file by mistake.
//!
//! Not here: anything that reads memory or files.

use std::fmt;

/// An address in the virtual memory of a running process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct RuntimeAddr(pub u64);

/// An address as an ELF file states it (`p_vaddr`, `st_value`, DWARF `DW_AT_low_pc`): the run-time
/// address minus the load bias.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ElfAddr(pub u64);

/// A position in a file, in bytes from its start.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FileOffset(pub u64);

impl RuntimeAddr {
    /// The address plus `bytes`. Wraps on overflow, because a hostile register may hold any value.
    pub fn offset(self, bytes: i64) -> RuntimeAddr {
        RuntimeAddr(self.0.wrapping_add_signed(bytes))
    }
}

macro_rules! hex_debug {
    ($($t:ty),*) => {$(
        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:#x})", stringify!($t), self.0)
            }
        }
        impl fmt::LowerHex for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::LowerHex::fmt(&self.0, f)
            }
        }
    )*};
}
hex_debug!(RuntimeAddr, ElfAddr, FileOffset);

/// The address of a frame, and how it is to be read.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum FrameAddr {
    /// The instruction that was about to run (or that faulted): the leaf of a stack, and the frame
    /// below a signal handler.
    Pc(RuntimeAddr),
    /// The instruction that a call will return to. The call itself lies just before it, possibly at
    /// the end of another function or line.
    Return(RuntimeAddr),
}

impl FrameAddr {
    /// The address to look up in symbol, line and unwind tables: that of the instruction itself, or
    /// one inside the calling instruction.
    pub fn lookup(self) -> RuntimeAddr {
        match self {
            FrameAddr::Pc(addr) => addr,
            FrameAddr::Return(addr) => RuntimeAddr(addr.0.saturating_sub(1)),
        }
    }

    /// The address as it was in the register or on the stack.
    pub fn raw(self) -> RuntimeAddr {
        match self {
            FrameAddr::Pc(addr) | FrameAddr::Return(addr) => addr,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_return_address_is_looked_up_inside_the_call() {
        assert_eq!(FrameAddr::Return(RuntimeAddr(0x1000)).lookup(), RuntimeAddr(0xfff));
        assert_eq!(FrameAddr::Pc(RuntimeAddr(0x1000)).lookup(), RuntimeAddr(0x1000));
        assert_eq!(FrameAddr::Return(RuntimeAddr(0)).lookup(), RuntimeAddr(0));
    }
}
