//! How V8's frames are unwound, and what each is: the keys of frames.
//!
//! Sources: `src/execution/frame-constants.h`, `frames.h`. Not here: what a key stands for
//! (`instance`).

use std::{ops::Range, sync::Arc};

use super::{
    heap::is_object,
    machine_code::{Compiler, MachineCode},
    store::Store,
};
use crate::{
    addr::{FrameAddr, RuntimeAddr},
    arch::{LeafShape, Registers, ReturnAt, native},
    unwind::{Code, CodeAt, FrameKey, Role, StackMemory, Step},
};

/// The words of a frame of JavaScript, below its frame pointer: context or the frame's type, the
/// closure, and of interpreted ones the bytecode and the offset in it.
const CONTEXT: i64 = -8;
const CLOSURE: i64 = -16;
const BYTECODE: i64 = -32;
const BYTECODE_OFFSET: i64 = -40;
/// Where a builtin in C++ has its closure, above the frame pointer.
const BUILTIN_CLOSURE: [i64; 4] = [24, 16, 32, 40];
/// How much code before and after an address is read, in bytes.
const CODE_BEFORE: u64 = 16;
const CODE_AFTER: usize = 64;
/// Code from its start up to here may be before its frame is set up, in bytes.
const PROLOGUE: u64 = 128;
/// How far above the stack pointer a builtin without a frame may have its return address, in words.
const MAX_SEARCHED: u64 = 48;

/// What a frame is; with an address and an offset it makes a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A function at a bytecode, interpreted.
    Interpreted,
    /// A function at a bytecode, in baseline code.
    Baseline,
    /// A function at no known place.
    Function,
    /// An instruction of optimized code.
    Optimized,
    /// A frame without a function.
    Machinery(Machinery),
}

/// Frames whose function is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machinery {
    /// Of the interpreter.
    Interpreted,
    /// Of generated code.
    Compiled,
    /// Of WebAssembly.
    Wasm,
    /// Of a regular expression.
    Regexp,
}

impl Kind {
    /// The name of a frame of this kind that cannot be read.
    pub fn unknown(self) -> &'static str {
        match self {
            Kind::Interpreted | Kind::Function => Machinery::Interpreted.name(),
            Kind::Baseline | Kind::Optimized => Machinery::Compiled.name(),
            Kind::Machinery(machinery) => machinery.name(),
        }
    }
}

impl Machinery {
    const ALL: [Machinery; 4] =
        [Machinery::Interpreted, Machinery::Compiled, Machinery::Wasm, Machinery::Regexp];

    /// The name in the profile.
    pub fn name(self) -> &'static str {
        match self {
            Machinery::Interpreted => "[v8: interpreted]",
            Machinery::Compiled => "[v8: optimized]",
            Machinery::Wasm => "[v8: WebAssembly]",
            Machinery::Regexp => "[v8: regular expression]",
        }
    }
}

/// The bits of a key's first word that are an address.
const ADDRESS_BITS: u32 = 56;

/// A frame that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    /// What it is.
    pub kind: Kind,
    /// The function, or the `Code`.
    pub object: u64,
    /// Offset of the bytecode or of the instruction, in bytes; `None`: not known.
    pub offset: Option<u64>,
}

impl Met {
    fn machinery(machinery: Machinery) -> Met {
        Met { kind: Kind::Machinery(machinery), object: 0, offset: None }
    }

    /// The key of the frame.
    pub fn key(self) -> FrameKey {
        let (number, object) = match self.kind {
            Kind::Interpreted => (1, self.object),
            Kind::Baseline => (2, self.object),
            Kind::Function => (3, self.object),
            Kind::Optimized => (4, self.object),
            Kind::Machinery(machinery) => (5, machinery as u64),
        };
        let offset = self.offset.map_or(0, |offset| offset.saturating_add(1));
        FrameKey([number << ADDRESS_BITS | object, offset])
    }

    /// The frame of a key. `None`: it is no key.
    pub fn of(FrameKey([first, offset]): FrameKey) -> Option<Met> {
        let object = first & ((1 << ADDRESS_BITS) - 1);
        let kind = match first >> ADDRESS_BITS {
            1 => Kind::Interpreted,
            2 => Kind::Baseline,
            3 => Kind::Function,
            4 => Kind::Optimized,
            5 => return Some(Met::machinery(*Machinery::ALL.get(usize::try_from(object).ok()?)?)),
            _ => return None,
        };
        Some(Met { kind, object, offset: offset.checked_sub(1) })
    }
}

