//! Unwinding without call-frame information: the machine code at a leaf, the chain of frame
//! pointers, and a scan of the stack for a plausible return address. Each candidate is checked
//! against the code it leads to; without one that passes, the stack ends there.
//!
//! Not here: rules from call-frame information.

use super::{
    CodeAt, MappedCode, Module, Modules, ReadFailure, Role, StackEnd, StackMemory, UnwindMethod,
    failure::Failure,
};
use crate::{
    addr::{FrameAddr, RuntimeAddr},
    arch::{Call, LeafShape, Registers, ReturnAt, native},
};

/// Length of a scan, in words.
const SCAN_WORDS: u64 = 512;
/// Most code read from an address, in bytes.
const CODE_AT: usize = 64;
const CODE_BEFORE: usize = native::CODE_BEFORE as usize;
/// Number of words of a stack that are compared with generated code in one scan.
const MAX_GENERATED: u32 = 32;
/// Number of calls that a scan follows into their functions.
const MAX_TRIES: u32 = 16;
/// Longest distance from an address back to the start of its function, where no symbol states it.
const NEAR_BYTES: u64 = 1024;

/// A frame without unwinding tables.
pub(super) struct FrameWithoutCfi<'a, M: ?Sized> {
    pub modules: &'a Modules,
    /// The module of the frame's code; `None` if it is in no mapping.
    pub module: Option<&'a Module>,
    pub addr: FrameAddr,
    /// Result of tracking the stack pointer through the function's code.
    pub shape: Option<&'a LeafShape>,
    /// The same from probable starts of the function, the most probable first.
    pub guesses: &'a [LeafShape],
    /// The function runs on another stack than its caller: the frame pointer may lead there.
    pub switches_stack: bool,
    /// The stack may still be scanned.
    pub may_scan: bool,
    pub registers: &'a mut Registers,
    pub memory: &'a mut M,
}

/// Most code of one function that is followed, in bytes.
const MAX_FOLLOWED: u64 = 16 << 10;

/// Most starts of functions that are tried where no symbol states one.
const MAX_STARTS: usize = 4;

/// Where the parts of a frame are, according to its function's code.
pub(super) enum Followed {
    /// From the function's start, which a symbol states.
    Known(LeafShape),
    /// From probable starts (assembly in a stripped file), the most probable first.
    Guessed(Vec<LeafShape>),
    /// The code cannot be followed.
    Not,
}

/// Locations of the frame's parts, found by tracking the stack pointer through the code of its
/// function. They are worth caching.
pub(super) fn follow_code(module: &Module, addr: FrameAddr) -> Followed {
    let Some(tables) = module.tables.as_ref() else { return Followed::Not };
    let follow = |start: RuntimeAddr| {
        let to = addr.raw().0.checked_sub(start.0).filter(|to| *to <= MAX_FOLLOWED)?;
        native::frame_at(module.code_from(start)?, usize::try_from(to).ok()?)
    };
    let address = module.elf_addr(addr.lookup());
    if let Some(start) = tables.function_start(address) {
        return follow(module.runtime_addr(start)).map_or(Followed::Not, Followed::Known);
    }
    let described_to = tables.described_before(address).map_or(module.start, |end| module.runtime_addr(end));
    let from = RuntimeAddr(described_to.0.max(module.start.0).max(addr.raw().0.saturating_sub(MAX_FOLLOWED)));
    let length = usize::try_from(addr.raw().0.saturating_sub(from.0)).unwrap_or(0);
    let Some(code) = module.code_from(from).and_then(|code| code.get(..length)) else { return Followed::Not };
    let mut shapes = Vec::new();
    for start in native::function_starts(from.0, code).into_iter().rev().take(MAX_STARTS) {
        shapes.extend(follow(from.offset(start as i64)).filter(|shape| !shapes.contains(shape)));
    }
    if shapes.is_empty() { Followed::Not } else { Followed::Guessed(shapes) }
}

