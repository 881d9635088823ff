//! Decodes x86-64 code (by `iced-x86`).
//!
//! Not here: the syntax of Go's assembler ([`super::plan9`]).

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter};

use super::{CodeLine, Lookup, Syntax, plan9};
use crate::addr::ElfAddr;

/// The instructions of `code`, which begins at `address`.
pub(super) fn code(code: &[u8], address: u64, syntax: Syntax, lookup: Lookup) -> Vec<CodeLine> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut intel = IntelFormatter::new();
    let mut instruction = Instruction::default();
    let mut lines = Vec::new();
    let mut at = 0;
    while at < code.len() {
        if decoder.set_position(at).is_err() {
            break;
        }
        decoder.set_ip(address.wrapping_add(at as u64));
        decoder.decode_out(&mut instruction);
        let place = ElfAddr(address.wrapping_add(at as u64));
        if instruction.is_invalid() {
            lines.push(CodeLine { address: place, text: "?".into() });
            at += 1;
            continue;
        }
        let text = match syntax {
            Syntax::Go => plan9::text(&instruction, lookup),
            Syntax::Intel => {
                let mut text = String::new();
                intel.format(&instruction, &mut text);
                text
            }
        };
        lines.push(CodeLine { address: place, text });
        at += instruction.len();
    }
    lines
}
