//! Formats an x86 instruction in the syntax of Go's assembler, which is Plan 9's: operands from
//! left to right, the operand size as a suffix of the mnemonic, memory as
//! `displacement(base)(index*scale)`.
//!
//! Not here: decoding. The names and rules are those of `go tool objdump`, found by comparing
//! outputs; newer instructions, which `go tool objdump` does not know, follow the same rules.

use std::fmt::Write;

use iced_x86::{Code, FlowControl, Instruction, Mnemonic, OpKind, Register};

use super::Lookup;

/// Formats an instruction.
pub(super) fn text(instruction: &Instruction, lookup: Lookup) -> String {
    let mut operands: Vec<String> =
        (0..instruction.op_count()).filter_map(|at| operand(instruction, at, lookup)).collect();
    // Operands of comparisons keep their order.
    if instruction.mnemonic() != Mnemonic::Cmp {
        operands.reverse();
    }
    if instruction.op_mask() != Register::None {
        let before_last = operands.len().saturating_sub(1);
        operands.insert(before_last, register(instruction.op_mask()));
    }
    let mut text = prefix(instruction);
    text += &name(instruction);
    if let Some(suffix) = suffix(instruction) {
        text.push(suffix);
    }
    if !operands.is_empty() {
        text.push(' ');
        text += &operands.join(", ");
    }
    text
}

fn prefix(instruction: &Instruction) -> String {
    let mut text = String::new();
    if instruction.has_repne_prefix() {
        text += if is_jump(instruction) { "BND " } else { "REPNE; " };
    } else if instruction.has_rep_prefix() {
        text += "REP; ";
    }
    if instruction.has_lock_prefix() {
        text += "LOCK ";
    }
    // 64-bit code has no use for the other segments: the prefix only lengthens the instruction.
    let segment = instruction.segment_prefix();
    let has_memory = (0..instruction.op_count()).any(|at| instruction.op_kind(at) == OpKind::Memory);
    if has_memory && !matches!(segment, Register::None | Register::FS | Register::GS) {
        text += &format!("{segment:?} ");
    }
    text
}

fn is_jump(instruction: &Instruction) -> bool {
    instruction.flow_control() != FlowControl::Next
}

fn name(instruction: &Instruction) -> String {
    let name = format!("{:?}", instruction.mnemonic()).to_uppercase();
    match instruction.mnemonic() {
        Mnemonic::Int3 => "INT $0x3".into(),
        // String instructions on double words have these mnemonics too.
        Mnemonic::Movsd | Mnemonic::Cmpsd if instruction.op_kind(0) == OpKind::Register => name + "_XMM",
        Mnemonic::Movsd if instruction.op_kind(1) == OpKind::Register => name + "_XMM",
        _ => name,
    }
}

/// The size suffix, where the mnemonic alone does not imply it.
fn suffix(instruction: &Instruction) -> Option<char> {
    use Mnemonic::*;
    let is_sized = matches!(
        instruction.mnemonic(),
        Adc | Add
            | And
            | Bsf
            | Bsr
            | Bt
            | Btc
            | Btr
            | Bts
            | Cmp
            | Cmpxchg
            | Cvtsi2sd
            | Cvtsi2ss
            | Cvtsd2si
            | Cvtss2si
            | Cvttsd2si
            | Cvttss2si
            | Dec
            | Div
            | Fldenv
            | Frstor
            | Idiv
            | Imul
            | In
            | Inc
            | Lea
            | Mov
            | Movnti
            | Mul
            | Neg
            | Nop
            | Not
            | Or
            | Out
            | Pop
            | Popcnt
            | Push
            | Rcl
            | Rcr
            | Rol
            | Ror
            | Sar
            | Sbb
            | Shl
            | Shld
            | Shr
            | Shrd
            | Sub
            | Test
            | Xadd
            | Xchg
            | Xor
    );
    let bits = if is_sized { bits(instruction) } else { 0 };
    match bits {
        8 => Some('B'),
        16 => Some('W'),
        32 => Some('L'),
        64 => Some('Q'),
        _ => None,
    }
}

