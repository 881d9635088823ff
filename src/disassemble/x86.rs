//! Decodes x86-64 code with `iced-x86`.
//!
//! Not here: the syntax of Go's assembler ([`super::plan9`]).

use iced_x86::{Decoder, DecoderOptions, Formatter, Instruction, IntelFormatter};

use super::{CodeLine, Lookup, Syntax, plan9};
use crate::addr::ElfAddr;

/// Decodes the instructions of `code`, which begins at `address`.
pub(super) fn code(code: &[u8], address: u64, syntax: Syntax, lookup: Lookup) -> Vec<CodeLine> {
    let mut decoder = Decoder::with_ip(64, code, address, DecoderOptions::NONE);
    let mut intel = intel_formatter();
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

/// Number format of the reports.
fn intel_formatter() -> IntelFormatter {
    let mut formatter = IntelFormatter::new();
    let options = formatter.options_mut();
    options.set_hex_prefix("0x");
    options.set_hex_suffix("");
    options.set_uppercase_hex(false);
    options.set_small_hex_numbers_in_decimal(false);
    options.set_branch_leading_zeros(false);
    options.set_show_branch_size(false);
    formatter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intel_syntax_puts_the_destination_first_and_uses_plain_numbers() {
        let bytes = [0x8b, 0x45, 0xf8, 0xeb, 0x10, 0x83, 0xc0, 0x05];
        let lines = code(&bytes, 0x401000, Syntax::Intel, &|_| None);
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["mov eax,[rbp-0x8]", "jmp 0x401015", "add eax,0x5"]);
    }
}
