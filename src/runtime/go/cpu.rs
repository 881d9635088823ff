//! What differs by CPU in Go's code: frames, registers, instructions that are recognized.
//!
//! Not here: the CPU itself (`arch`).

use crate::arch::{self, FixedFrame, native};

/// Go's conventions on one CPU.
#[derive(Debug)]
pub struct Cpu {
    /// DWARF number of the register that holds the running goroutine.
    pub g_register: u16,
    /// The offset of a function's arguments from its caller's stack pointer, in bytes.
    pub arguments_above: u64,
    /// The frame of a function whose stack pointer is this many bytes below its value at entry.
    pub frame: fn(i64) -> FixedFrame,
    /// Whether code is `runtime.goexit`, the outermost return address of every goroutine: nop,
    /// call, nop.
    pub is_goexit: fn(&[u8]) -> bool,
    /// The offset from the thread pointer from which the code of `runtime.morestack` loads the
    /// running goroutine; `None`: it does not.
    pub g_offset: fn(&[u8]) -> Option<i64>,
}

/// The CPU that rprof runs on, and therefore its targets.
pub const CPU: Cpu = if native::ELF_MACHINE == arch::x86_64::ELF_MACHINE { X86_64 } else { AARCH64 };

const X86_64: Cpu = Cpu {
    g_register: 14,
    arguments_above: 0,
    frame: x86_64_frame,
    is_goexit: |code| matches!(code, [0x90, 0xe8, _, _, _, _, 0x90, ..]),
    g_offset: x86_64_g_offset,
};

const AARCH64: Cpu = Cpu {
    g_register: 28,
    arguments_above: 8,
    frame: aarch64_frame,
    is_goexit: is_aarch64_goexit,
    // Only in the register, which C code may overwrite.
    g_offset: |_| None,
};

/// The return address is at the frame's top, the frame pointer below it.
fn x86_64_frame(depth: i64) -> FixedFrame {
    FixedFrame { return_at: Some(depth), caller_sp: depth + 8, saved_fp: (depth >= 8).then_some(depth - 8) }
}

/// The return address is at the frame's bottom, the frame pointer below that.
fn aarch64_frame(depth: i64) -> FixedFrame {
    let has_frame = depth > 0;
    FixedFrame { return_at: has_frame.then_some(0), caller_sp: depth, saved_fp: has_frame.then_some(-8) }
}

/// `mov %fs:disp,%r`, or `mov $disp,%r` and `mov %fs:(%r),%r` (the linker's forms of local and
/// initial exec).
fn x86_64_g_offset(code: &[u8]) -> Option<i64> {
    match code {
        [0x64, 0x48 | 0x4c, 0x8b, modrm, 0x25, a, b, c, d, ..] if modrm & 0xc7 == 0x04 => {
            Some(i32::from_le_bytes([*a, *b, *c, *d]).into())
        }
        [0x48, 0xc7, loaded, a, b, c, d, 0x64, 0x48 | 0x4c, 0x8b, modrm, ..]
            if loaded & 0xf8 == 0xc0 && modrm & 0xc7 == loaded & 7 =>
        {
            Some(i32::from_le_bytes([*a, *b, *c, *d]).into())
        }
        _ => None,
    }
}

fn is_aarch64_goexit(code: &[u8]) -> bool {
    const NOP: u32 = 0xd503_201f;
    let instruction = |index: usize| Some(u32::from_le_bytes(*code.get(index * 4..)?.first_chunk()?));
    let is_call = instruction(1).is_some_and(|word| word >> 26 == 0b10_0101);
    instruction(0) == Some(NOP) && is_call && instruction(2) == Some(NOP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_go_keeps_the_running_goroutine_is_read_from_its_code() {
        let plain = [0x64, 0x48, 0x8b, 0x3c, 0x25, 0xf8, 0xff, 0xff, 0xff, 0x48];
        let by_register = [0x48, 0xc7, 0xc1, 0xf0, 0xff, 0xff, 0xff, 0x64, 0x48, 0x8b, 0x39, 0x48];
        let offset = X86_64.g_offset;
        assert_eq!((offset(&plain), offset(&by_register)), (Some(-8), Some(-16)));
        assert_eq!((offset(&plain[1..]), offset(&by_register[..9]), offset(&[])), (None, None, None));
    }

    #[test]
    fn the_end_of_a_goroutine_is_recognized_on_both_cpus() {
        assert!((X86_64.is_goexit)(&[0x90, 0xe8, 1, 2, 3, 4, 0x90]));
        assert!(!(X86_64.is_goexit)(&[0x90, 0xe8, 1, 2, 3, 4]));
        let words = [0xd503_201f_u32, 0x9400_0002, 0xd503_201f];
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert!((AARCH64.is_goexit)(&code) && !(AARCH64.is_goexit)(&code[..8]));
    }
}
