//! The part of the x86-64 instruction set that is needed to follow the stack pointer through a
//! function without call-frame information: lengths of instructions, and their effects on the stack
//! pointer (Intel SDM volume 2, appendix A).
//!
//! Not here: what instructions compute.

/// The effect of an instruction on the stack and the control flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// None.
    Nothing,
    /// Pushes a register (its number in instructions), or another value.
    Push(Option<u8>),
    /// Pops a word.
    Pop,
    /// The stack pointer grows by this many bytes.
    MoveStack(i64),
    /// The stack pointer becomes unknown.
    LoseStack,
    /// Calls a function.
    Call,
    /// Conditional jump, in bytes from the next instruction.
    Branch(i64),
    /// Unconditional jump, in bytes from the next instruction.
    Jump(i64),
    /// The next instruction is only reached by a jump from elsewhere.
    End,
}

/// An instruction's length and effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instruction {
    /// In bytes.
    pub length: usize,
    /// Its effect.
    pub effect: Effect,
}

/// How an opcode's operands are encoded.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Form {
    modrm: bool,
    immediate: usize,
}

const fn form(modrm: bool, immediate: usize) -> Option<Form> {
    Some(Form { modrm, immediate })
}

/// Decodes the instruction at the start of `code`; `None` if it is incomplete or unknown.
pub fn decode(code: &[u8]) -> Option<Instruction> {
    let mut at = 0;
    let mut short = false;
    while let Some(0x66 | 0x67 | 0xf0 | 0xf2 | 0xf3 | 0x2e | 0x36 | 0x3e | 0x26 | 0x64 | 0x65) = code.get(at)
    {
        short |= code[at] == 0x66;
        at += 1;
        if at > 14 {
            return None;
        }
    }
    let mut rex = 0;
    if let Some(prefix @ 0x40..=0x4f) = code.get(at) {
        rex = *prefix;
        at += 1;
    }
    let rest = code.get(at..)?;
    let (opcode_length, form, map) = match rest {
        [0xc5, _, opcode, ..] => (3, vector_form(1, *opcode)?, 4),
        [0xc4, map, _, opcode, ..] => (4, vector_form(map & 0x1f, *opcode)?, 4),
        [0x62, map, _, _, opcode, ..] => (5, vector_form(map & 7, *opcode)?, 4),
        [0x0f, 0x38, ..] => (3, form(true, 0)?, 2),
        [0x0f, 0x3a, ..] => (3, form(true, 1)?, 3),
        [0x0f, opcode, ..] => (2, two_byte_form(*opcode)?, 1),
        [opcode, modrm @ ..] => {
            let modrm = modrm.first().copied().unwrap_or(0);
            (1, one_byte_form(*opcode, modrm, short, rex & 8 != 0)?, 0)
        }
        [] => return None,
    };
    let operands = rest.get(opcode_length..)?;
    let memory = if form.modrm {
        1 + memory_length(*operands.first()?, operands.get(1).copied().unwrap_or(0))
    } else {
        0
    };
    let length = at + opcode_length + memory + form.immediate;
    (length <= code.len()).then_some(())?;
    let immediate = &operands[memory..memory + form.immediate];
    let opcode = rest[opcode_length - 1];
    let effect = match map {
        0 => one_byte_effect(opcode, rex, operands, immediate),
        1 => two_byte_effect(opcode, immediate),
        _ => Effect::Nothing,
    };
    Some(Instruction { length, effect })
}

/// Alignment of functions in bytes: compilers align them at least so, and most assembly does.
const FUNCTION_ALIGNMENT: u64 = 16;

