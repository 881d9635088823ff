//! The unwinding rule for one address, in the form in which it is applied: from the registers of a
//! frame to those of its caller.
//!
//! Nearly all code is described by [`FastRule`]: a CFA that is a register plus an offset, and
//! registers saved at offsets from it. Everything else that DWARF can express is a [`FullRule`].
//!
//! Not here: reading CFI, the cache, what to do without a rule.

use super::{StackMemory, expression, failure::Failure};
use crate::{
    addr::RuntimeAddr,
    arch::{FixedFrame, LeafShape, Registers, native},
};

/// How to get from a frame to its caller, for one address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rule {
    Fast(FastRule),
    Full(Box<FullRule>),
    /// A signal trampoline recognized by its machine code: the registers are in the kernel's frame.
    SignalContext,
    /// A frame of a language's code, at fixed offsets from the stack pointer.
    Fixed(FixedFrame),
    /// A frame that a language's code steps itself: that of the file, or of the module.
    Own(Owner),
    /// The thread's outermost function.
    Root,
    /// What a coroutine's first function returns to, at its first instruction.
    CoroutineEnd,
    /// No table covers the address, but the code of its function was followed; checked when
    /// applied.
    Code(Box<LeafShape>),
    /// The same from probable starts of the function.
    GuessedCode(Box<[LeafShape]>),
    /// Nothing covers the address.
    Missing,
    /// The tables are damaged here, or need what cannot be evaluated.
    Unusable,
}

/// Whose code a frame is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Owner {
    /// [`super::UnwindTables::code`].
    File,
    /// [`super::Module::code`].
    Module,
}

impl Rule {
    /// Whether the frame is a signal trampoline's: its caller was interrupted.
    #[inline]
    pub fn is_signal_frame(&self) -> bool {
        match self {
            Rule::Full(full) => full.is_signal_frame,
            Rule::SignalContext => true,
            _ => false,
        }
    }
}

/// Most registers, besides the return address, that a [`FastRule`] restores.
pub(super) const FAST_SAVED: usize = 8;

/// CFA = register + offset; each saved register is at CFA + offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct FastRule {
    pub cfa_register: u8,
    pub saved_count: u8,
    /// Offset of the return address from the CFA; `None`: it is still in the return-address
    /// register.
    pub return_offset: Option<i32>,
    pub cfa_offset: i32,
    pub saved_registers: [u8; FAST_SAVED],
    pub saved_offsets: [i32; FAST_SAVED],
    /// The registers, one bit each, that the caller's frame still has (saved ones are set
    /// afterwards).
    pub keep: u64,
}

/// Any rule that DWARF can express.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct FullRule {
    pub cfa: Cfa,
    pub sources: Box<[(u16, Source)]>,
    pub return_column: u16,
    pub is_signal_frame: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Cfa {
    RegisterPlus(u16, i64),
    Expression(Box<[u8]>),
}

/// Where the caller's value of a register is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Undefined,
    SameValue,
    AtCfaPlus(i64),
    CfaPlus(i64),
    Register(u16),
    /// The expression gives the address of the value.
    AtExpression(Box<[u8]>),
    /// The expression gives the value.
    Expression(Box<[u8]>),
}

impl FastRule {
    /// Replaces `registers` by the caller's. `exact`: the frame is the leaf or was interrupted, so
    /// its return address may still be in a register and its CFA may be the stack pointer itself.
    #[inline]
    pub fn apply<M: StackMemory + ?Sized>(
        &self,
        registers: &mut Registers,
        memory: &mut M,
        exact: bool,
    ) -> Result<(), Failure> {
        let base = registers.get(u16::from(self.cfa_register)).ok_or(Failure::Unusable)?;
        let cfa = base.wrapping_add_signed(i64::from(self.cfa_offset));
        check_advance(registers, cfa, exact)?;
        let at = |offset: i32| RuntimeAddr(cfa.wrapping_add_signed(i64::from(offset)));
        let return_address = match self.return_offset {
            Some(offset) => memory.read_u64(at(offset))?,
            None => registers.get(native::RETURN_ADDRESS).ok_or(Failure::Unusable)?,
        };
        let sp = registers.get(native::SP).filter(|_| exact);
        let before = exact.then_some(*registers);
        registers.retain(self.keep);
        let count = usize::from(self.saved_count).min(FAST_SAVED);
        for (register, offset) in self.saved_registers[..count].iter().zip(&self.saved_offsets) {
            let register = u16::from(*register);
            let restored = is_popped(at(*offset), sp).then(|| before?.get(register)).flatten();
            match restored.map_or_else(|| memory.read_u64(at(*offset)), Ok) {
                Ok(value) => registers.set(register, value),
                Err(_) => registers.forget(register),
            }
        }
        registers.set(native::SP, cfa);
        registers.set(native::PC, native::strip_pointer_authentication(return_address));
        Ok(())
    }
}

