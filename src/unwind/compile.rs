//! Compiles a row of call-frame information to a [`Rule`].
//!
//! Not here: finding the row, applying the rule.

use gimli::{
    CfaRule, EndianSlice, FrameDescriptionEntry, LittleEndian, RegisterRule, UnwindSection, UnwindTableRow,
};

use super::rule::{Cfa, FAST_SAVED, FastRule, FullRule, Rule, Source};
use crate::arch::{MAX_REGISTERS, native};

type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// No compiler writes longer expressions.
const MAX_EXPRESSION_BYTES: usize = 512;

/// The rule for a row; [`Rule::Unusable`] if no rule can express it.
pub(super) fn compile<'a, S: UnwindSection<Reader<'a>>>(
    section: &S,
    fde: &FrameDescriptionEntry<Reader<'a>>,
    row: &UnwindTableRow<usize>,
) -> Rule {
    let return_column = fde.cie().return_address_register().0;
    if row.register(gimli::Register(return_column)) == Some(RegisterRule::Undefined) {
        return Rule::Root;
    }
    let Some(full) = full_rule(section, row, return_column, fde.is_signal_trampoline()) else {
        return Rule::Unusable;
    };
    match fast_rule(&full) {
        Some(fast) => Rule::Fast(fast),
        None => Rule::Full(Box::new(full)),
    }
}

fn full_rule<'a, S: UnwindSection<Reader<'a>>>(
    section: &S,
    row: &UnwindTableRow<usize>,
    return_column: u16,
    is_signal_frame: bool,
) -> Option<FullRule> {
    let cfa = match row.cfa() {
        CfaRule::RegisterAndOffset { register, offset } => Cfa::RegisterPlus(register.0, *offset),
        CfaRule::Expression(expression) => Cfa::Expression(expression_bytes(section, expression)?),
    };
    let mut sources = Vec::new();
    for (register, rule) in row.registers() {
        // Vector and pseudo registers are never needed to find another frame.
        if usize::from(register.0) < MAX_REGISTERS || register.0 == return_column {
            sources.extend(source(section, rule)?.map(|source| (register.0, source)));
        }
    }
    sources.sort_by_key(|(register, _)| *register);
    Some(FullRule { cfa, sources: sources.into(), return_column, is_signal_frame })
}

/// `None`: cannot be expressed; `Some(None)`: nothing to do.
fn source<'a, S: UnwindSection<Reader<'a>>>(
    section: &S,
    rule: &RegisterRule<usize>,
) -> Option<Option<Source>> {
    Some(Some(match rule {
        RegisterRule::Undefined => Source::Undefined,
        RegisterRule::SameValue => Source::SameValue,
        RegisterRule::Offset(offset) => Source::AtCfaPlus(*offset),
        RegisterRule::ValOffset(offset) => Source::CfaPlus(*offset),
        RegisterRule::Register(register) => Source::Register(register.0),
        RegisterRule::Expression(expression) => Source::AtExpression(expression_bytes(section, expression)?),
        RegisterRule::ValExpression(expression) => Source::Expression(expression_bytes(section, expression)?),
        RegisterRule::Constant(_) | RegisterRule::Architectural => return Some(None),
    }))
}

fn expression_bytes<'a, S: UnwindSection<Reader<'a>>>(
    section: &S,
    expression: &gimli::UnwindExpression<usize>,
) -> Option<Box<[u8]>> {
    let bytes = expression.get(section).ok()?.0.slice();
    (bytes.len() <= MAX_EXPRESSION_BYTES).then(|| bytes.into())
}

fn fast_rule(full: &FullRule) -> Option<FastRule> {
    let Cfa::RegisterPlus(cfa_register, cfa_offset) = full.cfa else { return None };
    if full.is_signal_frame || full.return_column != native::RETURN_ADDRESS {
        return None;
    }
    let mut fast = FastRule {
        cfa_register: u8::try_from(cfa_register).ok()?,
        saved_count: 0,
        return_offset: None,
        cfa_offset: i32::try_from(cfa_offset).ok()?,
        saved_registers: [0; FAST_SAVED],
        saved_offsets: [0; FAST_SAVED],
        keep: native::PRESERVED,
    };
    for (register, source) in &full.sources {
        match source {
            Source::AtCfaPlus(offset) if *register == full.return_column => {
                fast.return_offset = Some(i32::try_from(*offset).ok()?);
            }
            Source::AtCfaPlus(offset) if *register != native::SP && *register != native::PC => {
                let slot = usize::from(fast.saved_count);
                *fast.saved_registers.get_mut(slot)? = u8::try_from(*register).ok()?;
                fast.saved_offsets[slot] = i32::try_from(*offset).ok()?;
                fast.saved_count += 1;
            }
            Source::SameValue if *register < 64 && *register != full.return_column => {
                fast.keep |= 1 << register
            }
            Source::Undefined if *register < 64 => fast.keep &= !(1 << register),
            _ => return None,
        }
    }
    // If the return-address column is the pc itself, it must have been saved somewhere.
    (fast.return_offset.is_some() || native::RETURN_ADDRESS != native::PC).then_some(fast)
}