/// Offsets at which functions seem to start in `code`, which is at `address`: where the code before
/// does not lead on and, after padding, the address is aligned, or a push follows an end. The first
/// instruction counts.
pub fn function_starts(address: u64, code: &[u8]) -> Vec<usize> {
    let is_aligned = |at: usize| address.wrapping_add(at as u64).is_multiple_of(FUNCTION_ALIGNMENT);
    let (mut starts, mut at, mut leads_on, mut ended) = (Vec::new(), 0, false, true);
    while at < code.len() {
        if !leads_on {
            let start = at + padding(&code[at..]);
            let pushes = |at| {
                matches!(
                    code.get(at..).and_then(decode),
                    Some(Instruction { effect: Effect::Push(Some(_)), .. })
                )
            };
            if start < code.len() && (is_aligned(start) || (ended && pushes(start))) {
                starts.push(start);
            }
            at = start;
        }
        match code.get(at..).and_then(decode) {
            Some(instruction) => {
                at += instruction.length;
                ended = instruction.effect == Effect::End;
                leads_on = !ended && !matches!(instruction.effect, Effect::Jump(_));
            }
            // Data, or an unknown instruction: the next function is aligned.
            None => {
                at += 1;
                while at < code.len() && !is_aligned(at) {
                    at += 1;
                }
                (leads_on, ended) = (false, false);
            }
        }
    }
    starts
}

/// The number of bytes at the start of `code` that fill the space between functions: nop in all its
/// lengths, int3, zeros.
fn padding(code: &[u8]) -> usize {
    let mut at = 0;
    while let Some(rest) = code.get(at..) {
        let operation = rest.iter().position(|byte| !matches!(byte, 0x66 | 0x2e)).unwrap_or(0);
        at += match rest.get(operation..) {
            Some([0x90, ..]) => operation + 1,
            Some([0x0f, 0x1f, ..]) => match decode(rest) {
                Some(instruction) => instruction.length,
                None => return at,
            },
            Some([0xcc | 0, ..]) if operation == 0 => 1,
            _ => return at,
        };
    }
    at
}

/// Bytes of SIB and displacement after a ModRM byte (tables 2-2 and 2-3).
pub fn memory_length(modrm: u8, sib: u8) -> usize {
    let has_sib = modrm & 7 == 4;
    match modrm >> 6 {
        0 if modrm & 7 == 5 => 4,
        0 if has_sib && sib & 7 == 5 => 5,
        0 => usize::from(has_sib),
        1 => 1 + usize::from(has_sib),
        2 => 4 + usize::from(has_sib),
        _ => 0,
    }
}

fn one_byte_form(opcode: u8, modrm: u8, short: bool, wide: bool) -> Option<Form> {
    let full = if short { 2 } else { 4 };
    let group = modrm >> 3 & 7;
    match opcode {
        0x06 | 0x07 | 0x0e | 0x16 | 0x17 | 0x1e | 0x1f | 0x27 | 0x2f | 0x37 | 0x3f => None,
        0x00..=0x3f if opcode & 7 < 4 => form(true, 0),
        0x00..=0x3f if opcode & 7 == 4 => form(false, 1),
        0x00..=0x3f => form(false, full),
        0x50..=0x5f | 0x6c..=0x6f | 0x90..=0x99 | 0x9b..=0x9f | 0xa4..=0xa7 | 0xaa..=0xaf => form(false, 0),
        0xc3 | 0xc9 | 0xcb | 0xcc | 0xcf | 0xd7 | 0xec..=0xef | 0xf1 | 0xf4 | 0xf5 | 0xf8..=0xfd => {
            form(false, 0)
        }
        0x63 | 0x84..=0x8f | 0xd0..=0xd3 | 0xd8..=0xdf | 0xfe | 0xff => form(true, 0),
        0x69 | 0x81 | 0xc7 => form(true, full),
        0x6b | 0x80 | 0x83 | 0xc0 | 0xc1 | 0xc6 => form(true, 1),
        0xf6 => form(true, usize::from(group < 2)),
        0xf7 => form(true, if group < 2 { full } else { 0 }),
        0x68 | 0xa9 => form(false, full),
        0xe8 | 0xe9 => form(false, 4),
        0x6a | 0x70..=0x7f | 0xa8 | 0xb0..=0xb7 | 0xcd | 0xe0..=0xe7 | 0xeb => form(false, 1),
        0xb8..=0xbf => form(false, if wide { 8 } else { full }),
        0xa0..=0xa3 => form(false, 8),
        0xc2 | 0xca => form(false, 2),
        0xc8 => form(false, 3),
        _ => None,
    }
}

