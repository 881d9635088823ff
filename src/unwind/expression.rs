//! DWARF expressions as call-frame information uses them (DWARF 5, sections 2.5 and 6.4.2): 64-bit
//! integers, registers and memory; no types, no locations.
//!
//! The target wrote the expression, so steps and stack are bounded and arithmetic wraps.

use gimli::{EndianSlice, LittleEndian, Operation};

use super::{StackMemory, failure::Failure};
use crate::{addr::RuntimeAddr, arch::Registers};

/// Real expressions take fewer than 20 steps.
const MAX_STEPS: usize = 256;
const MAX_DEPTH: usize = 32;
const ENCODING: gimli::Encoding =
    gimli::Encoding { address_size: 8, format: gimli::Format::Dwarf32, version: 5 };

type Reader<'a> = EndianSlice<'a, LittleEndian>;

struct Stack {
    values: [u64; MAX_DEPTH],
    depth: usize,
}

impl Stack {
    fn push(&mut self, value: u64) -> Result<(), Failure> {
        *self.values.get_mut(self.depth).ok_or(Failure::Unusable)? = value;
        self.depth += 1;
        Ok(())
    }

    fn pop(&mut self) -> Result<u64, Failure> {
        self.depth = self.depth.checked_sub(1).ok_or(Failure::Unusable)?;
        Ok(self.values[self.depth])
    }

    fn pick(&self, index: usize) -> Result<u64, Failure> {
        let at = self.depth.checked_sub(index.saturating_add(1)).ok_or(Failure::Unusable)?;
        Ok(self.values[at])
    }

    fn unary(&mut self, operate: impl FnOnce(u64) -> u64) -> Result<(), Failure> {
        let value = self.pop()?;
        self.push(operate(value))
    }

    /// Replaces the two topmost values; the closure receives the lower one first.
    fn binary(&mut self, operate: impl FnOnce(u64, u64) -> Option<u64>) -> Result<(), Failure> {
        let right = self.pop()?;
        let left = self.pop()?;
        self.push(operate(left, right).ok_or(Failure::Unusable)?)
    }
}

/// Evaluates an expression for a frame with these registers. `initial` is the value on the stack at
/// the start: the CFA for a register's rule, none for the CFA itself.
pub(super) fn evaluate<M: StackMemory + ?Sized>(
    bytes: &[u8],
    registers: &Registers,
    memory: &mut M,
    initial: Option<u64>,
) -> Result<u64, Failure> {
    let mut stack = Stack { values: [0; MAX_DEPTH], depth: 0 };
    if let Some(value) = initial {
        stack.push(value)?;
    }
    let mut rest = Reader::new(bytes, LittleEndian);
    for _ in 0..MAX_STEPS {
        if rest.is_empty() {
            return stack.pop();
        }
        let operation = Operation::parse(&mut rest, ENCODING).map_err(|_| Failure::Unusable)?;
        match operation {
            Operation::Skip { target } => rest = jump(bytes, &rest, target)?,
            Operation::Bra { target } => {
                if stack.pop()? != 0 {
                    rest = jump(bytes, &rest, target)?;
                }
            }
            Operation::StackValue => return stack.pop(),
            other => step(other, &mut stack, registers, memory)?,
        }
    }
    Err(Failure::Unusable)
}

fn jump<'a>(bytes: &'a [u8], rest: &Reader<'_>, target: i16) -> Result<Reader<'a>, Failure> {
    let position = bytes.len() - rest.len();
    let to = position.checked_add_signed(isize::from(target)).ok_or(Failure::Unusable)?;
    bytes.get(to..).map(|rest| Reader::new(rest, LittleEndian)).ok_or(Failure::Unusable)
}

fn step<M: StackMemory + ?Sized>(
    operation: Operation<Reader<'_>>,
    stack: &mut Stack,
    registers: &Registers,
    memory: &mut M,
) -> Result<(), Failure> {
    match operation {
        Operation::Nop => Ok(()),
        Operation::UnsignedConstant { value } => stack.push(value),
        Operation::SignedConstant { value } => stack.push(value as u64),
        Operation::Address { address } => stack.push(address),
        Operation::RegisterOffset { register, offset, .. } => {
            let value = registers.get(register.0).ok_or(Failure::Unusable)?;
            stack.push(value.wrapping_add_signed(offset))
        }
        Operation::Deref { size, space: false, .. } => {
            let address = stack.pop()?;
            let word = memory.read_u64(RuntimeAddr(address))?;
            stack.push(match size {
                8 => word,
                1 | 2 | 4 => word & ((1 << (8 * size)) - 1),
                _ => return Err(Failure::Unusable),
            })
        }
        Operation::Drop => stack.pop().map(drop),
        Operation::Pick { index } => stack.pick(usize::from(index)).and_then(|value| stack.push(value)),
        Operation::Swap => {
            let (top, next) = (stack.pop()?, stack.pop()?);
            stack.push(top)?;
            stack.push(next)
        }
        Operation::Rot => {
            let (one, two, three) = (stack.pop()?, stack.pop()?, stack.pop()?);
            stack.push(one)?;
            stack.push(three)?;
            stack.push(two)
        }
        other => arithmetic(other, stack),
    }
}

