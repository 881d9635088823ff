//! Everything that depends on the CPU: DWARF register numbers, perf register masks, and the machine
//! code of calls, prologues and signal frames.
//!
//! The modules of the CPUs have the same items ([`x86_64`], [`aarch64`]). Both are compiled on
//! every CPU, so that their pure parts are tested everywhere; [`native`] is the CPU that rprof runs
//! on. Not here: unwinding, system calls.

pub mod aarch64;
pub mod aarch64_syscalls;
pub mod references;
pub mod relocations;
pub mod x86_64;
pub mod x86_64_syscalls;
pub mod x86_instructions;

#[cfg(target_arch = "aarch64")]
pub use aarch64 as native;
#[cfg(target_arch = "aarch64")]
use aarch64_syscalls::SYSCALL_NAMES;
#[cfg(target_arch = "x86_64")]
pub use x86_64 as native;
#[cfg(target_arch = "x86_64")]
use x86_64_syscalls::SYSCALL_NAMES;

/// The name of the CPU that rprof is built for, as a literal: names of embedded files contain it.
#[cfg(target_arch = "aarch64")]
macro_rules! native_name {
    () => {
        "aarch64"
    };
}
#[cfg(target_arch = "x86_64")]
macro_rules! native_name {
    () => {
        "x86_64"
    };
}
pub(crate) use native_name;

/// The CPU's time-stamp counter, which Go's `cputicks` reads. Its rate depends on the machine.
pub fn cpu_ticks() -> u64 {
    tick_counter::start()
}

/// The name of the system call with this number; `None`: not known.
pub fn syscall_name(number: u64) -> Option<&'static str> {
    named(SYSCALL_NAMES, number)
}

fn named(runs: &[(u64, &'static str)], number: u64) -> Option<&'static str> {
    let (first, names) = runs.iter().rev().find(|(first, _)| *first <= number)?;
    names.split_ascii_whitespace().nth(usize::try_from(number - first).ok()?)
}

/// The call instruction before a return address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// To a fixed target, in bytes from the return address.
    Direct(i64),
    /// Through a register or memory.
    Indirect,
}

/// Where a function without a frame, or in its prologue or epilogue, has its caller's registers,
/// derived from its next instructions.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LeafShape {
    /// The register (DWARF number) that offsets are relative to.
    pub base: u16,
    /// Where the return address is.
    pub return_address: ReturnAt,
    /// The caller's stack pointer, in bytes from `base`.
    pub caller_sp: i64,
    /// Saved registers: DWARF number, and offset in bytes from `base`.
    pub saved: Vec<(u16, i64)>,
}

/// A frame of a function that keeps its parts at fixed offsets from its stack pointer, in bytes,
/// and preserves no register for its caller except the frame pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FixedFrame {
    /// The return address; `None`: it is still in the link register.
    pub return_at: Option<i64>,
    /// The caller's stack pointer.
    pub caller_sp: i64,
    /// The caller's frame pointer, if the function has set up its own, which then points there;
    /// `None`: not saved yet.
    pub saved_fp: Option<i64>,
}

/// Where a return address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReturnAt {
    /// In this register (DWARF number).
    Register(u16),
    /// In memory, at this offset in bytes from [`LeafShape::base`].
    Offset(i64),
}

/// The maximum number of registers that a supported CPU tracks.
pub const MAX_REGISTERS: usize = 34;

/// The user-space registers of one frame, by DWARF number. A register whose value is not known
/// (never copied, or not recoverable in a caller's frame) is absent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Registers {
    values: [u64; MAX_REGISTERS],
    known: u64,
    /// Besides the known ones: those whose value is a callee's, which may have changed it.
    left: u64,
}

impl Default for Registers {
    fn default() -> Self {
        Registers { values: [0; MAX_REGISTERS], known: 0, left: 0 }
    }
}

impl Registers {
    /// The value of the register with this DWARF number, if known.
    pub fn get(&self, dwarf_number: u16) -> Option<u64> {
        let index = usize::from(dwarf_number);
        (index < MAX_REGISTERS && self.known >> index & 1 == 1).then(|| self.values[index])
    }

    /// The stack pointer, if known.
    pub fn stack_pointer(&self) -> Option<u64> {
        self.get(native::SP)
    }

    /// Sets a register; a number this CPU does not have is ignored.
    pub fn set(&mut self, dwarf_number: u16, value: u64) {
        let index = usize::from(dwarf_number);
        if index < MAX_REGISTERS {
            self.values[index] = value;
            self.known |= 1 << index;
        }
    }

    /// Makes all registers unknown except those whose bit (by DWARF number) is set in `mask`.
    pub fn retain(&mut self, mask: u64) {
        self.left |= self.known & !mask;
        self.known &= mask;
    }

    /// Makes a register unknown.
    pub fn forget(&mut self, dwarf_number: u16) {
        let index = usize::from(dwarf_number);
        if index < MAX_REGISTERS {
            self.known &= !(1 << index);
            self.left &= !(1 << index);
        }
    }

    /// These registers, and for those that [`Registers::retain`] made unknown the callee's value:
    /// right if no callee has changed it, which is up to the caller to check.
    pub fn with_values_left_by_callees(mut self) -> Registers {
        self.known |= self.left;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn system_calls_are_named_by_the_numbers_of_their_cpu() {
        let x86_64 = |number| named(x86_64_syscalls::SYSCALL_NAMES, number);
        let aarch64 = |number| named(aarch64_syscalls::SYSCALL_NAMES, number);
        assert_eq!([0, 202, 232, 334].map(x86_64), ["read", "futex", "epoll_wait", "rseq"].map(Some));
        assert_eq!([63, 98, 22, 222].map(aarch64), ["read", "futex", "epoll_pwait", "mmap"].map(Some));
        for both in [x86_64(424), aarch64(424)] {
            assert_eq!(both, Some("pidfd_send_signal"));
        }
        for none in [400, 4000, u64::MAX] {
            assert_eq!((x86_64(none), aarch64(none)), (None, None));
        }
    }

    #[test]
    fn an_unset_register_is_unknown_and_foreign_numbers_are_ignored() {
        let mut registers = Registers::default();
        assert_eq!(registers.get(3), None);
        registers.set(3, 7);
        assert_eq!(registers.get(3), Some(7));
        registers.forget(3);
        assert_eq!(registers.get(3), None);
        registers.set(9999, 1);
        assert_eq!(registers.get(9999), None);
    }

    #[test]
    fn a_register_that_calls_do_not_preserve_keeps_the_value_that_the_callee_left() {
        let mut registers = Registers::default();
        (0..3).for_each(|number| registers.set(number, 10 + u64::from(number)));
        registers.retain(1 << 2);
        registers.forget(1);
        assert_eq!([0, 1, 2].map(|number| registers.get(number)), [None, None, Some(12)]);
        let left = registers.with_values_left_by_callees();
        assert_eq!([0, 1, 2].map(|number| left.get(number)), [Some(10), None, Some(12)]);
    }
}
