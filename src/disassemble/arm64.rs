//! Decodes 64-bit ARM code with `yaxpeax-arm`.
//!
//! Not here: other CPUs.

use yaxpeax_arch::{Decoder, U8Reader};
use yaxpeax_arm::armv8::a64::{InstDecoder, Opcode, Operand};

use super::{CodeLine, Lookup};
use crate::addr::ElfAddr;

const INSTRUCTION_BYTES: usize = 4;

/// Decodes the instructions of `code`, which begins at `address`.
pub(super) fn code(code: &[u8], address: u64, lookup: Lookup) -> Vec<CodeLine> {
    let decoder = InstDecoder::default();
    let lines = code.chunks(INSTRUCTION_BYTES).enumerate().map(|(at, bytes)| {
        let place = address.wrapping_add((at * INSTRUCTION_BYTES) as u64);
        let decoded = decoder.decode(&mut U8Reader::new(bytes));
        let text = decoded.map_or_else(
            |_| "?".into(),
            |instruction| match target(&instruction.opcode, &instruction.operands, place) {
                Some(target) => {
                    let text = instruction.to_string();
                    // The decoder writes the distance of a jump; readers need its target.
                    let start = text.rfind('$').unwrap_or(text.len());
                    format!("{}{}", &text[..start], place_text(target, lookup))
                }
                None => instruction.to_string(),
            },
        );
        CodeLine { address: ElfAddr(place), text }
    });
    lines.collect()
}

/// The target address of a jump or call.
fn target(opcode: &Opcode, operands: &[Operand], place: u64) -> Option<u64> {
    let jumps = matches!(
        opcode,
        Opcode::B | Opcode::BL | Opcode::Bcc(_) | Opcode::CBZ | Opcode::CBNZ | Opcode::TBZ | Opcode::TBNZ
    );
    operands.iter().filter(|_| jumps).find_map(|operand| match operand {
        Operand::PCOffset(offset) => Some(place.wrapping_add_signed(*offset)),
        _ => None,
    })
}

fn place_text(target: u64, lookup: Lookup) -> String {
    match lookup(target) {
        Some((name, start)) if start == target => format!("{name}(SB)"),
        _ => format!("{target:#x}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_decoded_and_calls_name_their_target() {
        let words = [0xd10083ffu32, 0x94000002, 0xb4000040, 0xd65f03c0, 0x00000000];
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let lookup = |address: u64| (address == 0x100c).then_some(("callee", 0x100c));
        let texts: Vec<String> = code(&bytes, 0x1000, &lookup).into_iter().map(|line| line.text).collect();
        assert_eq!(texts[1..4], ["bl callee(SB)", "cbz x0, 0x1010", "ret"]);
        assert!(texts[0].starts_with("sub sp, sp"), "{}", texts[0]);
    }
}
