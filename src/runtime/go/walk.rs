//! Unwinds a goroutine's stack from its saved registers and a copy of the stack, with Go's own
//! tables, as the runtime does for a traceback (source: `src/runtime/traceback.go`).
//!
//! Not here: copying stacks, names.

use rustc_hash::FxHashMap;

use super::{
    cpu::CPU,
    pclntab::{FLAG_SP_WRITE, FLAG_TOP_FRAME, FUNCDATA_ARG_INFO},
    process::GoProcess,
};
use crate::{addr::RuntimeAddr, arch::native};

/// Limit of the frames of a stack.
pub const MAX_FRAMES: usize = 1 << 20;

/// A physical frame: its place in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame {
    /// A code address.
    pub pc: u64,
    /// Whether `pc` is the current instruction (of an interrupted or new function). Else `pc` is a
    /// return address.
    pub exact: bool,
}

/// A copy of a goroutine's stack.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    /// The address of the first byte.
    pub start: u64,
    /// The copied memory.
    pub bytes: &'a [u8],
}

impl Copied<'_> {
    fn word(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.start)?).ok()?;
        Some(u64::from_le_bytes(*self.bytes.get(offset..)?.first_chunk::<8>()?))
    }
}

/// Where a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// At the goroutine's first function.
    Whole,
    /// In a function that sets the stack pointer itself, where Go's own traceback ends too.
    Switch,
    /// At a return address that is not Go code (C code below a callback).
    Foreign,
    /// At the end of the copy.
    Cut,
}

/// Facts about the code at one address.
#[derive(Clone, Debug)]
struct Site {
    /// The frame's size; `None`: the table does not have it.
    depth: Option<i64>,
    is_top: bool,
    moves_sp: bool,
    is_callback: bool,
    /// Whether it was injected into the stack by a signal, not called by its caller's code.
    is_injected: bool,
    /// The argument slots to show: offset and size.
    arguments: Box<[(u8, u8)]>,
}

/// Unwinds the stacks of one process, with a cache of code addresses.
#[derive(Debug)]
pub struct Walker<'a> {
    process: &'a GoProcess,
    sites: FxHashMap<Frame, Option<Site>>,
}

impl<'a> Walker<'a> {
    /// An unwinder with an empty cache.
    pub fn new(process: &'a GoProcess) -> Walker<'a> {
        Walker { process, sites: FxHashMap::default() }
    }

    /// Appends the frames from `pc`, `sp` on, leaf first, and if requested the values of their
    /// arguments. `in_syscall`: the registers were saved at the entry of a system call.
    pub fn walk(
        &mut self,
        (pc, sp): (u64, u64),
        in_syscall: bool,
        is_exact: bool,
        stack: Copied<'_>,
        frames: &mut Vec<Frame>,
        mut arguments: Option<&mut Vec<u64>>,
    ) -> End {
        let (mut pc, mut sp) = (pc, sp);
        if pc == 0 {
            // A call of a nil function.
            let Some(caller) = stack.word(sp) else { return End::Cut };
            (pc, sp) = (caller, sp.wrapping_add(8));
        }
        let mut exact = is_exact;
        let mut innermost = true;
        while frames.len() < MAX_FRAMES {
            let frame = Frame { pc, exact };
            let Some(site) = self.site(frame) else { return End::Foreign };
            frames.push(frame);
            let Some(depth) = site.depth else { return End::Switch };
            let shape = (CPU.frame)(depth);
            let caller_sp = sp.wrapping_add_signed(shape.caller_sp);
            if let Some(values) = arguments.as_deref_mut() {
                let base = caller_sp.wrapping_add(CPU.arguments_above);
                values.extend(site.arguments.iter().map(|slot| argument(&stack, base, *slot)));
            }
            if site.is_top {
                return End::Whole;
            }
            let tolerated = site.is_callback || (innermost && in_syscall);
            if site.moves_sp && !tolerated {
                return End::Switch;
            }
            exact = site.is_injected;
            let Some(caller) = shape.return_at.and_then(|at| stack.word(sp.wrapping_add_signed(at))) else {
                return End::Cut;
            };
            if caller == 0 || caller_sp <= sp && !innermost {
                return End::Switch;
            }
            (pc, sp, innermost) = (native::strip_pointer_authentication(caller), caller_sp, false);
        }
        End::Cut
    }

    fn site(&mut self, frame: Frame) -> Option<&Site> {
        let process = self.process;
        self.sites.entry(frame).or_insert_with(|| build_site(process, frame)).as_ref()
    }
}

fn argument(stack: &Copied<'_>, base: u64, (offset, size): (u8, u8)) -> u64 {
    let value = stack.word(base.wrapping_add(offset.into())).unwrap_or(0);
    if size < 8 { value & ((1 << (u32::from(size) * 8)) - 1) } else { value }
}

fn build_site(process: &GoProcess, frame: Frame) -> Option<Site> {
    let (file, function, inside) = process.function_at(RuntimeAddr(frame.pc))?;
    let table = &file.tables.pclntab;
    let name = table.name(&function);
    // The runtime uses the depth at the return address itself.
    let depth = table.stack_depth(&function, inside).map(i64::from).filter(|depth| *depth >= 0);
    let arguments = table.funcdata(&function, FUNCDATA_ARG_INFO).map(argument_slots).unwrap_or_default();
    Some(Site {
        depth,
        is_top: function.flags & FLAG_TOP_FRAME != 0,
        moves_sp: function.flags & FLAG_SP_WRITE != 0,
        is_callback: name == "runtime.cgocallback",
        is_injected: matches!(
            name,
            "runtime.asyncPreempt" | "runtime.sigpanic" | "runtime.debugCallV1" | "runtime.debugCallV2"
        ),
        arguments,
    })
}

/// `FUNCDATA_ArgInfo` is a list of operations (source: `abi.TraceArgs…` in
/// `src/internal/abi/symtab.go`): the list ends (`TraceArgsEndSeq`).
pub const ARGS_END: u8 = 0xff;
/// An aggregate begins (`TraceArgsStartAgg`).
pub const ARGS_OPEN: u8 = 0xfe;
/// An aggregate ends (`TraceArgsEndAgg`).
pub const ARGS_CLOSE: u8 = 0xfd;
/// More arguments are not listed (`TraceArgsDotdotdot`).
pub const ARGS_MORE: u8 = 0xfc;
/// The offset of an argument is too large to be listed (`TraceArgsOffsetTooLarge`).
pub const ARGS_TOO_FAR: u8 = 0xfb;
/// The longest list, in bytes.
pub const ARGS_MAX: usize = 256;

fn argument_slots(info: &[u8]) -> Box<[(u8, u8)]> {
    let mut slots = Vec::new();
    let mut rest = info.iter().take(ARGS_MAX);
    while let Some(&operation) = rest.next() {
        match operation {
            ARGS_END => break,
            ARGS_OPEN | ARGS_CLOSE | ARGS_MORE | ARGS_TOO_FAR => {}
            offset => slots.extend(rest.next().map(|size| (offset, *size))),
        }
    }
    slots.into()
}
