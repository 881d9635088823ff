//! From a goroutine's saved registers and a copy of its stack to its frames, by Go's own tables: the same
//! walk that the runtime makes for a traceback (source: `src/runtime/traceback.go`).
//!
//! Not here: copying stacks, names.

use rustc_hash::FxHashMap;

use super::{
    pclntab::{FLAG_SP_WRITE, FLAG_TOP_FRAME, FUNCDATA_ARG_INFO},
    process::GoProcess,
};
use crate::{addr::RuntimeAddr, arch::native};

/// Deepest stack that is followed.
pub const MAX_FRAMES: usize = 1 << 20;

/// A physical frame: where it stands in the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame {
    pub pc: u64,
    /// The instruction at `pc` itself was being executed: it was interrupted, or is a function's first.
    /// Else `pc` is a return address.
    pub exact: bool,
}

/// A goroutine's stack, copied.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    pub start: u64,
    pub bytes: &'a [u8],
}

impl Copied<'_> {
    fn word(&self, address: u64) -> Option<u64> {
        let offset = usize::try_from(address.checked_sub(self.start)?).ok()?;
        Some(u64::from_le_bytes(*self.bytes.get(offset..)?.first_chunk::<8>()?))
    }
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// At the goroutine's first function.
    Whole,
    /// In a function that moves the stack pointer in ways that no table tells; Go's own traceback ends
    /// there too.
    Switch,
    /// At a return address that is no Go code (C below a callback).
    Foreign,
    /// The copy does not hold the next frame.
    Cut,
}

/// What is known of the code at one address, whoever stands there.
#[derive(Clone, Debug)]
struct Site {
    /// `None`: the table does not tell the frame's size.
    depth: Option<i64>,
    is_top: bool,
    moves_sp: bool,
    is_callback: bool,
    /// It was called by an interruption, not by its caller's own code.
    is_injected: bool,
    /// Slots of arguments to show: offset and size.
    arguments: Box<[(u8, u8)]>,
}

/// Walks stacks of one process; keeps what it has learnt of each address.
#[derive(Debug)]
pub struct Walker<'a> {
    process: &'a GoProcess,
    sites: FxHashMap<Frame, Option<Site>>,
}

impl<'a> Walker<'a> {
    pub fn new(process: &'a GoProcess) -> Walker<'a> {
        Walker { process, sites: FxHashMap::default() }
    }

    /// Adds the frames from `pc`, `sp` on, leaf first, and if asked the values of their arguments.
    /// `in_syscall`: they were saved at the entry of a system call.
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
            let shape = native::go_frame(depth);
            let caller_sp = sp.wrapping_add_signed(shape.caller_sp);
            if let Some(values) = arguments.as_deref_mut() {
                let base = caller_sp.wrapping_add(native::GO_ARGUMENTS_ABOVE);
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
        self.sites.entry(frame).or_insert_with(|| make_site(process, frame)).as_ref()
    }
}

fn argument(stack: &Copied<'_>, base: u64, (offset, size): (u8, u8)) -> u64 {
    let value = stack.word(base.wrapping_add(offset.into())).unwrap_or(0);
    if size < 8 { value & ((1 << (u32::from(size) * 8)) - 1) } else { value }
}

fn make_site(process: &GoProcess, frame: Frame) -> Option<Site> {
    let (file, function, inside) = process.function_at(RuntimeAddr(frame.pc))?;
    let table = &file.tables.pclntab;
    let name = table.name(&function);
    // The runtime takes the depth at the return address itself.
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

/// `FUNCDATA_ArgInfo`: a list of operations (source: `abi.TraceArgs…` in `src/internal/abi/symtab.go`).
pub const ARGS_END: u8 = 0xff;
pub const ARGS_OPEN: u8 = 0xfe;
pub const ARGS_CLOSE: u8 = 0xfd;
pub const ARGS_MORE: u8 = 0xfc;
pub const ARGS_TOO_FAR: u8 = 0xfb;
/// Most bytes of such a list.
pub const ARGS_MOST: usize = 256;

fn argument_slots(info: &[u8]) -> Box<[(u8, u8)]> {
    let mut slots = Vec::new();
    let mut rest = info.iter().take(ARGS_MOST);
    while let Some(&operation) = rest.next() {
        match operation {
            ARGS_END => break,
            ARGS_OPEN | ARGS_CLOSE | ARGS_MORE | ARGS_TOO_FAR => {}
            offset => slots.extend(rest.next().map(|size| (offset, *size))),
        }
    }
    slots.into()
}