fn two_byte_form(opcode: u8) -> Option<Form> {
    match opcode {
        0x05..=0x09 | 0x0b | 0x0e | 0x30..=0x37 | 0x77 | 0xa0..=0xa2 | 0xa8..=0xaa | 0xc8..=0xcf => {
            form(false, 0)
        }
        0x80..=0x8f => form(false, 4),
        0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4..=0xc6 => form(true, 1),
        0x04 | 0x0a | 0x0c | 0x24..=0x27 | 0x39 | 0x3b..=0x3f => None,
        _ => form(true, 0),
    }
}

/// The opcodes of VEX and EVEX prefixes: map 1 is that of 0f, 2 of 0f 38, 3 of 0f 3a.
fn vector_form(map: u8, opcode: u8) -> Option<Form> {
    match (map, opcode) {
        (1, 0x77) => form(false, 0),
        (1, 0x70..=0x73 | 0xc2 | 0xc4..=0xc6) | (3, _) => form(true, 1),
        (1 | 2 | 5 | 6, _) => form(true, 0),
        _ => None,
    }
}

fn signed(immediate: &[u8]) -> i64 {
    match immediate {
        [byte] => i64::from(*byte as i8),
        [a, b, c, d] => i64::from(i32::from_le_bytes([*a, *b, *c, *d])),
        _ => 0,
    }
}

fn one_byte_effect(opcode: u8, rex: u8, operands: &[u8], immediate: &[u8]) -> Effect {
    let modrm = operands.first().copied().unwrap_or(0);
    let group = modrm >> 3 & 7;
    let is_register = modrm >> 6 == 3;
    let rm_is_sp = is_register && modrm & 7 == 4 && rex & 1 == 0;
    let reg_is_sp = group == 4 && rex & 4 == 0;
    match opcode {
        0x50..=0x57 => Effect::Push(Some((opcode & 7) | (rex & 1) << 3)),
        0x58..=0x5f if opcode == 0x5c && rex & 1 == 0 => Effect::LoseStack,
        0x58..=0x5f | 0x8f | 0x9d => Effect::Pop,
        0x68 | 0x6a | 0x9c => Effect::Push(None),
        0x70..=0x7f | 0xe0..=0xe3 => Effect::Branch(signed(immediate)),
        0xe9 | 0xeb => Effect::Jump(signed(immediate)),
        0xe8 => Effect::Call,
        0xff if group == 6 => Effect::Push(None),
        0xff if group == 4 => Effect::End,
        0xff if group == 2 => Effect::Call,
        0xc2 | 0xc3 | 0xf4 | 0xcc => Effect::End,
        0x81 | 0x83 if rm_is_sp && group == 0 => Effect::MoveStack(signed(immediate)),
        0x81 | 0x83 if rm_is_sp && group == 5 => Effect::MoveStack(-signed(immediate)),
        0x81 | 0x83 if rm_is_sp && group == 7 => Effect::Nothing,
        0x8d if reg_is_sp => match operands {
            [0x64, 0x24, offset, ..] => Effect::MoveStack(i64::from(*offset as i8)),
            [0xa4, 0x24, a, b, c, d, ..] => Effect::MoveStack(signed(&[*a, *b, *c, *d])),
            _ => Effect::LoseStack,
        },
        0xc8 | 0xc9 => Effect::LoseStack,
        // To %rsp: mov, and arithmetic in both directions; comparisons and tests do not write.
        0x38..=0x3b | 0x84 | 0x85 => Effect::Nothing,
        0x00..=0x3f | 0x88..=0x8b if opcode & 7 < 4 => {
            let to_reg = opcode & 2 != 0;
            if if to_reg { reg_is_sp } else { rm_is_sp } { Effect::LoseStack } else { Effect::Nothing }
        }
        0x80 | 0x81 | 0x83 | 0xc7 if rm_is_sp => Effect::LoseStack,
        _ => Effect::Nothing,
    }
}