/// A mapping with code of V8.
#[derive(Debug)]
pub struct V8Code {
    /// The objects of the process.
    pub store: Arc<Store>,
    /// What is V8's: the mapping, or the part of it with builtins.
    pub range: Range<u64>,
    /// The code was generated; else it is that of builtins.
    pub is_generated: bool,
}

impl Code for V8Code {
    fn role(&self, at: CodeAt<'_>) -> Role {
        if self.range.contains(&at.addr.lookup().0) { Role::Own } else { Role::NotMine }
    }

    fn step(
        &self,
        at: CodeAt<'_>,
        registers: &Registers,
        stack: &mut dyn StackMemory,
        key: &mut Option<FrameKey>,
    ) -> Step {
        let pc = at.addr.lookup().0;
        let machine = if self.is_generated { self.store.code(pc, &self.range) } else { None };
        let mut frame = Frame { code: self, at, pc, registers, stack, machine };
        let is_leaf = matches!(at.addr, FrameAddr::Pc(_));
        let found = match is_leaf {
            true => frame.without_frame().or_else(|| frame.framed(true)),
            false => frame.framed(false),
        };
        match found {
            Some((caller, met)) => {
                *key = met.map(Met::key);
                Step::Caller(caller)
            }
            None => {
                *key = self.is_generated.then(|| Met::machinery(Machinery::Compiled).key());
                Step::Native { switches: false }
            }
        }
    }
}

/// A frame that is being stepped over.
struct Frame<'a> {
    code: &'a V8Code,
    at: CodeAt<'a>,
    /// The address to look up.
    pc: u64,
    registers: &'a Registers,
    stack: &'a mut dyn StackMemory,
    machine: Option<Arc<MachineCode>>,
}

/// The caller's registers, and what the frame is.
type Found = (Registers, Option<Met>);