fn arithmetic(operation: Operation<Reader<'_>>, stack: &mut Stack) -> Result<(), Failure> {
    let signed = |value: u64| value as i64;
    match operation {
        Operation::Abs => stack.unary(|value| signed(value).wrapping_abs() as u64),
        Operation::Neg => stack.unary(u64::wrapping_neg),
        Operation::Not => stack.unary(|value| !value),
        Operation::PlusConstant { value } => stack.unary(|left| left.wrapping_add(value)),
        Operation::And => stack.binary(|left, right| Some(left & right)),
        Operation::Or => stack.binary(|left, right| Some(left | right)),
        Operation::Xor => stack.binary(|left, right| Some(left ^ right)),
        Operation::Plus => stack.binary(|left, right| Some(left.wrapping_add(right))),
        Operation::Minus => stack.binary(|left, right| Some(left.wrapping_sub(right))),
        Operation::Mul => stack.binary(|left, right| Some(left.wrapping_mul(right))),
        Operation::Div => {
            stack.binary(|left, right| (right != 0).then(|| signed(left).wrapping_div(signed(right)) as u64))
        }
        Operation::Mod => stack.binary(u64::checked_rem),
        Operation::Shl => stack.binary(|left, right| Some(shift(right).map_or(0, |by| left << by))),
        Operation::Shr => stack.binary(|left, right| Some(shift(right).map_or(0, |by| left >> by))),
        Operation::Shra => {
            stack.binary(|left, right| Some((signed(left) >> shift(right).unwrap_or(63)) as u64))
        }
        Operation::Eq => stack.binary(|left, right| Some(u64::from(left == right))),
        Operation::Ne => stack.binary(|left, right| Some(u64::from(left != right))),
        Operation::Ge => stack.binary(|left, right| Some(u64::from(signed(left) >= signed(right)))),
        Operation::Gt => stack.binary(|left, right| Some(u64::from(signed(left) > signed(right)))),
        Operation::Le => stack.binary(|left, right| Some(u64::from(signed(left) <= signed(right)))),
        Operation::Lt => stack.binary(|left, right| Some(u64::from(signed(left) < signed(right)))),
        _ => Err(Failure::Unusable),
    }
}

fn shift(by: u64) -> Option<u32> {
    u32::try_from(by).ok().filter(|by| *by < 64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unwind::CopiedStack;

    fn evaluate_at(bytes: &[u8], initial: Option<u64>) -> Result<u64, Failure> {
        let mut registers = Registers::default();
        registers.set(7, 0x1000);
        registers.set(16, 0x40_100b);
        let words: Vec<u8> = [0x11u64, 0x22, 0x33].iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut memory =
            CopiedStack { start: RuntimeAddr(0x1000), bytes: &words, capped: false, has_holes: false };
        evaluate(bytes, &registers, &mut memory, initial)
    }

    #[test]
    fn the_linkers_plt_expression_counts_the_pushed_word() {
        // rsp + 8 + ((rip & 15) >= 11) << 3, as GNU ld writes it for .plt
        let plt = [0x77, 8, 0x80, 0, 0x3f, 0x1a, 0x3b, 0x2a, 0x33, 0x24, 0x22];
        assert_eq!(evaluate_at(&plt, None), Ok(0x1010));
    }

    #[test]
    fn memory_branches_and_the_initial_value_work() {
        assert_eq!(evaluate_at(&[0x77, 8, 0x06], None), Ok(0x22));
        assert_eq!(evaluate_at(&[0x23, 5], Some(10)), Ok(15));
        // lit1; bra +1; lit7 (skipped) ; lit9
        assert_eq!(evaluate_at(&[0x31, 0x28, 1, 0, 0x37, 0x39], None), Ok(9));
    }

    #[test]
    fn crafted_expressions_end() {
        assert_eq!(evaluate_at(&[0x2f, 0xfd, 0xff], Some(1)), Err(Failure::Unusable), "endless loop");
        assert_eq!(evaluate_at(&[0x12, 0x2f, 0xfc, 0xff], Some(1)), Err(Failure::Unusable), "full stack");
        assert_eq!(evaluate_at(&[0x30, 0x1b], Some(1)), Err(Failure::Unusable), "division by zero");
        assert_eq!(evaluate_at(&[0x2f, 0xff, 0x7f], None), Err(Failure::Unusable), "jump outside");
        assert_eq!(evaluate_at(&[0x22], Some(1)), Err(Failure::Unusable), "one operand");
        assert_eq!(evaluate_at(&[], None), Err(Failure::Unusable), "nothing");
        let min_by_minus_one =
            [0x0e, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x0f, 255, 255, 255, 255, 255, 255, 255, 255];
        assert_eq!(evaluate_at(&[&min_by_minus_one[..], &[0x1b]].concat(), None), Ok(1 << 63));
    }
}
