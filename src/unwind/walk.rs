//! Walks from a thread's registers to its outermost frame.
//!
//! Not here: how one step is made (rules, fallbacks).

use gimli::UnwindContext;

use super::{
    Code, CodeAt, Frame, FrameKey, MAX_FRAMES, MappedCode, Module, Modules, NextStack, Role, StackEnd,
    StackMemory, Step, UnwindMethod, UnwindTables,
    cache::{Key, RuleCache},
    code::apply_fixed,
    failure::Failure,
    fallback::{Followed, FrameWithoutCfi, follow_code},
    rule::{Owner, Rule},
};
use crate::{
    addr::{FrameAddr, RuntimeAddr},
    arch::{LeafShape, Registers, native},
};

/// Most nested signal handlers in one stack: more is a loop.
const MAX_SIGNAL_FRAMES: u32 = 64;

/// Scanning is slow and unreliable: a stack that needs it more often than this ends.
const MAX_SCANS: u32 = 64;

/// Largest frame, in bytes, whose end a register gives that a callee may have changed.
const MAX_GUESSED_FRAME: u64 = 64 << 10;

/// Most switches between stacks in one walk: the segments are compared with each other.
const MAX_SWITCHES: usize = 64;

/// Unwinds stacks of any number of processes and caches the rules it has met (256 KiB of slots,
/// plus the rules).
pub struct Unwinder {
    cache: RuleCache,
    context: UnwindContext<usize>,
    /// Index of the module found last.
    last_module: usize,
    /// The rule for the current frame, if it is not cached.
    uncached: Rule,
    keys: Vec<(u32, FrameKey)>,
}

impl Default for Unwinder {
    fn default() -> Self {
        Unwinder::new()
    }
}

impl Unwinder {
    /// An unwinder with an empty cache.
    pub fn new() -> Unwinder {
        Unwinder {
            cache: RuleCache::new(),
            context: UnwindContext::new(),
            last_module: 0,
            uncached: Rule::Missing,
            keys: Vec::new(),
        }
    }

    /// Replaces the content of `frames` by the stack of a thread with these registers, leaf first,
    /// and returns why it ends. `registers` are those of the innermost frame, as complete as known;
    /// pc and sp are required. Does at most [`MAX_FRAMES`] steps.
    pub fn unwind<M: StackMemory + ?Sized>(
        &mut self,
        modules: &Modules,
        registers: &Registers,
        memory: &mut M,
        frames: &mut Vec<Frame>,
    ) -> StackEnd {
        frames.clear();
        self.keys.clear();
        let mut walk = Walk {
            modules,
            registers: *registers,
            memory,
            next: LEAF,
            signal_frames: 0,
            scans: 0,
            in_task: false,
            segment_start: registers.get(native::SP).unwrap_or(0),
            segments: Vec::new(),
            keys: std::mem::take(&mut self.keys),
        };
        let end = loop {
            if let Err(end) = self.step(&mut walk, frames) {
                break end;
            }
        };
        self.keys = walk.keys;
        end
    }

    /// The frames of the last stack that are a language's own: index in the stack, ascending, and
    /// the language's key.
    pub fn keys(&self) -> &[(u32, FrameKey)] {
        &self.keys
    }

    /// Adds the frame that the registers describe and continues with its caller.
    #[inline]
    fn step<M: StackMemory + ?Sized>(
        &mut self,
        walk: &mut Walk<'_, M>,
        frames: &mut Vec<Frame>,
    ) -> Result<(), StackEnd> {
        let pc = walk.registers.get(native::PC).map(RuntimeAddr).ok_or(StackEnd::UnusableRule)?;
        let sp = RuntimeAddr(walk.registers.get(native::SP).unwrap_or(0));
        let mut addr = if walk.next.exact { FrameAddr::Pc(pc) } else { FrameAddr::Return(pc) };
        let module = walk.modules.find_near(addr.lookup(), &mut self.last_module);
        if module.is_none() && !frames.is_empty() {
            let root = pc.0 == 0 && !walk.next.exact;
            return Err(if root { StackEnd::Root } else { StackEnd::PcUnmapped });
        }
        if frames.len() >= MAX_FRAMES {
            return Err(StackEnd::TooDeep);
        }
        if walk.next.how == UnwindMethod::Leaf
            && module.is_some_and(|module| is_new_thread(module, addr, &walk.registers))
        {
            let module = module.map(|module| module.id);
            frames.push(Frame { addr, sp, module, how: UnwindMethod::Leaf });
            return Err(StackEnd::Root);
        }
        let rule = self.rule(module, addr);
        if rule.is_signal_frame() || *rule == Rule::CoroutineEnd {
            // The callee "returns" to where no call was: the address was put on the stack.
            addr = FrameAddr::Pc(pc);
        }
        frames.push(Frame { addr, sp, module: module.map(|module| module.id), how: walk.next.how });
        if let Rule::Fast(fast) = rule {
            let exact = walk.next.exact;
            return match fast.apply(&mut walk.registers, walk.memory, exact) {
                Err(Failure::Unusable) if !exact => walk.apply_with_registers_of_callees(rule, module, addr),
                applied => {
                    walk.next = CALLED;
                    applied.map_err(|failure| failure.end(walk.signal_frames > 0))
                }
            };
        }
        walk.step_rarely(rule, module, addr, frames.len() as u32 - 1)
    }

