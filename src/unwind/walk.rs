//! Walks from a thread's registers to its outermost frame.
//!
//! Not here: how one step is made (rules, fallbacks).

use gimli::UnwindContext;

use super::{
    Frame, MAX_FRAMES, Module, Modules, StackEnd, StackMemory, UnwindMethod, UnwindTables,
    cache::{Key, RuleCache},
    fallback::{FrameWithoutCfi, shape_at},
    rule::{Failure, Rule},
    runtime::{self, RuntimeFrame},
};
use crate::{
    addr::{FrameAddr, RuntimeAddr},
    arch::{Registers, native},
};

/// Most nested signal handlers in one stack: more is a loop.
const MAX_SIGNAL_FRAMES: u32 = 64;

/// Scanning is slow and unreliable: a stack that needs it more often than this ends.
const MAX_SCANS: u32 = 64;

/// Unwinds stacks of any number of processes and caches the rules it has met (256 KiB of slots,
/// plus the rules).
pub struct Unwinder {
    cache: RuleCache,
    context: UnwindContext<usize>,
    /// Index of the module found last.
    last_module: usize,
}

impl Default for Unwinder {
    fn default() -> Self {
        Unwinder::new()
    }
}

impl Unwinder {
    /// An unwinder with an empty cache.
    pub fn new() -> Unwinder {
        Unwinder { cache: RuleCache::new(), context: UnwindContext::new(), last_module: 0 }
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
        let mut walk = Walk {
            modules,
            registers: *registers,
            memory,
            next: LEAF,
            signal_frames: 0,
            scans: 0,
            switched: false,
        };
        loop {
            if let Err(end) = self.step(&mut walk, frames) {
                return end;
            }
        }
    }

    /// Adds the frame that the registers describe and continues with its caller.
    #[inline]
    fn step<M: StackMemory + ?Sized>(
        &mut self,
        walk: &mut Walk<'_, M>,
        frames: &mut Vec<Frame>,
    ) -> Result<(), StackEnd> {
        let pc = walk.registers.get(native::PC).map(RuntimeAddr).ok_or(StackEnd::UnusableRule)?;
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
            frames.push(Frame { addr, module: module.map(|module| module.id), how: UnwindMethod::Leaf });
            return Err(StackEnd::Root);
        }
        let rule = self.rule(module, addr);
        if rule.is_signal_frame() {
            // A handler "returns" to the trampoline, which was never left by a call.
            addr = FrameAddr::Pc(pc);
        }
        frames.push(Frame { addr, module: module.map(|module| module.id), how: walk.next.how });
        if let Rule::Fast(fast) = rule {
            let applied = fast.apply(&mut walk.registers, walk.memory, walk.next.exact);
            walk.next = CALLED;
            return applied.map_err(|failure| failure.end(walk.signal_frames > 0));
        }
        walk.step_rarely(rule, module, addr)
    }

    #[inline]
    fn rule(&mut self, module: Option<&Module>, addr: FrameAddr) -> &Rule {
        let Some((module, tables)) = module.and_then(|module| Some((module, module.tables.as_deref()?)))
        else {
            return &Rule::Missing;
        };
        let elf_addr = module.elf_addr(addr.lookup());
        let exact = matches!(addr, FrameAddr::Pc(_));
        let context = &mut self.context;
        self.cache.get(Key { tables: tables.id(), elf_addr: elf_addr.0, exact }, || {
            find_rule(module, tables, addr, context)
        })
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
    if tables.is_go() && !at_sigreturn {
        let at_goexit = module.code_from(addr.lookup()).is_some_and(native::is_goexit);
        let elf_addr = module.elf_addr(addr.lookup());
        if at_goexit || tables.is_root_function(elf_addr) {
            return Rule::Root;
        }
        if tables.is_stack_switch(elf_addr) {
            return Rule::StackSwitch;
        }
        match tables.runtime_frame(elf_addr) {
            RuntimeFrame::Depth(depth) => return Rule::Runtime(depth),
            RuntimeFrame::NotMine | RuntimeFrame::Unknown => {}
        }
    }
    let rule = tables.rule_at(module.elf_addr(addr.lookup()), context);
    // The byte before a trampoline may belong to another function: only a rule that is marked as a
    // signal frame's can be the trampoline's own.
    match rule {
        rule if rule.is_signal_frame() => rule,
        _ if at_sigreturn => Rule::SignalContext,
        Rule::Missing if !tables.is_go() => {
            shape_at(module, addr).map_or(Rule::Missing, |s| Rule::Code(Box::new(s)))
        }
        rule => rule,
    }
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
    /// The walk has left the thread's own stack for the task's.
    switched: bool,
}

impl<M: StackMemory + ?Sized> Walk<'_, M> {
    /// Makes a step by anything except a [`Rule::Fast`].
    fn step_rarely(&mut self, rule: &Rule, module: Option<&Module>, addr: FrameAddr) -> Result<(), StackEnd> {
        let exact = self.next.exact;
        let applied = match rule {
            Rule::Fast(fast) => fast.apply(&mut self.registers, self.memory, exact),
            Rule::Full(full) => full.apply(&mut self.registers, self.memory, exact),
            Rule::SignalContext => self.signal_context(),
            Rule::Runtime(depth) => {
                runtime::step(*depth, &mut self.registers, self.memory)
                    .map_err(|failure| failure.end(self.signal_frames > 0))?;
                self.next = Next { how: UnwindMethod::Runtime, exact: false };
                return Ok(());
            }
            Rule::Root => Err(Failure::Root),
            Rule::Unusable => Err(Failure::Unusable),
            Rule::StackSwitch if self.switch_to_task() => return Ok(()),
            Rule::Missing | Rule::StackSwitch | Rule::Code(_) => {
                let shape = if let Rule::Code(shape) = rule { Some(shape.as_ref()) } else { None };
                let (modules, registers) = (self.modules, &mut self.registers);
                let memory = &mut *self.memory;
                let may_scan = self.scans < MAX_SCANS;
                let how =
                    FrameWithoutCfi { modules, module, addr, shape, may_scan, registers, memory }.step()?;
                self.scans += u32::from(how == UnwindMethod::Scan);
                self.next = Next { how, exact: false };
                return Ok(());
            }
        };
        applied.map_err(|failure| failure.end(self.signal_frames > 0))?;
        self.next = CALLED;
        if rule.is_signal_frame() {
            self.signal_frames += 1;
            self.next = Next { how: UnwindMethod::SignalContext, exact: true };
        }
        if self.signal_frames > MAX_SIGNAL_FRAMES { Err(StackEnd::NotAdvancing) } else { Ok(()) }
    }

    /// Continues at the point where the task left its stack, if that is known.
    fn switch_to_task(&mut self) -> bool {
        let Some(left) = self.memory.task_registers().filter(|_| !self.switched) else { return false };
        self.switched = true;
        self.registers = *left;
        self.next = Next { how: UnwindMethod::Runtime, exact: true };
        self.skip_resting_place();
        true
    }

    /// Go records a function that is never run as the place where a goroutine left its stack.
    fn skip_resting_place(&mut self) {
        let Some(pc) = self.registers.get(native::PC).map(RuntimeAddr) else { return };
        let Some(module) = self.modules.find(pc) else { return };
        let Some(tables) = module.tables.as_deref() else { return };
        let at = module.elf_addr(pc);
        if let RuntimeFrame::Depth(depth) = tables.runtime_frame(at)
            && tables.is_resting_place(at)
            && runtime::step(depth, &mut self.registers, self.memory).is_ok()
        {
            self.next.exact = false;
        }
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