impl Frame<'_> {
    fn word(&mut self, base: u64, offset: i64) -> Option<u64> {
        self.stack.read_u64(RuntimeAddr(base.checked_add_signed(offset)?)).ok()
    }

    /// The function of a closure.
    fn function_of(&self, closure: u64) -> Option<u64> {
        let heap = &self.code.store.heap;
        let function = heap.word(closure, heap.layout.at.closure_function).filter(|_| is_object(closure))?;
        heap.is(function, heap.layout.types.function).then_some(function)
    }

    /// The frame pointer, if it can be one of this stack.
    fn frame_pointer(&self) -> Option<u64> {
        let (fp, sp) = (self.registers.get(native::FP)?, self.registers.get(native::SP)?);
        (fp.is_multiple_of(8) && fp >= sp && fp < u64::MAX - 64).then_some(fp)
    }

    /// The caller by the frame pointer.
    fn caller(&mut self) -> Option<Registers> {
        let fp = self.frame_pointer()?;
        let (caller_fp, pc) = (self.word(fp, 0)?, self.word(fp, 8)?);
        Some(caller_at(native::strip_pointer_authentication(pc), fp + 16, caller_fp))
    }

    /// A frame that is set up. `is_leaf`: the registers are those of the instant.
    fn framed(&mut self, is_leaf: bool) -> Option<Found> {
        let fp = self.frame_pointer()?;
        let marker = self.word(fp, CONTEXT)?;
        let met = match marker & 1 == 0 {
            true => self.typed(fp, marker >> 1),
            false => self.javascript(fp, is_leaf),
        };
        if is_leaf
            && marker & 1 == 1
            && let Some(found) = self.builtin_without_frame(fp, met)
        {
            return Some(found);
        }
        Some((self.caller()?, met))
    }

    /// A frame with a type instead of a context: V8's own, or a builtin in C++.
    fn typed(&mut self, fp: u64, kind: u64) -> Option<Met> {
        let types = self.code.store.heap.layout.frames;
        if kind == types.builtin_exit {
            let function = BUILTIN_CLOSURE.into_iter().find_map(|offset| {
                let closure = self.word(fp, offset).filter(|word| is_object(*word))?;
                let heap = &self.code.store.heap;
                let (first, last) = heap.layout.types.closures;
                let is_closure = heap.type_of(closure).is_some_and(|found| (first..=last).contains(&found));
                self.function_of(closure).filter(|_| is_closure)
            })?;
            return Some(Met { kind: Kind::Function, object: function, offset: None });
        }
        if types.wasm.contains(&kind) {
            return Some(Met::machinery(Machinery::Wasm));
        }
        if kind == types.regexp {
            return Some(Met::machinery(Machinery::Regexp));
        }
        self.code.is_generated.then(|| Met::machinery(Machinery::Compiled))
    }

    /// A frame of a function in JavaScript.
    fn javascript(&mut self, fp: u64, is_leaf: bool) -> Option<Met> {
        let closure = self.word(fp, CLOSURE)?;
        let function = self.function_of(closure);
        if let Some(machine) = self.machine.clone() {
            return Some(self.compiled(&machine, function));
        }
        let Some(function) = function else {
            let unknown = if self.code.is_generated { Machinery::Compiled } else { Machinery::Interpreted };
            return Some(Met::machinery(unknown));
        };
        let heap = &self.code.store.heap;
        let is_bytecode = |word: u64| is_object(word) && heap.is(word, heap.layout.types.bytecode);
        let registers = heap.layout.registers;
        let saved = small(self.stack, fp);
        let bytecode = self.stack.read_u64(RuntimeAddr(fp.wrapping_add_signed(BYTECODE))).ok();
        let Some(bytecode) = bytecode.filter(|word| is_bytecode(*word)) else {
            return Some(Met { kind: Kind::Function, object: function, offset: None });
        };
        let current = self.registers.get(registers.bytecode_offset).filter(|offset| *offset < 1 << 24);
        let is_current = is_leaf && self.registers.get(registers.bytecode) == Some(bytecode);
        let from_start = current.filter(|_| is_current).or(saved);
        let offset = from_start.and_then(|offset| offset.checked_sub(heap.layout.at.bytecode_data - 1));
        Some(Met { kind: Kind::Interpreted, object: function, offset })
    }

    /// A frame of generated code whose `Code` is known.
    fn compiled(&self, machine: &MachineCode, function: Option<u64>) -> Met {
        let heap = &self.code.store.heap;
        let Some(distance) = self.pc.checked_sub(machine.range.start) else {
            return Met::machinery(Machinery::Compiled);
        };
        match (machine.compiler, function.or(machine.function)) {
            (Compiler::Optimizing, _) => {
                Met { kind: Kind::Optimized, object: machine.code, offset: Some(distance) }
            }
            (Compiler::Baseline, Some(function)) => {
                let offset = machine.bytecode_offset(heap, self.pc);
                Met { kind: Kind::Baseline, object: function, offset }
            }
            (Compiler::Other, Some(function)) => Met { kind: Kind::Function, object: function, offset: None },
            (_, None) => Met::machinery(Machinery::Compiled),
        }
    }

    /// A leaf whose frame is not set up, or not any more.
    fn without_frame(&mut self) -> Option<Found> {
        let (before, code) = self.instructions()?;
        let shape = native::leaf_shape(&before, &code).or_else(|| self.shape_of_prologue());
        if let Some(caller) = shape.and_then(|shape| self.apply(&shape)) {
            return Some((caller, self.entered()));
        }
        let machine = self.machine.clone()?;
        if self.frame_is_of(&machine) {
            return None;
        }
        // The frame that the frame pointer leads to is the caller's.
        let sp = self.registers.get(native::SP)?;
        let pc = self.word(sp, 0)?;
        if !self.leads_to_code(pc) {
            return None;
        }
        Some((caller_at(pc, sp + 8, self.registers.get(native::FP)?), self.entered()))
    }

    /// What a function is that has no frame: it is in the register of the closure that is called.
    fn entered(&self) -> Option<Met> {
        let closure = self.registers.get(self.code.store.heap.layout.registers.closure);
        let function = closure.and_then(|closure| self.function_of(closure));
        match &self.machine {
            Some(machine) => Some(self.compiled(machine, function)),
            None if self.code.is_generated => Some(Met::machinery(Machinery::Compiled)),
            None => None,
        }
    }

    /// Whether the frame at the frame pointer is one of this code.
    fn frame_is_of(&mut self, machine: &MachineCode) -> bool {
        let Some(fp) = self.frame_pointer() else { return false };
        let is_typed = self.word(fp, CONTEXT).is_some_and(|marker| marker & 1 == 0);
        match machine.compiler {
            Compiler::Other => true,
            _ if is_typed => false,
            Compiler::Optimizing => {
                let function = self.word(fp, CLOSURE).and_then(|closure| self.function_of(closure));
                machine.function.is_none() || function == machine.function
            }
            Compiler::Baseline => self.word(fp, BYTECODE) == machine.bytecode,
        }
    }

    /// The instructions before and at the address.
    fn instructions(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let start = self.code.range.start.max(self.pc.saturating_sub(CODE_BEFORE));
        if let Some(bytes) = self.at.module.code_from(RuntimeAddr(start)) {
            let (before, code) = bytes.split_at_checked((self.pc - start) as usize)?;
            return Some((before.to_vec(), code.get(..CODE_AFTER).unwrap_or(code).to_vec()));
        }
        let mut bytes = vec![0; (self.pc - start) as usize + CODE_AFTER];
        let count = self.code.store.heap.memory.read(RuntimeAddr(start), &mut bytes);
        bytes.truncate(count);
        let (before, code) = bytes.split_at_checked((self.pc - start) as usize)?;
        Some((before.to_vec(), code.to_vec()))
    }

    /// The shape of generated code near its start, if it has not pushed the frame pointer yet.
    fn shape_of_prologue(&self) -> Option<LeafShape> {
        let machine = self.machine.as_ref()?;
        let distance = self.pc.checked_sub(machine.range.start).filter(|distance| *distance <= PROLOGUE)?;
        let code = self.code.store.heap.raw(machine.range.start, distance + 16)?;
        let shape = native::frame_at(&code, usize::try_from(distance).ok()?)?;
        shape.saved.iter().all(|(register, _)| *register != native::FP).then_some(shape)
    }

    /// The caller by a shape, if it leads to code.
    fn apply(&mut self, shape: &LeafShape) -> Option<Registers> {
        let base = self.registers.get(shape.base)?;
        let pc = match shape.return_address {
            ReturnAt::Register(register) => self.registers.get(register)?,
            ReturnAt::Offset(offset) => self.word(base, offset)?,
        };
        let saved = shape.saved.iter().find(|(register, _)| *register == native::FP);
        let fp = match saved {
            Some((_, offset)) => self.word(base, *offset)?,
            None => self.registers.get(native::FP)?,
        };
        let pc = native::strip_pointer_authentication(pc);
        self.leads_to_code(pc).then(|| caller_at(pc, base.wrapping_add_signed(shape.caller_sp), fp))
    }

    /// Whether a word may be a return address.
    fn leads_to_code(&self, word: u64) -> bool {
        self.code.store.is_code(word.wrapping_sub(1))
    }

    /// A builtin without a frame that optimized or baseline code calls: the frame at the frame
    /// pointer is the caller's, and its return address is near the top of the stack.
    fn builtin_without_frame(&mut self, fp: u64, met: Option<Met>) -> Option<Found> {
        let is_candidate = met.is_some_and(|met| met.kind == Kind::Function);
        if self.code.is_generated || !is_candidate {
            return None;
        }
        let sp = self.registers.get(native::SP)?;
        let end = fp.min(sp.saturating_add(MAX_SEARCHED * 8));
        for at in (sp..end).step_by(8) {
            let word = self.word(at, 0)?;
            let Some(machine) = self.code.store.generated(word.wrapping_sub(1)) else { continue };
            if self.frame_is_of(&machine) {
                return Some((caller_at(word, at + 8, fp), None));
            }
        }
        None
    }
}