/// How plausible a word of the stack is as a return address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Candidate {
    No,
    /// In code that cannot be read (generated at run time).
    Unseen,
    /// After an indirect call, or a direct call of another function (a linkage stub).
    AfterCall,
    /// After a direct call of the function that would return there.
    AfterCallOfThis,
    /// In an outermost function, which nothing calls.
    InRoot,
}

impl<M: StackMemory + ?Sized> FrameWithoutCfi<'_, M> {
    /// Replaces the registers by the caller's, or returns why the stack ends here.
    pub fn step(&mut self) -> Result<UnwindMethod, StackEnd> {
        if self.is_outermost() {
            return Err(StackEnd::Root);
        }
        self.try_all().map_err(|failure| match failure {
            Failure::Read(ReadFailure::BeyondCopy) => StackEnd::StackCut,
            Failure::Root => StackEnd::Root,
            _ => StackEnd::NoUnwindInfo(self.module.map(|module| module.id)),
        })
    }

    fn try_all(&mut self) -> Result<UnwindMethod, Failure> {
        let exact = matches!(self.addr, FrameAddr::Pc(_));
        if exact && (self.leaf_shape()? || self.frameless_leaf()?) {
            return Ok(UnwindMethod::Instructions);
        }
        if let Some(shape) = self.shape
            && self.apply_shape(shape)?
        {
            return Ok(UnwindMethod::Instructions);
        }
        if self.apply_a_guess() {
            return Ok(UnwindMethod::Instructions);
        }
        if self.returning_from_generated_code()? {
            return Ok(UnwindMethod::Instructions);
        }
        // A function known not to keep a frame pointer still has one of its callers' in that
        // register.
        let keeps_frame_pointer = self.keeps_frame_pointer();
        if keeps_frame_pointer && self.frame_pointer()? {
            return Ok(UnwindMethod::FramePointer);
        }
        match self.scan() {
            Ok(true) => return Ok(UnwindMethod::Scan),
            Err(failure) if keeps_frame_pointer => return Err(failure),
            _ => {}
        }
        if self.frame_pointer()? {
            Ok(UnwindMethod::FramePointer)
        } else if self.scan_from_generated_code()? {
            Ok(UnwindMethod::Scan)
        } else {
            Err(Failure::Unusable)
        }
    }

    /// Whether the frame's own function is an outermost one, which nothing calls.
    fn is_outermost(&self) -> bool {
        let Some(module) = self.module else { return false };
        let at = self.addr.lookup();
        let named = module.tables.as_ref().is_some_and(|tables| tables.is_root_function(module.elf_addr(at)))
            || is_root_of_language(module, self.addr);
        let returned_to = matches!(self.addr, FrameAddr::Return(_));
        named || (returned_to && code_at(module, self.addr.raw()).is_some_and(native::is_thread_exit))
    }

    /// The caller according to the instructions at a leaf, if it leads to code.
    fn leaf_shape(&mut self) -> Result<bool, Failure> {
        let Some(module) = self.module else { return Ok(false) };
        let pc = self.addr.raw();
        let shape = if module.tables.is_none() {
            let mut bytes = [0; CODE_BEFORE + CODE_AT];
            let length = self.memory.code(RuntimeAddr(pc.0.wrapping_sub(native::CODE_BEFORE)), &mut bytes);
            let (before, code) = bytes[..length].split_at(length.min(CODE_BEFORE));
            native::leaf_shape(before, code)
        } else {
            let before = module.code_before(pc, native::CODE_BEFORE).unwrap_or_default();
            code_at(module, pc).and_then(|code| native::leaf_shape(before, code))
        };
        match shape {
            Some(shape) => self.apply_shape(&shape),
            None => Ok(false),
        }
    }

    /// Whether one of the guesses leads to a call. A wrong one may lead to memory that cannot be
    /// read.
    fn apply_a_guess(&mut self) -> bool {
        let guesses = self.guesses;
        guesses.iter().any(|shape| self.apply_shape(shape) == Ok(true))
    }

    /// The caller of code that is in no file, if the call that it makes is the last thing that it
    /// does: what follows the call removes the frame.
    fn returning_from_generated_code(&mut self) -> Result<bool, Failure> {
        let FrameAddr::Return(pc) = self.addr else { return Ok(false) };
        if self.module.is_none_or(|module| module.tables.is_some()) {
            return Ok(false);
        }
        let mut code = [0; CODE_AT];
        let length = self.memory.code(pc, &mut code);
        match code.get(..length).and_then(native::shape_before_return) {
            Some(shape) => self.apply_shape(&shape),
            None => Ok(false),
        }
    }

    fn apply_shape(&mut self, shape: &LeafShape) -> Result<bool, Failure> {
        let base = self.registers.get(shape.base).ok_or(Failure::Unusable)?;
        let at = |offset: i64| RuntimeAddr(base.wrapping_add_signed(offset));
        let raw = match shape.return_address {
            ReturnAt::Register(register) => self.registers.get(register).ok_or(Failure::Unusable)?,
            ReturnAt::Offset(offset) => self.memory.read_u64(at(offset))?,
        };
        let sp = self.registers.get(native::SP).ok_or(Failure::Unusable)?;
        let caller_sp = at(shape.caller_sp).0;
        let return_address = native::strip_pointer_authentication(raw);
        if caller_sp < sp || self.judge(RuntimeAddr(return_address)) == Candidate::No {
            return Ok(false);
        }
        let saved: Vec<_> =
            shape.saved.iter().map(|(number, offset)| (*number, self.memory.read_u64(at(*offset)))).collect();
        self.registers.retain(native::PRESERVED);
        for (number, value) in saved {
            self.registers.forget(number);
            value.into_iter().for_each(|value| self.registers.set(number, value));
        }
        self.arrive(return_address, caller_sp);
        Ok(true)
    }

    /// A function that pushed nothing: the return address is on top of the stack, after a call of
    /// this function. If there is no mapping here at all (a call through a bad pointer), after any
    /// call.
    fn frameless_leaf(&mut self) -> Result<bool, Failure> {
        let sp = self.registers.get(native::SP).ok_or(Failure::Unusable)?;
        let word = self.memory.read_u64(RuntimeAddr(sp))?;
        let fits = match self.judge(RuntimeAddr(word)) {
            Candidate::AfterCallOfThis => true,
            Candidate::AfterCall => self.module.is_none(),
            _ => false,
        };
        if fits {
            self.registers.retain(native::PRESERVED);
            self.arrive(word, sp.wrapping_add(8));
        }
        Ok(fits)
    }

    /// Whether the function seems to set up a frame pointer; true if that cannot be determined.
    fn keeps_frame_pointer(&self) -> bool {
        let start = self.module.and_then(|module| {
            let address = module.elf_addr(self.addr.lookup());
            let start = module.tables.as_ref()?.function_start(address)?;
            code_at(module, module.runtime_addr(start))
        });
        start.is_none_or(native::sets_up_frame_pointer)
    }

    /// The caller by the frame pointer: `[fp]` is the caller's, `[fp + 8]` the return address.
    fn frame_pointer(&mut self) -> Result<bool, Failure> {
        let Some(fp) = self.registers.get(native::FP) else { return Ok(false) };
        let sp = self.registers.get(native::SP).ok_or(Failure::Unusable)?;
        let made_for_frame_pointers = self
            .module
            .is_some_and(|module| module.tables.as_ref().is_none_or(|tables| tables.keeps_frame_pointers()));
        if fp == 0 && made_for_frame_pointers {
            return Err(Failure::Root);
        }
        let switches = self.switches_stack;
        if fp % 8 != 0 || (fp < sp && !switches) || fp > u64::MAX - 16 {
            return Ok(false);
        }
        let elsewhere = |failure| if switches { ReadFailure::BeyondCopy } else { failure };
        let raw = self.memory.read_u64(RuntimeAddr(fp + 8)).map_err(elsewhere)?;
        let caller_fp = self.memory.read_u64(RuntimeAddr(fp)).map_err(elsewhere)?;
        let return_address = native::strip_pointer_authentication(raw);
        if return_address == 0 && caller_fp == 0 && made_for_frame_pointers {
            return Err(Failure::Root);
        }
        match self.judge(RuntimeAddr(return_address)) {
            Candidate::No => return Ok(false),
            Candidate::Unseen if !self.follows_a_call(RuntimeAddr(return_address)) => return Ok(false),
            _ => {}
        }
        self.registers.retain(1 << native::SP);
        self.registers.set(native::FP, caller_fp);
        self.arrive(return_address, fp + 16);
        Ok(true)
    }

    /// Scans the stack for a plausible return address. First choice: one after a direct call of the
    /// function that would return there, known by its symbol or by following its code. Otherwise:
    /// the first one after any call, if it is in an outermost function, or if this function is the
    /// first of its module (calls between modules go through stubs and pointers).
    fn scan(&mut self) -> Result<bool, Failure> {
        let described = |module: &&Module| module.tables.is_some() && self.may_scan;
        let Some(module) = self.module.filter(described) else { return Ok(false) };
        let sp = self.registers.get(native::SP).ok_or(Failure::Unusable)?;
        let (mut first, mut tries) = (true, MAX_TRIES);
        for place in (0..SCAN_WORDS).map(|word| sp.wrapping_add(word * 8)) {
            let word = self.memory.read_u64(RuntimeAddr(place))?;
            let fits = match self.judge(RuntimeAddr(word)) {
                Candidate::AfterCallOfThis => true,
                Candidate::InRoot => first,
                Candidate::AfterCall if same_file(module, self.modules.find(RuntimeAddr(word))) => {
                    tries -= 1;
                    self.call_leads_here(module, RuntimeAddr(word), place.wrapping_sub(sp))
                }
                Candidate::AfterCall => first,
                Candidate::No | Candidate::Unseen => continue,
            };
            if fits {
                // The frame pointer may be the caller's, or may have been saved on the way: it is
                // kept.
                self.registers.retain(1 << native::SP | 1 << native::FP);
                self.arrive(word, place.wrapping_add(8));
                return Ok(true);
            }
            first = false;
            if tries == 0 {
                break;
            }
        }
        Ok(false)
    }

    /// Scans the stack from a frame in code that nothing describes and that keeps no frame pointer:
    /// the first word after a call is taken. Generated code has small frames.
    fn scan_from_generated_code(&mut self) -> Result<bool, Failure> {
        let is_generated = |module: &&Module| module.tables.is_none() && module.code.is_none();
        if !self.may_scan || self.module.filter(is_generated).is_none() {
            return Ok(false);
        }
        let sp = self.registers.get(native::SP).ok_or(Failure::Unusable)?;
        let mut tries = MAX_GENERATED;
        for place in (0..SCAN_WORDS).map(|word| sp.wrapping_add(word * 8)) {
            let word = self.memory.read_u64(RuntimeAddr(place))?;
            let fits = match self.judge(RuntimeAddr(word)) {
                Candidate::No => false,
                Candidate::Unseen if tries == 0 => return Ok(false),
                Candidate::Unseen => {
                    tries -= 1;
                    self.is_called_code(RuntimeAddr(word))
                }
                Candidate::AfterCall | Candidate::AfterCallOfThis | Candidate::InRoot => true,
            };
            if fits {
                self.registers.retain(1 << native::SP | 1 << native::FP);
                self.arrive(word, place.wrapping_add(8));
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a return address into code that is in no file follows a call, as far as that code
    /// can be read.
    fn follows_a_call(&self, word: RuntimeAddr) -> bool {
        let mut before = [0; CODE_BEFORE];
        let length = self.memory.code(RuntimeAddr(word.0.wrapping_sub(native::CODE_BEFORE)), &mut before);
        length < CODE_BEFORE || native::call_before(&before).is_some()
    }

    /// The same of code that must be readable.
    fn is_called_code(&self, word: RuntimeAddr) -> bool {
        let mut before = [0; CODE_BEFORE];
        let length = self.memory.code(RuntimeAddr(word.0.wrapping_sub(native::CODE_BEFORE)), &mut before);
        length == CODE_BEFORE && native::call_before(&before).is_some()
    }

    /// Whether the call before `word`, followed from its target through the code to this frame,
    /// would leave the return address exactly this many bytes above the stack pointer.
    fn call_leads_here(&self, module: &Module, word: RuntimeAddr, bytes_above: u64) -> bool {
        let before = module.code_before(word, native::CODE_BEFORE).unwrap_or_default();
        let Some(Call::Direct(distance)) = native::call_before(before) else { return false };
        let (target, pc) = (word.offset(distance), self.addr.raw());
        let Some(to) = pc.0.checked_sub(target.0).filter(|to| *to <= MAX_FOLLOWED) else { return false };
        let shape = module.code_from(target).and_then(|code| native::frame_at(code, to as usize));
        shape.is_some_and(|shape| shape.return_address == ReturnAt::Offset(bytes_above as i64))
    }

    fn arrive(&mut self, return_address: u64, sp: u64) {
        self.registers.set(native::SP, sp);
        self.registers.set(native::PC, return_address);
    }

    /// Whether a call may return to `word`, as far as the code there can be read.
    pub fn may_return_to(&self, word: RuntimeAddr) -> bool {
        self.judge(word) != Candidate::No
    }

    fn judge(&self, word: RuntimeAddr) -> Candidate {
        let Some(home) = self.modules.find(FrameAddr::Return(word).lookup()) else { return Candidate::No };
        let Some(tables) = &home.tables else { return Candidate::Unseen };
        if is_root_of_language(home, FrameAddr::Return(word)) {
            return Candidate::InRoot;
        }
        let before = home.code_before(word, native::CODE_BEFORE).unwrap_or_default();
        let Some(call) = native::call_before(before) else { return Candidate::No };
        match call {
            Call::Direct(distance) if self.is_this_function(word.offset(distance)) => {
                Candidate::AfterCallOfThis
            }
            _ if code_at(home, word).is_some_and(native::is_thread_exit) => Candidate::InRoot,
            _ if tables.is_root_function(home.elf_addr(FrameAddr::Return(word).lookup())) => {
                Candidate::InRoot
            }
            _ => Candidate::AfterCall,
        }
    }

    /// Whether the frame runs in the function that starts at `target`.
    fn is_this_function(&self, target: RuntimeAddr) -> bool {
        let Some(module) = self.module.filter(|module| module.contains(target)) else { return false };
        let pc = self.addr.lookup();
        let known = module.tables.as_ref().and_then(|tables| tables.function_start(module.elf_addr(pc)));
        let near = target <= pc && pc.0 - target.0 < NEAR_BYTES;
        let Some(start) = known else { return near };
        let target_address = module.elf_addr(target);
        let distance = start.0.wrapping_sub(target_address.0) as i64;
        start == target_address
            || (near && start < target_address)
            || code_at(module, target).is_some_and(|code| native::jumps_to(code, distance))
    }
}

/// Whether a language states that an address is in an outermost function.
fn is_root_of_language(module: &Module, addr: FrameAddr) -> bool {
    let code = module.tables.as_ref().and_then(|tables| tables.code());
    code.is_some_and(|code| code.role(CodeAt { addr, module }) == Role::Root)
}

fn same_file(module: &Module, other: Option<&Module>) -> bool {
    let id = |module: &Module| module.tables.as_ref().map(|tables| tables.id());
    other.is_some_and(|other| id(module) == id(other))
}

fn code_at(module: &Module, addr: RuntimeAddr) -> Option<&[u8]> {
    module.code_from(addr).map(|code| code.get(..CODE_AT).unwrap_or(code))
}
