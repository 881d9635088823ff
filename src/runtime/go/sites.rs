//! Symbolizes frames of goroutines: functions with files and lines. Each code address is looked up
//! once.
//!
//! Not here: which goroutine has which frames.

use std::rc::Rc;

use rustc_hash::FxHashMap;

use super::{
    pclntab::{FUNCDATA_ARG_INFO, FUNCDATA_ARG_LIVE, LogicalFrame, PCDATA_ARG_LIVE, printed_name},
    process::GoProcess,
    walk::{ARGS_MAX, Frame},
};
use crate::{
    addr::{ElfAddr, RuntimeAddr},
    budget::Resource,
};

/// The code at a frame's pc.
#[derive(Debug, Default)]
pub struct Site {
    /// The functions, the innermost inlined one first, the physical one last.
    pub functions: Vec<SiteFunction>,
    /// The offset of the pc from the function's entry.
    pub offset: u64,
    /// The function's arguments (`FUNCDATA_ArgInfo`); empty: unknown.
    pub arguments: Vec<u8>,
    /// Arguments at this offset and above have a bit in `live` (`FUNCDATA_ArgLiveInfo`); others are
    /// live.
    pub live_from: u8,
    /// A bit per argument: whether its value is live. A value that is not live may be stale.
    pub live: Vec<u8>,
    /// The file with the code, as an index into [`GoProcess::files`].
    pub file: usize,
    /// The address of the code in the file.
    pub address: u64,
}

/// A function at a site.
#[derive(Debug, Clone)]
pub struct SiteFunction {
    /// The linker's name.
    pub name: Box<str>,
    /// The name as Go prints it, without type arguments.
    pub printed: Box<str>,
    /// The source file.
    pub path: Box<str>,
    /// The current line.
    pub line: u32,
    /// The line of its declaration; 0: unknown.
    pub start_line: u32,
    /// Whether it is inlined into the next function.
    pub is_inlined: bool,
    /// Whether it is a compiler-generated wrapper.
    pub is_wrapper: bool,
    /// The run-time address of the current instruction.
    pub pc: u64,
    /// The offset of `pc` from the function's entry.
    pub offset: u64,
}

impl SiteFunction {
    /// Whether Go hides the function in stacks: a compiler-generated wrapper, unless it calls a
    /// function that shows them.
    pub fn is_left_out(&self, callee: Option<&str>) -> bool {
        self.is_wrapper && !callee.is_some_and(shows_wrappers)
    }
}

/// Whether Go shows the wrappers that call this function.
pub fn shows_wrappers(callee: &str) -> bool {
    ["runtime.gopanic", "runtime.sigpanic", "runtime.panicwrap"].contains(&callee)
}

/// Memory of one site with its names.
const SITE_MEMORY: u64 = 512;

/// Looks up sites.
#[derive(Debug)]
pub struct Sites<'a> {
    process: &'a GoProcess,
    known: FxHashMap<Frame, Rc<Site>>,
}

impl<'a> Sites<'a> {
    /// A lookup without cached sites.
    pub fn new(process: &'a GoProcess) -> Sites<'a> {
        Sites { process, known: FxHashMap::default() }
    }

    /// The code at a frame's pc; empty if it is not Go code.
    pub fn at(&mut self, frame: Frame) -> Rc<Site> {
        if let Some(known) = self.known.get(&frame) {
            return Rc::clone(known);
        }
        // Beyond the budget, addresses are treated as having no function.
        if self.process.budget.take(Resource::Memory, SITE_MEMORY).is_err() {
            return Rc::default();
        }
        let site = Rc::new(build_site(self.process, frame).unwrap_or_default());
        self.known.insert(frame, Rc::clone(&site));
        site
    }

    /// The physical frames of return addresses as the runtime records them. Addresses that only
    /// identify an inlined function are left out.
    pub fn physical(&mut self, addresses: &[u64]) -> Vec<Frame> {
        let mut frames = Vec::with_capacity(addresses.len());
        let mut rest = addresses;
        while let Some((&pc, later)) = rest.split_first() {
            let frame = Frame { pc, exact: false };
            frames.push(frame);
            let site = self.at(frame);
            let outer = || site.functions.iter().skip(1).map(|function| function.pc + 1);
            let inlined = later.iter().take_while(|address| outer().any(|pc| pc == **address)).count();
            rest = &later[inlined..];
        }
        frames
    }

    /// The functions of a stack that Go shows, leaf first.
    pub fn shown(&mut self, frames: &[Frame]) -> Vec<SiteFunction> {
        let mut shown = Vec::new();
        let mut callee: Option<Box<str>> = None;
        for frame in frames {
            for function in &self.at(*frame).functions {
                if !function.is_left_out(callee.as_deref()) {
                    shown.push(function.clone());
                }
                callee = Some(function.name.clone());
            }
        }
        shown
    }
}

fn build_site(process: &GoProcess, frame: Frame) -> Option<Site> {
    let (file, function, inside) = process.function_at(RuntimeAddr(frame.pc))?;
    let number = process.files.iter().position(|other| other.bias == file.bias && other.path == file.path)?;
    let table = &file.tables.pclntab;
    let is_call = !frame.exact && inside.0 > function.entry;
    let at = ElfAddr(if is_call { inside.0 - 1 } else { inside.0 });
    let to_function = |frame: LogicalFrame<'_>| SiteFunction {
        name: frame.name.into(),
        printed: printed_name(frame.name).into(),
        path: frame.file.into(),
        line: frame.line,
        start_line: frame.start_line,
        is_inlined: frame.is_inlined,
        is_wrapper: table.is_wrapper(frame.id),
        pc: frame.address.wrapping_add(file.bias),
        offset: frame.address.wrapping_sub(function.entry),
    };
    let info = table.funcdata(&function, FUNCDATA_ARG_INFO);
    let mut site = Site {
        functions: table.frames(&function, at).into_iter().map(to_function).collect(),
        offset: inside.0 - function.entry,
        arguments: info.map(|info| info[..info.len().min(ARGS_MAX)].to_vec()).unwrap_or_default(),
        live_from: u8::MAX,
        live: Vec::new(),
        file: number,
        address: at.0,
    };
    if let Some(live) = table.funcdata(&function, FUNCDATA_ARG_LIVE) {
        site.live_from = *live.first()?;
        let index = table.pcdata(&function, PCDATA_ARG_LIVE, at).unwrap_or(0);
        if let Some(bits) =
            usize::try_from(index).ok().filter(|index| *index > 0).and_then(|index| live.get(index..))
        {
            // One bit per slot, and a list of arguments has at most 256 bytes.
            site.live = bits[..bits.len().min(ARGS_MAX / 8)].to_vec();
        }
    }
    Some(site)
}