impl FullRule {
    /// Whether the CFA is not a register plus an offset.
    pub fn has_cfa_expression(&self) -> bool {
        matches!(self.cfa, Cfa::Expression(_))
    }

    /// Replaces `registers` by the caller's; see [`FastRule::apply`].
    pub fn apply<M: StackMemory + ?Sized>(
        &self,
        registers: &mut Registers,
        memory: &mut M,
        exact: bool,
    ) -> Result<(), Failure> {
        let old = *registers;
        let cfa = match &self.cfa {
            Cfa::RegisterPlus(register, offset) => {
                old.get(*register).ok_or(Failure::Unusable)?.wrapping_add_signed(*offset)
            }
            Cfa::Expression(bytes) => expression::evaluate(bytes, &old, memory, None)?,
        };
        if !self.is_signal_frame {
            check_advance(&old, cfa, exact)?;
            registers.retain(native::PRESERVED);
        }
        registers.set(native::SP, cfa);
        let mut return_address = old.get(self.return_column).filter(|_| self.return_column != native::PC);
        for (register, source) in &self.sources {
            let sp = old.get(native::SP).filter(|_| exact && !self.is_signal_frame);
            let value = source.value(*register, cfa, &old, sp, memory);
            if *register == self.return_column {
                return_address = Some(value?.ok_or(Failure::Root)?);
            }
            match value {
                Ok(Some(value)) => registers.set(*register, value),
                _ => registers.forget(*register),
            }
        }
        if native::RETURN_ADDRESS != native::PC && !self.is_signal_frame {
            registers.forget(native::RETURN_ADDRESS);
        }
        let pc = native::strip_pointer_authentication(return_address.ok_or(Failure::Unusable)?);
        registers.set(native::PC, pc);
        Ok(())
    }
}

impl Source {
    /// The value in the caller's frame; `None` if it has none.
    fn value<M: StackMemory + ?Sized>(
        &self,
        register: u16,
        cfa: u64,
        old: &Registers,
        leaf_sp: Option<u64>,
        memory: &mut M,
    ) -> Result<Option<u64>, Failure> {
        Ok(match self {
            Source::AtCfaPlus(offset)
                if is_popped(RuntimeAddr(cfa.wrapping_add_signed(*offset)), leaf_sp) =>
            {
                Some(old.get(register).ok_or(Failure::Unusable)?)
            }
            Source::Undefined => None,
            Source::SameValue => Some(old.get(register).ok_or(Failure::Unusable)?),
            Source::AtCfaPlus(offset) => {
                Some(memory.read_u64(RuntimeAddr(cfa.wrapping_add_signed(*offset)))?)
            }
            Source::CfaPlus(offset) => Some(cfa.wrapping_add_signed(*offset)),
            Source::Register(other) => Some(old.get(*other).ok_or(Failure::Unusable)?),
            Source::AtExpression(bytes) => {
                let address = expression::evaluate(bytes, old, memory, Some(cfa))?;
                Some(memory.read_u64(RuntimeAddr(address))?)
            }
            Source::Expression(bytes) => Some(expression::evaluate(bytes, old, memory, Some(cfa))?),
        })
    }
}

/// Whether a register's slot is below the stack pointer of a leaf. Then an epilogue has popped it,
/// and the register holds the caller's value again, although the rules still say otherwise
/// (compilers leave them unchanged until the function's end).
#[inline]
fn is_popped(slot: RuntimeAddr, leaf_sp: Option<u64>) -> bool {
    leaf_sp.is_some_and(|sp| slot.0 < sp)
}

/// The stack grows down, so the caller's frame must be above; only a leaf may not have pushed
/// anything yet.
#[inline]
fn check_advance(registers: &Registers, cfa: u64, exact: bool) -> Result<(), Failure> {
    let sp = registers.get(native::SP).ok_or(Failure::Unusable)?;
    if cfa > sp || (exact && cfa == sp) { Ok(()) } else { Err(Failure::NotAdvancing) }
}
