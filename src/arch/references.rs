//! The addresses of globals that machine code refers to, in the order of a function's instructions.
//! In a program without symbols, the references of a known function locate its globals.
//!
//! Not here: which function, which global.

use super::{aarch64, x86_64};

/// How an instruction uses a global.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Its address is taken.
    Address,
    /// It is read.
    Load,
    /// It is written.
    Store,
}

/// One use of a global.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reference {
    /// The address of the global.
    pub address: u64,
    /// How many bytes are loaded or stored; 0 for [`Use::Address`].
    pub bytes: usize,
    /// How it is used.
    pub kind: Use,
}

/// The references of `code`, which is at address `start`, for the CPU of an ELF file's `e_machine`;
/// none for an unknown CPU.
pub fn references(machine: u16, code: &[u8], start: u64) -> Vec<Reference> {
    match machine {
        x86_64::ELF_MACHINE => of_x86_64(code, start),
        aarch64::ELF_MACHINE => of_aarch64(code, start),
        _ => Vec::new(),
    }
}

fn of_x86_64(code: &[u8], start: u64) -> Vec<Reference> {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic, OpKind};
    let mut found = Vec::new();
    for instruction in Decoder::with_ip(64, code, start, DecoderOptions::NONE) {
        if !instruction.is_ip_rel_memory_operand() {
            continue;
        }
        let kind = match (instruction.mnemonic(), instruction.op0_kind()) {
            (Mnemonic::Lea, _) => Use::Address,
            (Mnemonic::Mov, OpKind::Memory) => Use::Store,
            _ => Use::Load,
        };
        let bytes = if kind == Use::Address { 0 } else { instruction.memory_size().size() };
        found.push(Reference { address: instruction.ip_rel_memory_address(), bytes, kind });
    }
    found
}

/// ADRP puts a page's address into a register; ADD, LDR or STR (unsigned offset) that builds on it
/// names the data (Arm ARM, C4.1.93 and C6.2).
fn of_aarch64(code: &[u8], start: u64) -> Vec<Reference> {
    let mut found = Vec::new();
    let mut known = [None::<u64>; 32];
    for (index, word) in code.as_chunks::<4>().0.iter().enumerate() {
        let word = u32::from_le_bytes(*word);
        let (to, from) = ((word & 31) as usize, (word >> 5 & 31) as usize);
        if word & 0x9f00_0000 == 0x9000_0000 {
            let pages = i64::from((word >> 5 & 0x7_ffff) << 2 | word >> 29 & 3) << 43 >> 43;
            let page = (start + index as u64 * 4) & !0xfff;
            known[to] = Some(page.wrapping_add_signed(pages << 12));
        } else if word & 0xffc0_0000 == 0x9100_0000 {
            known[to] = known[from].map(|base| base + u64::from(word >> 10 & 0xfff));
            found.extend(known[to].map(|address| Reference { address, bytes: 0, kind: Use::Address }));
        } else if word & 0x3b00_0000 == 0x3900_0000 {
            let scale = word >> 30;
            let kind = if word >> 22 & 3 == 0 { Use::Store } else { Use::Load };
            let offset = u64::from(word >> 10 & 0xfff) << scale;
            found.extend(known[from].map(|base| Reference {
                address: base + offset,
                bytes: 1 << scale,
                kind,
            }));
            if kind == Use::Load {
                known[to] = None;
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x86_64_code_refers_to_data_relative_to_itself() {
        // mov 0x10(%rip),%rax; lea 0x20(%rip),%rcx; mov %edx,0x30(%rip)
        let code =
            [0x48, 0x8b, 0x05, 0x10, 0, 0, 0, 0x48, 0x8d, 0x0d, 0x20, 0, 0, 0, 0x89, 0x15, 0x30, 0, 0, 0];
        let found = references(x86_64::ELF_MACHINE, &code, 0x1000);
        let expected = [(0x1017, 8, Use::Load), (0x102e, 0, Use::Address), (0x1044, 4, Use::Store)];
        assert_eq!(found, expected.map(|(address, bytes, kind)| Reference { address, bytes, kind }));
    }

    #[test]
    fn aarch64_code_refers_to_data_by_page_and_offset() {
        // adrp x0, +1 page; ldr x1, [x0, #16]; adrp x2, 0; add x2, x2, #0x123; str w3, [x2, #4]
        let words = [0xb000_0000u32, 0xf940_0801, 0x9000_0002, 0x9104_8c42, 0xb900_0443];
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let found = references(aarch64::ELF_MACHINE, &code, 0x1000);
        let expected = [(0x2010, 8, Use::Load), (0x1123, 0, Use::Address), (0x1127, 4, Use::Store)];
        assert_eq!(found, expected.map(|(address, bytes, kind)| Reference { address, bytes, kind }));
    }
}