fn two_byte_effect(opcode: u8, immediate: &[u8]) -> Effect {
    match opcode {
        0x80..=0x8f => Effect::Branch(signed(immediate)),
        0x0b => Effect::End,
        0xa0 | 0xa8 => Effect::Push(None),
        0xa1 | 0xa9 => Effect::Pop,
        _ => Effect::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_effects_of_common_instructions() {
        let cases: [(&[u8], usize, Effect); 19] = [
            (&[0x55], 1, Effect::Push(Some(5))),
            (&[0x41, 0x57], 2, Effect::Push(Some(15))),
            (&[0x5b], 1, Effect::Pop),
            (&[0x48, 0x83, 0xec, 0x18], 4, Effect::MoveStack(-24)),
            (&[0x48, 0x81, 0xc4, 0, 1, 0, 0], 7, Effect::MoveStack(256)),
            (&[0x48, 0x8d, 0x64, 0x24, 0xf8], 5, Effect::MoveStack(-8)),
            (&[0x48, 0x83, 0xe4, 0xf0], 4, Effect::LoseStack),
            (&[0x48, 0x89, 0xec], 3, Effect::LoseStack),
            (&[0x48, 0x89, 0xe5], 3, Effect::Nothing),
            (&[0xe8, 1, 0, 0, 0], 5, Effect::Call),
            (&[0x75, 0xfe], 2, Effect::Branch(-2)),
            (&[0x0f, 0x84, 4, 0, 0, 0], 6, Effect::Branch(4)),
            (&[0xf3, 0x0f, 0x1e, 0xfa], 4, Effect::Nothing),
            (&[0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0], 9, Effect::Nothing),
            (&[0x48, 0xb8, 1, 2, 3, 4, 5, 6, 7, 8], 10, Effect::Nothing),
            (&[0xc5, 0xf8, 0x77], 3, Effect::Nothing),
            (&[0xc4, 0xe3, 0x7d, 0x39, 0xc1, 1], 6, Effect::Nothing),
            (&[0x8b, 0x84, 0xd8, 1, 0, 0, 0], 7, Effect::Nothing),
            (&[0xc3], 1, Effect::End),
        ];
        for (code, length, effect) in cases {
            assert_eq!(decode(code), Some(Instruction { length, effect }), "{code:x?}");
        }
    }

    #[test]
    fn functions_start_after_padding_at_aligned_addresses() {
        // push; ret; nopw; (16) sub; jmp +3; int3…; (32) ret; data that is no code
        let mut code = vec![0x55, 0xc3, 0x66, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0, 0x0f, 0x1f, 0x44, 0, 0];
        code.extend([0x48, 0x83, 0xec, 8, 0xeb, 3]);
        code.extend([0xcc; 10]);
        code.extend([0xc3, 0x06, 0x06]);
        assert_eq!(function_starts(0x1000, &code), [0, 16, 32]);
        // Where the addresses are not aligned, a function starts with a push after an end.
        assert_eq!(function_starts(0x1008, &code), [0]);
        assert_eq!(function_starts(0x1008, &[0xc3, 0x55, 0xeb, 0, 0x55, 0xc3]), [1]);
        assert!(function_starts(0x1000, &[]).is_empty());
    }

    #[test]
    fn any_bytes_are_decoded_or_refused() {
        let mut state = 1u64;
        for _ in 0..200_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bytes = [state.to_be_bytes(), state.rotate_left(29).to_be_bytes()].concat();
            let short = &bytes[..(state >> 60) as usize];
            assert!(decode(short).is_none_or(|instruction| instruction.length <= short.len()));
        }
    }
}