    #[inline]
    fn rule(&mut self, module: Option<&Module>, addr: FrameAddr) -> &Rule {
        let Some(module) = module else { return &Rule::Missing };
        if let Some(code) = &module.code {
            self.uncached = role_as_rule(code.role(CodeAt { addr, module }), Owner::Module);
            if self.uncached != Rule::Missing {
                return &self.uncached;
            }
        }
        let Some(tables) = module.tables.as_deref() else { return &Rule::Missing };
        let elf_addr = module.elf_addr(addr.lookup());
        let exact = matches!(addr, FrameAddr::Pc(_));
        let context = &mut self.context;
        self.cache.get(Key { tables: tables.id(), elf_addr: elf_addr.0, exact }, || {
            find_rule(module, tables, addr, context)
        })
    }
}

/// [`Rule::Missing`] if the language states nothing.
fn role_as_rule(role: Role, owner: Owner) -> Rule {
    match role {
        Role::NotMine => Rule::Missing,
        Role::Root => Rule::Root,
        Role::Fixed(frame) => Rule::Fixed(frame),
        Role::Own => Rule::Own(owner),
    }
}

fn is_new_thread(module: &Module, addr: FrameAddr, registers: &Registers) -> bool {
    let code = module.code_from(addr.raw()).unwrap_or_default();
    let before = module.code_before(addr.raw(), native::CODE_BEFORE).unwrap_or_default();
    native::is_new_thread(before, code, registers)
}

/// The rule for an address that is not in the cache.
#[cold]
fn find_rule(
    module: &Module,
    tables: &UnwindTables,
    addr: FrameAddr,
    context: &mut UnwindContext<usize>,
) -> Rule {
    let pc = addr.raw();
    let code = module.code_from(pc).unwrap_or_default();
    let before = module.code_before(pc, native::CODE_BEFORE).unwrap_or_default();
    let at_sigreturn = native::is_sigreturn(before, code);
    if matches!(addr, FrameAddr::Return(_))
        && !at_sigreturn
        && is_end_of_coroutine(module, tables, pc, before)
    {
        return Rule::CoroutineEnd;
    }
    if let (Some(code), false) = (tables.code(), at_sigreturn) {
        if tables.is_root_function(module.elf_addr(addr.lookup())) {
            return Rule::Root;
        }
        let rule = role_as_rule(code.role(CodeAt { addr, module }), Owner::File);
        if rule != Rule::Missing {
            return rule;
        }
    }
    let rule = tables.rule_at(module.elf_addr(addr.lookup()), context);
    // The byte before a trampoline may belong to another function: only a rule that is marked as a
    // signal frame's can be the trampoline's own.
    match rule {
        rule if rule.is_signal_frame() => rule,
        _ if at_sigreturn => Rule::SignalContext,
        Rule::Missing if !tables.keeps_frame_pointers() => match follow_code(module, addr) {
            Followed::Known(shape) => Rule::Code(Box::new(shape)),
            Followed::Guessed(shapes) => Rule::GuessedCode(shapes.into()),
            Followed::Not => Rule::Missing,
        },
        rule => rule,
    }
}

/// Whether the first function of a coroutine returns to `pc`. Nothing was called there: the
/// address was put on the new stack. It is the first instruction of a function (`__start_context`
/// of glibc), or code that ends the process (boost's and PHP's `make_fcontext`).
fn is_end_of_coroutine(module: &Module, tables: &UnwindTables, pc: RuntimeAddr, before: &[u8]) -> bool {
    let address = module.elf_addr(pc);
    native::call_before(before).is_none()
        && (module.code_from(pc).is_some_and(native::is_process_exit)
            || tables.described_function(address).is_some_and(|(start, _)| start == address))
}