/// The saved offset of the interpreter.
fn small(stack: &mut dyn StackMemory, fp: u64) -> Option<u64> {
    let word = stack.read_u64(RuntimeAddr(fp.wrapping_add_signed(BYTECODE_OFFSET))).ok()?;
    u64::try_from(super::heap::small_integer(word)?).ok()
}

fn caller_at(pc: u64, sp: u64, fp: u64) -> Registers {
    let mut caller = Registers::default();
    caller.set(native::PC, pc);
    caller.set(native::SP, sp);
    caller.set(native::FP, fp);
    caller
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_states_what_it_was_made_of() {
        let kinds = [Kind::Interpreted, Kind::Baseline, Kind::Function, Kind::Optimized];
        for kind in kinds {
            for offset in [None, Some(0), Some(77)] {
                let met = Met { kind, object: 0x7f12_3456_7891, offset };
                assert_eq!(Met::of(met.key()), Some(met));
            }
        }
        for machinery in Machinery::ALL {
            let met = Met::machinery(machinery);
            assert_eq!(Met::of(met.key()), Some(met));
        }
        assert_eq!(Met::of(FrameKey([0, 0])), None);
        assert_eq!(Met::of(FrameKey([5 << ADDRESS_BITS | 9, 0])), None);
        assert_eq!(Met::of(FrameKey([u64::MAX, 3])), None);
    }
}