fn bits(instruction: &Instruction) -> usize {
    let kinds = || (0..instruction.op_count()).map(|at| (at, instruction.op_kind(at)));
    let has_memory = kinds().any(|(_, kind)| kind == OpKind::Memory);
    if has_memory && instruction.mnemonic() != Mnemonic::Lea {
        return instruction.memory_size().size() * 8;
    }
    let registers = kinds().filter(|(_, kind)| *kind == OpKind::Register);
    let general = registers.map(|(at, _)| instruction.op_register(at)).find(|register| register.is_gpr());
    if let Some(register) = general {
        // Byte registers have no suffix of their own.
        return (register.size() * 8).max(if register.size() == 1 { 32 } else { 16 });
    }
    match instruction.code() {
        Code::Nopw => 16,
        Code::Nopq => 64,
        _ => 32,
    }
}

fn operand(instruction: &Instruction, at: u32, lookup: Lookup) -> Option<String> {
    Some(match instruction.op_kind(at) {
        OpKind::Register => register(instruction.op_register(at)),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            let target = instruction.near_branch_target();
            match lookup(target) {
                Some((name, start)) if start == target => format!("{name}(SB)"),
                _ => format!("{target:#x}"),
            }
        }
        OpKind::FarBranch16 => format!("{:#x}", instruction.far_branch16()),
        OpKind::FarBranch32 => format!("{:#x}", instruction.far_branch32()),
        OpKind::Memory => memory(instruction, lookup),
        OpKind::MemorySegSI => string_operand(instruction, "SI"),
        OpKind::MemorySegESI => string_operand(instruction, "SI"),
        OpKind::MemorySegRSI => string_operand(instruction, "SI"),
        OpKind::MemorySegDI | OpKind::MemorySegEDI | OpKind::MemorySegRDI => {
            string_operand(instruction, "DI")
        }
        OpKind::MemoryESDI | OpKind::MemoryESEDI | OpKind::MemoryESRDI => "ES:0(DI)".into(),
        _ => number(instruction, immediate(instruction, at), lookup),
    })
}

fn number(instruction: &Instruction, value: i64, lookup: Lookup) -> String {
    let may_be_place = matches!(instruction.mnemonic(), Mnemonic::Mov | Mnemonic::Push);
    if may_be_place
        && bits(instruction) == 32
        && let Some((name, start)) = lookup(value as u64)
    {
        return match value.wrapping_sub(start as i64) {
            0 => format!("${name}(SB)"),
            offset => format!("${name}{offset:+}(SB)"),
        };
    }
    // A value that does not fit into 32 bits is written unsigned.
    if i32::try_from(value).is_ok() { format!("${}", hex(value)) } else { format!("${value:#x}") }
}

fn string_operand(instruction: &Instruction, register: &str) -> String {
    format!("{:?}:0({register})", instruction.memory_segment())
}

/// The number as the CPU uses it, signed.
fn immediate(instruction: &Instruction, at: u32) -> i64 {
    let value = instruction.immediate(at);
    match instruction.op_kind(at) {
        OpKind::Immediate8 => i64::from(value as u8),
        OpKind::Immediate8_2nd => i64::from(value as u8),
        OpKind::Immediate16 => i64::from(value as i16),
        OpKind::Immediate32 => i64::from(value as i32),
        OpKind::Immediate8to16 => i64::from(value as i16),
        OpKind::Immediate8to32 => i64::from(value as i32),
        _ => value as i64,
    }
}

fn memory(instruction: &Instruction, lookup: Lookup) -> String {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    let is_relative = instruction.is_ip_rel_memory_operand();
    let has_segment = matches!(instruction.segment_prefix(), Register::FS | Register::GS);
    let mut displacement = instruction.memory_displacement64() as i64;
    if is_relative {
        displacement = displacement.wrapping_sub(instruction.next_ip() as i64);
    }
    // Go's decoder treats four-byte displacements as unsigned numbers.
    if instruction.memory_displ_size() >= 4 && i32::try_from(displacement).is_ok() {
        displacement = i64::from(displacement as u32);
    }
    let is_place = !has_segment && index == Register::None && (is_relative || base == Register::None);
    if is_place && displacement != 0 {
        let from = if is_relative { instruction.next_ip() } else { 0 };
        let place = from.wrapping_add_signed(displacement);
        if let Some((name, start)) = lookup(place) {
            return match place.wrapping_sub(start) {
                0 => format!("{name}(SB)"),
                offset => format!("{name}+{offset}(SB)"),
            };
        }
    }
    let mut text = String::new();
    if has_segment {
        let _ = write!(text, "{:?}:", instruction.segment_prefix());
    }
    text += &if displacement == 0 { "0".into() } else { hex(displacement) };
    if base != Register::None {
        let _ = write!(text, "({})", register(base));
    }
    if index != Register::None {
        let _ = write!(text, "({}*{})", register(index), instruction.memory_index_scale());
    }
    text
}