/// How the next frame was found.
#[derive(Clone, Copy)]
struct Next {
    how: UnwindMethod,
    /// The frame was interrupted (or is the leaf), not left by a call.
    exact: bool,
}

const LEAF: Next = Next { how: UnwindMethod::Leaf, exact: true };
const CALLED: Next = Next { how: UnwindMethod::Cfi, exact: false };

/// A walk in progress: the registers are those of the next frame.
struct Walk<'a, M: ?Sized> {
    modules: &'a Modules,
    registers: Registers,
    memory: &'a mut M,
    next: Next,
    signal_frames: u32,
    scans: u32,
    /// The walk has entered the stack of the thread's task.
    in_task: bool,
    /// Where the walk of the current stack began.
    segment_start: u64,
    /// The parts of stacks that were walked before the current one.
    segments: Vec<(u64, u64)>,
    keys: Vec<(u32, FrameKey)>,
}

impl<M: StackMemory + ?Sized> Walk<'_, M> {
    /// Makes a step by anything except a [`Rule::Fast`], from the frame at `index` of the stack.
    fn step_rarely(
        &mut self,
        rule: &Rule,
        module: Option<&Module>,
        addr: FrameAddr,
        index: u32,
    ) -> Result<(), StackEnd> {
        let exact = self.next.exact;
        let applied = match rule {
            Rule::Fast(fast) => fast.apply(&mut self.registers, self.memory, exact),
            Rule::Full(full) => {
                let before = self.registers;
                match full.apply(&mut self.registers, self.memory, exact) {
                    Err(Failure::Unusable) if !exact && !full.is_signal_frame => {
                        self.registers = before;
                        return self.apply_with_registers_of_callees(rule, module, addr);
                    }
                    // What assembly keeps below the stack pointer may have been read late.
                    Ok(()) if exact && full.has_cfa_expression() && !self.returns_to_code(module, addr) => {
                        Err(Failure::Unusable)
                    }
                    applied => applied,
                }
            }
            Rule::SignalContext => self.signal_context(),
            Rule::Fixed(frame) => {
                apply_fixed(frame, &mut self.registers, self.memory)
                    .map_err(|failure| failure.end(self.signal_frames > 0))?;
                self.next = Next { how: UnwindMethod::Runtime, exact: false };
                return Ok(());
            }
            Rule::Root | Rule::CoroutineEnd => Err(Failure::Root),
            Rule::Unusable => Err(Failure::Unusable),
            Rule::Own(owner) => return self.step_of_language(*owner, module, addr, index),
            Rule::Missing => return self.fall_back(module, addr, (None, &[]), false),
            Rule::Code(shape) => return self.fall_back(module, addr, (Some(shape), &[]), false),
            Rule::GuessedCode(shapes) => return self.fall_back(module, addr, (None, shapes), false),
        };
        applied.map_err(|failure| failure.end(self.signal_frames > 0))?;
        self.next = CALLED;
        if rule.is_signal_frame() {
            self.signal_frames += 1;
            self.next = Next { how: UnwindMethod::SignalContext, exact: true };
        }
        if self.signal_frames > MAX_SIGNAL_FRAMES { Err(StackEnd::NotAdvancing) } else { Ok(()) }
    }

    /// Makes a step by call-frame information that needs a register which calls do not preserve.
    /// Assembly states such rules: it calls only its own functions, which do not touch that
    /// register. What the callee left there is used if it leads to a return address.
    #[cold]
    fn apply_with_registers_of_callees(
        &mut self,
        rule: &Rule,
        module: Option<&Module>,
        addr: FrameAddr,
    ) -> Result<(), StackEnd> {
        let before = self.registers;
        self.registers = before.with_values_left_by_callees();
        let applied = match rule {
            Rule::Fast(fast) => fast.apply(&mut self.registers, self.memory, false),
            Rule::Full(full) => full.apply(&mut self.registers, self.memory, false),
            _ => Err(Failure::Unusable),
        };
        let sp = |registers: &Registers| registers.get(native::SP).unwrap_or(0);
        let is_near = sp(&self.registers).wrapping_sub(sp(&before)) <= MAX_GUESSED_FRAME;
        if applied.is_err() || !is_near || !self.returns_to_code(module, addr) {
            self.registers = before;
            return Err(StackEnd::UnusableRule);
        }
        self.next = CALLED;
        Ok(())
    }

    /// Whether the next frame's address is one that a call returns to, or in code that cannot be
    /// read.
    fn returns_to_code(&mut self, module: Option<&Module>, addr: FrameAddr) -> bool {
        let to = RuntimeAddr(self.registers.get(native::PC).unwrap_or(0));
        let (modules, registers) = (self.modules, &mut self.registers);
        let memory = &mut *self.memory;
        FrameWithoutCfi {
            modules,
            module,
            addr,
            shape: None,
            guesses: &[],
            switches_stack: false,
            may_scan: false,
            registers,
            memory,
        }
        .may_return_to(to)
    }

    /// Makes a step without tables.
    fn fall_back(
        &mut self,
        module: Option<&Module>,
        addr: FrameAddr,
        (shape, guesses): (Option<&LeafShape>, &[LeafShape]),
        switches_stack: bool,
    ) -> Result<(), StackEnd> {
        let (modules, registers) = (self.modules, &mut self.registers);
        let memory = &mut *self.memory;
        let may_scan = self.scans < MAX_SCANS;
        let how = FrameWithoutCfi {
            modules,
            module,
            addr,
            shape,
            guesses,
            switches_stack,
            may_scan,
            registers,
            memory,
        }
        .step()?;
        self.scans += u32::from(how == UnwindMethod::Scan);
        self.next = Next { how, exact: false };
        Ok(())
    }

    /// Makes a step that only the code's language knows.
    fn step_of_language(
        &mut self,
        owner: Owner,
        module: Option<&Module>,
        addr: FrameAddr,
        index: u32,
    ) -> Result<(), StackEnd> {
        let code = module.and_then(|module| match owner {
            Owner::Module => module.code.as_deref(),
            Owner::File => module.tables.as_ref()?.code(),
        });
        let Some((module, code)) = module.zip(code) else {
            return self.fall_back(module, addr, (None, &[]), false);
        };
        match self.step_by(code, CodeAt { addr, module }, index) {
            Step::Caller(caller) => {
                let sp = |registers: &Registers| registers.get(native::SP);
                if sp(&caller) <= sp(&self.registers) {
                    return Err(StackEnd::NotAdvancing);
                }
                self.registers = caller;
                self.next = Next { how: UnwindMethod::Runtime, exact: false };
                Ok(())
            }
            Step::Switch { registers, exact, stack } => match self.enter(&registers, &stack)? {
                true => {
                    self.registers = registers;
                    self.next = Next { how: UnwindMethod::Runtime, exact };
                    Ok(())
                }
                false => self.fall_back(Some(module), addr, (None, &[]), true),
            },
            Step::Root => Err(StackEnd::Root),
            Step::Native { switches } => self.fall_back(Some(module), addr, (None, &[]), switches),
            Step::Failed(end) => Err(end),
        }
    }

    fn step_by(&mut self, code: &dyn Code, at: CodeAt<'_>, index: u32) -> Step {
        let mut key = None;
        let mut memory = &mut *self.memory;
        let step = code.step(at, &self.registers, &mut memory, &mut key);
        self.keys.extend(key.map(|key| (index, key)));
        step
    }

    /// Leaves the current stack for another one. `false`: that one cannot be entered.
    fn enter(&mut self, registers: &Registers, stack: &NextStack) -> Result<bool, StackEnd> {
        let Some(sp) = registers.get(native::SP) else { return Ok(false) };
        match stack {
            NextStack::Task if self.in_task => return Ok(false),
            NextStack::Task => self.in_task = true,
            NextStack::Live(bounds) => {
                if !bounds.contains(&RuntimeAddr(sp))
                    || !self.memory.enter_stack(&(RuntimeAddr(sp)..bounds.end))
                {
                    return Ok(false);
                }
            }
        }
        let left_at = self.registers.get(native::SP).unwrap_or(self.segment_start);
        self.segments.push((self.segment_start, left_at));
        let again = self.segments.iter().any(|(start, end)| (*start..=*end).contains(&sp));
        self.segment_start = sp;
        if again || self.segments.len() > MAX_SWITCHES { Err(StackEnd::NotAdvancing) } else { Ok(true) }
    }

    /// The registers that the kernel stored above the stack pointer when it called a handler.
    fn signal_context(&mut self) -> Result<(), Failure> {
        let sp = self.registers.get(native::SP).ok_or(Failure::Unusable)?;
        let mut interrupted = Registers::default();
        for (register, offset) in native::SIGNAL_CONTEXT {
            interrupted.set(register, self.memory.read_u64(RuntimeAddr(sp.wrapping_add_signed(offset)))?);
        }
        self.registers = interrupted;
        Ok(())
    }
}
