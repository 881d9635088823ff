//! Relocations of debug information and call-frame information in relocatable files.
//!
//! Not here: which files have any.

use super::{aarch64, x86_64};

/// The value of a relocation of `kind` and how many bytes it has. `value`: symbol plus addend;
/// `place`: the address of what is relocated. `None`: another kind, which is of code only.
///
/// Sources: System V ABI for x86-64, table 4.9; ELF for the Arm 64-bit Architecture, 5.7.
pub fn relocated(machine: u16, kind: u32, value: u64, place: u64) -> Option<(u64, usize)> {
    let relative = value.wrapping_sub(place);
    match (machine, kind) {
        // R_X86_64_64; R_AARCH64_ABS64
        (x86_64::ELF_MACHINE, 1) | (aarch64::ELF_MACHINE, 257) => Some((value, 8)),
        // R_X86_64_PC64; R_AARCH64_PREL64
        (x86_64::ELF_MACHINE, 24) | (aarch64::ELF_MACHINE, 260) => Some((relative, 8)),
        // R_X86_64_32 and _32S; R_AARCH64_ABS32
        (x86_64::ELF_MACHINE, 10 | 11) | (aarch64::ELF_MACHINE, 258) => Some((value, 4)),
        // R_X86_64_PC32; R_AARCH64_PREL32
        (x86_64::ELF_MACHINE, 2) | (aarch64::ELF_MACHINE, 261) => Some((relative, 4)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_and_relative_relocations_have_their_size() {
        assert_eq!(relocated(x86_64::ELF_MACHINE, 24, 0x1000, 0x1010), Some(((-16i64).cast_unsigned(), 8)));
        assert_eq!(relocated(x86_64::ELF_MACHINE, 10, 0x1000, 0x1010), Some((0x1000, 4)));
        assert_eq!(relocated(aarch64::ELF_MACHINE, 257, 7, 0), Some((7, 8)));
        assert_eq!(relocated(x86_64::ELF_MACHINE, 4, 1, 1), None);
    }
}
