//! Go stacks as the stacks of tasks and accounts: one frame per physical frame, its inlined
//! functions as lines.
//!
//! Not here: where the stacks come from.

use std::{rc::Rc, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    process::GoProcess,
    sites::{Site, Sites},
    walk::Frame,
};
use crate::{
    budget::{Exhausted, Resource},
    runtime::{CodeMapping, TaskFrame},
    symbolize::{SourceFrame, hex},
};

/// Memory of one frame with its lines, names and the caches for it.
const FRAME_MEMORY: u64 = 1024;

/// Turns the frames of one process into those of profiles.
pub struct GoStacks<'a> {
    process: &'a GoProcess,
    sites: Sites<'a>,
    /// The profile's frame of a frame; without the wrappers that its callee hides. The second part
    /// of the key: whether the callee shows them.
    known: FxHashMap<(Frame, bool), Option<TaskFrame>>,
    /// Why frames were dropped, if any were.
    pub limit: Option<Exhausted>,
}

impl<'a> GoStacks<'a> {
    /// Nothing is known yet.
    pub fn new(process: &'a GoProcess) -> GoStacks<'a> {
        GoStacks { process, sites: Sites::new(process), known: FxHashMap::default(), limit: None }
    }

    /// Whether the budget of the process allows this frame.
    fn is_affordable(&mut self, frame: Frame) -> bool {
        let is_known = |shown: bool| self.known.contains_key(&(frame, shown));
        if is_known(false) || is_known(true) {
            return true;
        }
        let taken = self.process.budget.take(Resource::Memory, FRAME_MEMORY);
        self.limit = self.limit.or(taken.err());
        taken.is_ok()
    }

    /// The frames of a stack, leaf first, as in Go's own profiles: without `runtime.goexit` and
    /// without compiler-generated wrappers.
    pub fn stack(&mut self, frames: &[Frame]) -> Vec<TaskFrame> {
        let mut stack = Vec::with_capacity(frames.len());
        let mut callee: Option<Rc<Site>> = None;
        for frame in frames {
            if !self.is_affordable(*frame) {
                continue;
            }
            let site = self.sites.at(*frame);
            let below = callee.as_ref().and_then(|site| site.functions.last());
            let below = below.map(|function| &*function.name);
            let shows_wrappers = below.is_some_and(super::sites::shows_wrappers);
            let known = self.known.entry((*frame, shows_wrappers));
            stack.extend(known.or_insert_with(|| task_frame(*frame, &site, below)).clone());
            callee = if site.functions.is_empty() { callee } else { Some(site) };
        }
        stack
    }

    /// The frames of return addresses as the runtime records them: an inlined function has an
    /// address of its own, before that of the function it is inlined into.
    pub fn returns(&mut self, addresses: &[u64]) -> Vec<TaskFrame> {
        let frames = self.sites.physical(addresses);
        self.stack(&frames)
    }

    /// As [`GoStacks::returns`], for an allocation: like Go, without the runtime's functions at the
    /// leaf, unless there are no others.
    pub fn allocation(&mut self, addresses: &[u64]) -> Vec<TaskFrame> {
        let mut frames = self.sites.physical(addresses);
        frames.retain(|frame| self.is_affordable(*frame));
        let inner = |name: &str| name.starts_with("runtime.") || name.starts_with("internal/runtime/");
        let of_runtime = |sites: &mut Sites<'_>, frame: &Frame| {
            let site = sites.at(*frame);
            site.functions.first().is_some_and(|function| inner(&function.name))
        };
        let first = frames.iter().position(|frame| !of_runtime(&mut self.sites, frame)).unwrap_or(0);
        self.stack(&frames[first..])
    }
}

/// `None`: all its functions are hidden. `below`: the function that it calls.
fn task_frame(frame: Frame, site: &Site, below: Option<&str>) -> Option<TaskFrame> {
    let mut lines = Vec::new();
    let mut callee = below;
    for function in &site.functions {
        if !function.is_left_out(callee) && &*function.name != "runtime.goexit" {
            lines.push(SourceFrame {
                function: function.name.to_string(),
                system_name: function.name.to_string(),
                file: Some(function.path.to_string()),
                line: function.line,
                column: 0,
                start_line: function.start_line,
                inlined: function.is_inlined,
            });
        }
        callee = Some(&function.name);
    }
    if lines.is_empty() && !site.functions.is_empty() {
        return None;
    }
    let address = site.functions.first().map_or(frame.pc, |function| function.pc);
    Some(TaskFrame { mapping: Some(site.file), address, lines: lines.into() })
}

/// A frame for something that is not code.
pub fn synthetic(name: &str) -> TaskFrame {
    let (function, system_name) = (name.to_owned(), name.to_owned());
    let line =
        SourceFrame { function, system_name, file: None, line: 0, column: 0, start_line: 0, inlined: false };
    TaskFrame { mapping: None, address: 1, lines: Arc::new([line]) }
}

/// The files of a process, which [`TaskFrame::mapping`] numbers.
pub fn mappings(process: &GoProcess) -> Vec<CodeMapping> {
    let mapping = |loaded: &super::loaded::Loaded| {
        let elf = loaded.tables.pclntab.elf();
        let code = elf.segments().iter().find(|segment| segment.executable);
        let (start, size, file_offset) = code.map_or((0, 0, 0), |segment| {
            (segment.address.0.wrapping_add(loaded.bias), segment.memory_size, segment.file_offset.0)
        });
        let build_id = hex(elf.build_id().unwrap_or_default());
        CodeMapping {
            start,
            limit: start.saturating_add(size),
            file_offset,
            path: loaded.path.clone(),
            build_id,
        }
    };
    process.files.iter().map(mapping).collect()
}
