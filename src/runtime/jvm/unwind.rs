//! How HotSpot's code is unwound: interpreted methods by their frame pointer, compiled ones by the
//! size of their frame, stubs by either.
//!
//! ```text
//! interpreted  [fp+8] return  [fp] caller's fp  [fp-8] caller's sp  [fp-24] method  [fp-64] bytecode
//! compiled     [sp+size-8] return  [sp+size-16] caller's fp
//! ```
//!
//! Everything but the leaf's code is in the copied stack and the registers. x86-64. Not here: what
//! the frames are called.

use std::sync::Arc;

use super::{
    code_cache::{Blob, BlobKind},
    frames::Key,
    leaf::LeafRule,
    process::{Jvm, Place},
};
use crate::{
    addr::{FrameAddr, RuntimeAddr},
    arch::{
        Registers,
        x86_64::{FP, PC, SP},
    },
    unwind::{Code, CodeAt, FrameKey, Role, StackEnd, StackMemory, Step},
};

/// DWARF numbers of rax, rbx and r12 to r15.
const RAX: u16 = 0;
const RBX: u16 = 3;
const R12: u16 = 12;
const R13: u16 = 13;
const R14: u16 = 14;
const R15: u16 = 15;

/// From an interpreted frame's frame pointer: the caller's stack pointer, and the method.
const SENDER_SP: i64 = -8;
const METHOD: i64 = -24;
/// The bytes of an interpreted frame below its frame pointer at least.
const INTERPRETED_BYTES: u64 = 72;
/// The largest distance from the stack pointer to an interpreted or stub's frame pointer.
const MAX_INTERPRETED: u64 = 1 << 20;
const MAX_STUB: u64 = 4096;
/// How many words above its place a return address is searched for.
const SEARCHED_WORDS: u64 = 6;
/// The same for a stub without a known frame.
const SEARCHED_STUB_WORDS: u64 = 16;
/// Where the stub that calls Java from native code keeps its caller's registers, from its frame
/// pointer.
const CALL_STUB_SAVED: [(u16, i64); 5] = [(RBX, -56), (R12, -64), (R13, -72), (R14, -80), (R15, -88)];

/// The code cache of a process.
#[derive(Debug)]
pub struct JavaCode(pub Arc<Jvm>);

impl Code for JavaCode {
    fn role(&self, at: CodeAt<'_>) -> Role {
        if self.0.is_code(at.addr.lookup().0) { Role::Own } else { Role::NotMine }
    }

    fn step(
        &self,
        at: CodeAt<'_>,
        registers: &Registers,
        stack: &mut dyn StackMemory,
        key: &mut Option<FrameKey>,
    ) -> Step {
        let is_leaf = matches!(at.addr, FrameAddr::Pc(_));
        let Some(place) = self.0.place(at.addr.lookup().0, is_leaf) else {
            return Step::Native { switches: false };
        };
        let pc = at.addr.raw().0;
        let (sp, fp) = (registers.get(SP).unwrap_or(0), registers.get(FP).unwrap_or(0));
        let mut frame = Frame { jvm: &self.0, registers, stack, pc, sp, fp, is_leaf };
        let (found, caller) = match place.blob.kind {
            BlobKind::Compiled => frame.compiled(&place),
            BlobKind::Interpreter => frame.interpreted(&place.blob),
            BlobKind::Adapter => frame.adapter(&place.blob),
            BlobKind::Continuation => (frame.stub_key(&place.blob), None),
            BlobKind::Stub => frame.stub(&place.blob),
        };
        *key = Some(found.encode());
        caller.map_or(Step::Failed(StackEnd::StackCut), |caller| Step::Caller(caller.registers()))
    }
}

/// The registers of a caller.
struct Caller {
    pc: u64,
    sp: u64,
    fp: u64,
    saved: Vec<(u16, u64)>,
}

impl Caller {
    fn new(pc: u64, sp: u64, fp: u64) -> Caller {
        Caller { pc, sp, fp, saved: Vec::new() }
    }

    fn registers(&self) -> Registers {
        let mut registers = Registers::default();
        for (register, value) in &self.saved {
            registers.set(*register, *value);
        }
        registers.set(PC, self.pc);
        registers.set(SP, self.sp);
        registers.set(FP, self.fp);
        registers
    }
}

/// A frame whose caller is wanted.
struct Frame<'f> {
    jvm: &'f Jvm,
    registers: &'f Registers,
    stack: &'f mut dyn StackMemory,
    pc: u64,
    sp: u64,
    fp: u64,
    is_leaf: bool,
}