/// Formats a signed number as Go's `%#x` does.
fn hex(number: i64) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{:#x}", number.unsigned_abs())
}

/// A register's name, which is the same for all sizes except `AL` and `AH`.
fn register(register: Register) -> String {
    let name = format!("{register:?}");
    if register.is_gpr() {
        return match name.as_str() {
            "SPL" | "BPL" | "SIL" | "DIL" => name[..2].into(),
            _ if name.starts_with('R') && name[1..].starts_with(|first: char| first.is_ascii_digit()) => {
                name.trim_end_matches(['L', 'W', 'D']).into()
            }
            _ if name.len() == 3 => name[1..].into(),
            _ => name,
        };
    }
    for (long, short) in [("XMM", "X"), ("YMM", "Y"), ("ZMM", "Z"), ("MM", "M"), ("ST", "F")] {
        if let Some(number) = name.strip_prefix(long) {
            return format!("{short}{number}");
        }
    }
    match name.as_str() {
        "EIP" | "RIP" => "IP".into(),
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Syntax, x86};

    fn lookup(address: u64) -> Option<(&'static str, u64)> {
        (0x401000..0x401080).contains(&address).then_some(("main.f", 0x401000))
    }

    fn texts(hex: &str) -> Vec<String> {
        let bytes: Vec<u8> =
            (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
        x86::code(&bytes, 0x400ff0, Syntax::Go, &lookup).into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn instructions_are_written_as_go_tool_objdump_writes_them() {
        for (bytes, text) in [
            ("493b6610", "CMPQ SP, 0x10(R14)"),
            ("0f86c0000000", "JBE 0x4010b6"),
            ("e80b000000", "CALL main.f(SB)"),
            ("48b88fe3388ee3388ee3", "MOVQ $0xe38e38e38e38e38f, AX"),
            ("488d3c13", "LEAQ 0(BX)(DX*1), DI"),
            ("0fbae100", "BTL $0x0, CX"),
            ("f6c201", "TESTL $0x1, DL"),
            ("c6003f", "MOVB $0x3f, 0(AX)"),
            ("644c8b3425f8ffffff", "MOVQ FS:0xfffffff8, R14"),
            ("488d0445ffffffff", "LEAQ 0xffffffff(AX*2), AX"),
            ("662e0f1f840000000000", "CS NOPW 0(AX)(AX*1)"),
            ("488d0519000000", "LEAQ main.f+16(SB), AX"),
            ("f20f10442408", "MOVSD_XMM 0x8(SP), X0"),
            ("f3a5", "REP; MOVSD DS:0(SI), ES:0(DI)"),
            ("f00fc10b", "LOCK XADDL CX, 0(BX)"),
            ("cc", "INT $0x3"),
            ("90", "NOPL"),
            ("6690", "NOPW"),
            ("450f57ff", "XORPS X15, X15"),
            ("4d0fb6c0", "MOVZX R8, R8"),
            // Instructions that Go's decoder does not know.
            ("c5fe6f16", "VMOVDQU 0(SI), Y2"),
        ] {
            assert_eq!(texts(bytes), [text], "{bytes}");
        }
    }

    #[test]
    fn undecodable_bytes_are_skipped_one_by_one() {
        assert_eq!(texts("0690"), ["?", "NOPL"]);
        // The end cuts a call instruction; its remaining bytes decode as another instruction.
        assert_eq!(texts("90e80b00"), ["NOPL", "?", "ORL 0(AX), AX"]);
    }
}