impl Frame<'_> {
    fn word(&mut self, address: u64) -> Option<u64> {
        self.stack.read_u64(RuntimeAddr(address)).ok()
    }

    /// The word at an address, if it is a return address into generated code.
    fn return_at(&mut self, address: u64) -> Option<u64> {
        self.word(address).filter(|word| self.jvm.is_code(*word))
    }

    fn compiled(&mut self, place: &Place) -> (Key, Option<Caller>) {
        let blob = &place.blob;
        let pc = self.original_pc(blob);
        let key = Key::Compiled { blob: blob.address, offset: pc.wrapping_sub(blob.code.start) };
        let by_code = place.leaf.filter(|_| self.is_leaf).and_then(|rule| self.incomplete(rule, blob));
        (key, by_code.or_else(|| self.complete(blob)))
    }

    /// The pc of a frame, also if deoptimization has replaced it.
    fn original_pc(&mut self, blob: &Blob) -> u64 {
        let offset = blob.orig_pc.filter(|_| !self.is_leaf && blob.deopt.contains(&self.pc));
        let replaced = offset.and_then(|offset| self.word(self.sp.wrapping_add_signed(i64::from(offset))));
        replaced.filter(|pc| blob.code.contains(pc)).unwrap_or(self.pc)
    }

    /// The caller of a leaf whose frame is not complete.
    fn incomplete(&mut self, rule: LeafRule, blob: &Blob) -> Option<Caller> {
        match rule {
            LeafRule::Complete => None,
            LeafRule::ReturnAtSp => Some(Caller::new(self.return_at(self.sp)?, self.sp + 8, self.fp)),
            LeafRule::SavedFpAtSp => {
                let pc = self.return_at(self.sp + 8)?;
                Some(Caller::new(pc, self.sp + 16, self.word(self.sp)?))
            }
            LeafRule::FrameWithoutFp => {
                let end = self.sp.checked_add(blob.frame_bytes)?;
                Some(Caller::new(self.return_at(end.checked_sub(8)?)?, end, self.fp))
            }
        }
    }

    fn complete(&mut self, blob: &Blob) -> Option<Caller> {
        let end = self.sp.checked_add(blob.frame_bytes.max(8))?;
        for word in 0..=SEARCHED_WORDS {
            let end = end.checked_add(word * 8)?;
            if let Some(pc) = self.return_at(end - 8) {
                return Some(Caller::new(pc, end, self.word(end - 16)?));
            }
        }
        None
    }

    fn interpreted(&mut self, blob: &Blob) -> (Key, Option<Caller>) {
        let distance = self.fp.wrapping_sub(self.sp);
        let smallest = if self.is_leaf { INTERPRETED_BYTES } else { 0 };
        if (smallest..=MAX_INTERPRETED).contains(&distance)
            && let Some(found) = self.interpreted_frame()
        {
            return found;
        }
        if self.is_leaf
            && let Some(found) = self.interpreter_entry(distance)
        {
            return found;
        }
        (self.stub_key(blob), self.unframed())
    }

    fn interpreted_frame(&mut self) -> Option<(Key, Option<Caller>)> {
        let at = |offset: i64| self.fp.wrapping_add_signed(offset);
        let (method_at, bytecode_at, sp_at) = (at(METHOD), at(self.jvm.layout.frame_bcp), at(SENDER_SP));
        let address = self.word(method_at)?;
        let method = self.jvm.method(address)?;
        let current = self.registers.get(R13).filter(|_| self.is_leaf);
        let current = current.and_then(|pointer| method.index_of(pointer));
        let index = current.or_else(|| method.index_of(self.word(bytecode_at)?));
        let key = Key::Interpreted { method: address, index: index.unwrap_or(-1) };
        let caller = |frame: &mut Self| {
            let (pc, sp) = (frame.return_at(frame.fp + 8)?, frame.word(sp_at)?);
            Some(Caller::new(pc, sp, frame.word(frame.fp)?))
        };
        Some((key, caller(self)))
    }

    /// A method that the interpreter is entering or leaving: rbx is the method and r13 the caller's
    /// stack pointer, as calls pass them.
    fn interpreter_entry(&mut self, distance: u64) -> Option<(Key, Option<Caller>)> {
        let method = self.registers.get(RBX)?;
        self.jvm.method(method)?;
        let key = Key::Interpreted { method, index: -1 };
        let sender = self.registers.get(R13).filter(|sp| {
            let above = sp.wrapping_sub(self.sp);
            above <= MAX_STUB && sp.is_multiple_of(8) && above > 0
        });
        if let Some(pc) = self.return_at(self.sp) {
            let sp = sender.unwrap_or(self.sp + 8);
            return Some((key, Some(Caller::new(pc, sp, self.fp))));
        }
        // The frame pointer is set up, the rest not yet.
        if distance < INTERPRETED_BYTES
            && let Some(pc) = self.return_at(self.fp + 8)
        {
            let pushed = if distance >= 8 { self.word(self.fp - 8) } else { None };
            let sp = pushed.filter(|sp| *sp > self.fp).or(sender).unwrap_or(self.fp + 16);
            let fp = self.word(self.fp)?;
            return Some((key, Some(Caller::new(pc, sp, fp))));
        }
        // The return address is in rax between its removal and its return to the stack.
        let pc = self.registers.get(RAX).filter(|pc| self.jvm.is_code(*pc))?;
        Some((key, Some(Caller::new(pc, sender?, self.fp))))
    }

    /// A leaf without a frame: its return address is at the stack pointer or in rax.
    fn unframed(&mut self) -> Option<Caller> {
        if let Some(pc) = self.return_at(self.sp) {
            return Some(Caller::new(pc, self.sp + 8, self.fp));
        }
        if self.is_leaf
            && let Some(pc) = self.registers.get(RAX).filter(|pc| self.jvm.is_code(*pc))
        {
            let sender =
                self.registers.get(R13).filter(|sp| *sp > self.sp && sp.wrapping_sub(self.sp) <= MAX_STUB);
            return Some(Caller::new(pc, sender.unwrap_or(self.sp + 8), self.fp));
        }
        self.search(SEARCHED_STUB_WORDS)
    }

    fn search(&mut self, words: u64) -> Option<Caller> {
        for word in 0..words {
            let at = self.sp.checked_add(word * 8)?;
            if let Some(pc) = self.return_at(at) {
                let fp = if word == 0 { self.fp } else { self.word(at - 8)? };
                return Some(Caller::new(pc, at + 8, fp));
            }
        }
        None
    }

    fn adapter(&mut self, blob: &Blob) -> (Key, Option<Caller>) {
        (self.stub_key(blob), self.unframed())
    }

    fn stub(&mut self, blob: &Blob) -> (Key, Option<Caller>) {
        let key = self.stub_key(blob);
        if self.pc == self.jvm.call_stub_return {
            return (key, self.call_stub());
        }
        (key, self.stub_caller(blob))
    }

    fn stub_caller(&mut self, blob: &Blob) -> Option<Caller> {
        if blob.frame_bytes >= 16 {
            let end = self.sp.checked_add(blob.frame_bytes)?;
            if let Some(pc) = self.return_at(end - 8) {
                return Some(Caller::new(pc, end, self.word(end - 16)?));
            }
        }
        if self.is_leaf
            && let Some(pc) = self.return_at(self.sp)
        {
            return Some(Caller::new(pc, self.sp + 8, self.fp));
        }
        let has_fp = self.fp.wrapping_sub(self.sp) < MAX_STUB;
        if has_fp && let Some(pc) = self.return_at(self.fp + 8) {
            return Some(Caller::new(pc, self.fp + 16, self.word(self.fp)?));
        }
        if let Some(found) = self.search(SEARCHED_STUB_WORDS) {
            return Some(found);
        }
        // Native code calls some stubs too.
        let at = if has_fp { self.fp + 8 } else { self.sp };
        let fp = if has_fp { self.word(self.fp)? } else { self.fp };
        Some(Caller::new(self.word(at)?, at + 8, fp))
    }

    /// From the stub that native code calls Java with to its caller.
    fn call_stub(&mut self) -> Option<Caller> {
        let (pc, fp) = (self.word(self.fp.checked_add(8)?)?, self.word(self.fp)?);
        let mut caller = Caller::new(pc, self.fp + 16, fp);
        for (register, offset) in CALL_STUB_SAVED {
            let value = self.word(self.fp.wrapping_add_signed(offset));
            caller.saved.extend(value.map(|value| (register, value)));
        }
        Some(caller)
    }

    fn stub_key(&self, blob: &Blob) -> Key {
        let start = self.jvm.routine(self.pc, blob).map_or(0, |(start, _)| start);
        Key::Stub { blob: blob.address, routine: start }
    }
}
