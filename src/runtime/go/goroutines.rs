//! Reads all goroutines of a process while it runs.
//!
//! For each goroutine, its `g` is read, then its stack, then its `g` again. The stack is consistent
//! only if the relevant fields of `g`, including the counter of its switches, are the same both
//! times. Else the goroutine is read again, and after some attempts it is counted as unstable and
//! shown without a stack.
//!
//! ```text
//! what may happen meanwhile                  how it is detected
//! the table of goroutines is reallocated     the table's address has changed
//! it runs, its stack moves, it ends          status, sp, pc, stack bounds, goid have changed
//! it ran and waits at the same place again   trackingSeq has changed
//! ```
//! Not here: text, profiles, the stacks of running goroutines (only the kernel has their registers:
//! see [`Goroutines::running`]).

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    GoError,
    globals::MAX_GOROUTINES,
    labels::LabelReader,
    layouts::{G_M, G_SCHED_PC, G_SCHED_SP, Layout},
    process::GoProcess,
    walk::{Copied, End, Frame, Walker},
};
use crate::{
    addr::RuntimeAddr,
    budget::{Budget, Exhausted, Resource},
};

/// How many are read at once.
const CHUNK: usize = 512;
/// How many times one goroutine is read before it counts as unstable.
const TRIES: usize = 6;
/// `g` structures closer than this are read together, in bytes.
const NEAR: u64 = 2048;
/// The most stack that is read of one goroutine, in bytes.
const MAX_STACK: u64 = 64 << 20;
/// The most stack that is read of a chunk at once, in bytes.
const MAX_CHUNK_STACK: usize = 64 << 20;

/// State of `g.atomicstatus` (as the following ones; source: `src/runtime/runtime2.go`): `_Gidle`.
pub const IDLE: u32 = 0;
/// `_Grunnable`.
pub const RUNNABLE: u32 = 1;
/// `_Grunning`.
pub const RUNNING: u32 = 2;
/// `_Gsyscall`.
pub const SYSCALL: u32 = 3;
/// `_Gwaiting`.
pub const WAITING: u32 = 4;
/// `_Gdead`.
pub const DEAD: u32 = 6;
/// `_Gcopystack`.
pub const COPYING: u32 = 8;
/// `_Gleaked`.
pub const LEAKED: u32 = 10;
/// `_Gdeadextra`.
pub const DEAD_EXTRA: u32 = 11;
/// `_Gscan`, a bit: the garbage collector scans its stack.
pub const SCAN: u32 = 0x1000;

/// Index of a stack in [`Goroutines::stacks`].
pub type StackId = u32;

/// A goroutine at the time it was read.
#[derive(Clone, Debug)]
pub struct Goroutine {
    /// `goid`.
    pub id: u64,
    /// Its state, without [`SCAN`].
    pub status: u32,
    /// Whether the garbage collector scans its stack.
    pub is_scanned: bool,
    /// Why it waits: an index into `waitReasonStrings`.
    pub wait_reason: u8,
    /// Since when it waits, CLOCK_MONOTONIC in nanoseconds; 0: unknown (only a garbage collection
    /// sets it).
    pub wait_since: u64,
    /// Whether it is locked to its thread.
    pub is_locked: bool,
    /// The `goid` of its creator; 0: unknown.
    pub parent: u64,
    /// The return address in the function that created it.
    pub created_at: u64,
    /// The address of its first function.
    pub start: u64,
    /// Its pprof labels, sorted by key.
    pub labels: Option<Arc<Vec<(String, String)>>>,
    /// The number of its synctest bubble.
    pub bubble: Option<u64>,
    /// Whether it belongs to the runtime.
    pub is_system: bool,
    /// Its stack; `None`: it is running, or could not be read consistently.
    pub stack: Option<StackId>,
    /// The values of arguments, frame by frame, where requested.
    pub arguments: Box<[u64]>,
    /// The address of its `g`.
    pub address: u64,
    /// The bounds of its stack: start and exclusive end.
    pub stack_bounds: (u64, u64),
    /// The address of the `m` that runs it; 0: none.
    pub thread: u64,
}

/// All goroutines of a process.
#[derive(Debug, Default)]
pub struct Goroutines {
    /// The goroutines, in the order of the runtime's table.
    pub all: Vec<Goroutine>,
    /// The distinct stacks, leaf first, indexed by [`StackId`].
    pub stacks: Vec<(Box<[Frame]>, End)>,
    /// How many reads were repeated because a goroutine changed meanwhile.
    pub read_again: u64,
    /// How many goroutines could not be read consistently.
    pub unstable: u64,
    /// Bytes read from the process.
    pub bytes: u64,
    /// Why further goroutines were not read, if so.
    pub limit: Option<Exhausted>,
    numbers: FxHashMap<(Box<[Frame]>, End), StackId>,
}

/// Options of reading goroutines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoroutineOptions {
    /// Also read the values of arguments, for Go's own text form.
    pub arguments: bool,
}

impl GoProcess {
    /// Reads all goroutines. Errors: the process has ended, or its memory cannot be read.
    pub fn goroutines(&self, options: GoroutineOptions) -> Result<Goroutines, GoError> {
        let table = self.goroutine_table()?;
        let mut reading = Reading {
            process: self,
            layout: &self.layout,
            options,
            walker: Walker::new(self),
            labels: LabelReader::default(),
            found: Goroutines::default(),
            frames: Vec::new(),
            arguments: Vec::new(),
            buffers: Default::default(),
        };
        for chunk in table.chunks(CHUNK) {
            if self.budget.is_ending() {
                reading.found.limit = Some(Exhausted::Stopped);
                break;
            }
            reading.chunk(chunk);
            if reading.found.limit.is_some() {
                break;
            }
        }
        let finalizers_run = self.finalizers_run();
        let mut found = reading.found;
        let system = SystemGoroutines::of(self, finalizers_run);
        for goroutine in &mut found.all {
            goroutine.is_system = goroutine.is_system && system.is_system(goroutine.start);
        }
        Ok(found)
    }

    /// The addresses of the structures of all goroutines, ended ones included. Errors: they cannot
    /// be read, or do not make sense.
    pub fn goroutine_table(&self) -> Result<Vec<u64>, GoError> {
        let unusable = |why| GoError::Variable { what: "table of goroutines", why };
        for _ in 0..TRIES {
            let count = self.memory.read_word(self.globals.all_g_count).ok_or(GoError::Memory(self.pid))?;
            let start = self.memory.read_word(self.globals.all_g_table);
            let length = count.min(MAX_GOROUTINES) * 8;
            let _share = (self.budget.reserve(Resource::Memory, 3 * length))
                .map_err(|_| unusable("it is larger than the limit"))?;
            let mut bytes = vec![0; length as usize];
            let read = start.is_some_and(|start| self.memory.read_exact(RuntimeAddr(start), &mut bytes));
            if read && self.memory.read_word(self.globals.all_g_table) == start {
                let table: Vec<u64> =
                    bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect();
                if has_duplicates(table.clone()) {
                    return Err(unusable("it lists a goroutine twice"));
                }
                return Ok(table);
            }
        }
        Err(unusable("it moved while it was read"))
    }

    fn finalizers_run(&self) -> bool {
        /// `fingRunningFinalizer`.
        const RUNNING_FINALIZER: u32 = 2;
        let Some((at, size)) = self.globals.finalizer_state else { return false };
        let value = self.memory.read_u32(at).unwrap_or(0);
        if size == 1 { value & 0xff != 0 } else { value & RUNNING_FINALIZER != 0 }
    }
}

fn has_duplicates(mut table: Vec<u64>) -> bool {
    table.sort_unstable();
    table.windows(2).any(|pair| pair[0] == pair[1])
}

/// Go's rule for system goroutines: those whose first function is in the runtime, with exceptions.
struct SystemGoroutines<'a> {
    process: &'a GoProcess,
    finalizers_run: bool,
    known: std::cell::RefCell<FxHashMap<u64, bool>>,
}

impl<'a> SystemGoroutines<'a> {
    fn of(process: &'a GoProcess, finalizers_run: bool) -> SystemGoroutines<'a> {
        SystemGoroutines { process, finalizers_run, known: Default::default() }
    }

    fn is_system(&self, start: u64) -> bool {
        *self.known.borrow_mut().entry(start).or_insert_with(|| {
            match self.process.name_at(RuntimeAddr(start)) {
                Some("runtime.main" | "runtime.corostart" | "runtime.handleAsyncEvent") => false,
                Some("runtime.runfinq" | "runtime.runFinalizers") => !self.finalizers_run,
                Some(name) => name.starts_with("runtime."),
                None => false,
            }
        })
    }
}

/// The fields of a `g`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Header {
    address: u64,
    stack: (u64, u64),
    sched: (u64, u64),
    syscall: (u64, u64),
    status: u32,
    id: u64,
    wait_reason: u8,
    tracking: u8,
    wait_since: u64,
    locked: u64,
    parent: u64,
    created_at: u64,
    start: u64,
    labels: u64,
    bubble: u64,
    runs_cleanups: bool,
    thread: u64,
}

impl Header {
    fn parse(address: u64, bytes: &[u8], layout: &Layout) -> Option<Header> {
        let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk::<8>()?));
        let optional = |at: usize| if at == 0 { Some(0) } else { word(at) };
        Some(Header {
            address,
            stack: (word(0)?, word(8)?),
            sched: (word(G_SCHED_PC)?, word(G_SCHED_SP)?),
            syscall: (word(layout.syscallpc)?, word(layout.syscallsp)?),
            status: word(layout.atomicstatus)? as u32,
            id: word(layout.goid)?,
            wait_reason: *bytes.get(layout.waitreason)?,
            tracking: *bytes.get(layout.tracking_seq)?,
            wait_since: word(layout.waitsince)?,
            locked: word(layout.lockedm)?,
            parent: optional(layout.parent_goid)?,
            created_at: word(layout.gopc)?,
            start: word(layout.startpc)?,
            labels: word(layout.labels)?,
            bubble: optional(layout.bubble)?,
            runs_cleanups: layout.running_cleanups != 0 && *bytes.get(layout.running_cleanups)? != 0,
            thread: word(G_M)?,
        })
    }

    /// Its status without [`SCAN`].
    fn state(&self) -> u32 {
        self.status & !SCAN
    }

    /// Whether it is a goroutine, not an unused `g`.
    fn exists(&self) -> bool {
        self.id != 0 && !matches!(self.state(), IDLE | DEAD | DEAD_EXTRA)
    }

    fn runs(&self) -> bool {
        self.state() == RUNNING && self.syscall.1 == 0
    }

    /// The pc and sp of its leaf, and whether a system call saved them.
    fn top(&self) -> ((u64, u64), bool) {
        if self.syscall.1 != 0 { (self.syscall, true) } else { (self.sched, false) }
    }

    /// The used part of its stack: start and length.
    fn used_stack(&self) -> Option<(RuntimeAddr, usize)> {
        let ((_, sp), _) = self.top();
        let (low, high) = self.stack;
        let fits = low <= sp && sp < high && self.state() != COPYING;
        fits.then(|| (RuntimeAddr(sp), (high - sp).min(MAX_STACK) as usize))
    }

    /// Whether nothing that changes the stack happened between two reads.
    fn is_same(&self, later: &Header) -> bool {
        let parts = |header: &Header| {
            let top = (header.sched, header.syscall, header.stack);
            (header.state(), header.id, top, header.wait_reason, header.tracking)
        };
        parts(self) == parts(later)
    }
}

#[derive(Default)]
struct Buffers {
    headers: Vec<u8>,
    stacks: Vec<u8>,
    ranges: Vec<(RuntimeAddr, usize)>,
}

struct Reading<'a> {
    process: &'a GoProcess,
    layout: &'a Layout,
    options: GoroutineOptions,
    walker: Walker<'a>,
    labels: LabelReader,
    found: Goroutines,
    frames: Vec<Frame>,
    arguments: Vec<u64>,
    buffers: Buffers,
}

impl Reading<'_> {
    fn chunk(&mut self, addresses: &[u64]) {
        let first: Vec<Option<Header>> = self.headers(addresses);
        let mut rest: &[Option<Header>] = &first;
        let base = self.found.all.len();
        while !rest.is_empty() {
            let mut bytes = 0;
            let stack_of = |header: &Option<Header>| {
                header.as_ref().filter(|header| header.exists()).and_then(Header::used_stack)
            };
            let mut fits = |header: &Option<Header>| {
                bytes += stack_of(header).map_or(0, |(_, length)| length);
                bytes <= MAX_CHUNK_STACK
            };
            let count = rest.iter().take_while(|header| fits(header)).count().max(1);
            let (now, later) = rest.split_at(count);
            self.read_stacks(now);
            rest = later;
        }
        debug_assert!(self.found.all.len() <= base + addresses.len());
    }

    /// Reads the stacks of several goroutines and keeps those that did not change.
    fn read_stacks(&mut self, first: &[Option<Header>]) {
        let existing: Vec<&Header> = first.iter().flatten().filter(|header| header.exists()).collect();
        let with_stack: Vec<&Header> = existing
            .iter()
            .copied()
            .filter(|header| !header.runs() && header.used_stack().is_some())
            .collect();
        let mut stacks = std::mem::take(&mut self.buffers.stacks);
        let ranges: Vec<(RuntimeAddr, usize)> =
            with_stack.iter().filter_map(|header| header.used_stack()).collect();
        let total = ranges.iter().map(|(_, length)| length).sum();
        stacks.resize(total, 0);
        let mut there = self.process.memory.read_ranges(&ranges, &mut stacks);
        self.found.bytes += total as u64;
        if there < ranges.len() {
            there = 0;
        }
        let addresses: Vec<u64> = existing.iter().map(|header| header.address).collect();
        let again = self.headers(&addresses);
        let (mut at, mut number) = (0, 0);
        for (before, after) in existing.iter().zip(again) {
            let length = before.used_stack().filter(|_| !before.runs()).map(|(_, length)| length);
            let piece = length.map(|length| {
                let piece = at..at + length;
                (at, number) = (at + length, number + 1);
                piece
            });
            let stable = after.as_ref().is_some_and(|after| before.is_same(after));
            match piece {
                Some(piece) if stable && number <= there => self.keep(before, Some(&stacks[piece])),
                None if stable && before.runs() => self.keep(before, None),
                _ => self.read_alone(before.address),
            }
        }
        self.buffers.stacks = stacks;
    }

    /// Reads one goroutine repeatedly until it does not change meanwhile.
    fn read_alone(&mut self, address: u64) {
        let mut last = None;
        let mut stack = Vec::new();
        for _ in 0..TRIES {
            self.found.read_again += 1;
            let Some(before) = self.header(address) else { return };
            if !before.exists() {
                return;
            }
            if before.runs() {
                self.keep(&before, None);
                return;
            }
            let read = before.used_stack().is_some_and(|(start, length)| {
                stack.resize(length, 0);
                self.process.memory.read_exact(start, &mut stack)
            });
            let after = self.header(address);
            if read && after.is_some_and(|after| before.is_same(&after)) {
                self.keep(&before, Some(&stack));
                return;
            }
            last = Some(before);
        }
        if let Some(header) = last {
            self.found.unstable += 1;
            self.keep(&header, None);
        }
    }

    fn keep(&mut self, header: &Header, stack: Option<&[u8]>) {
        self.frames.clear();
        self.arguments.clear();
        let stack = stack.map(|bytes| {
            let ((pc, sp), in_syscall) = header.top();
            let copied = Copied { start: sp, bytes };
            let is_entry = pc == header.start;
            let arguments = self.options.arguments.then_some(&mut self.arguments);
            let end = self.walker.walk((pc, sp), in_syscall, is_entry, copied, &mut self.frames, arguments);
            self.found.number(&self.frames, end, &self.process.budget)
        });
        let words = self.arguments.len() * 8;
        if let Err(why) = self.process.budget.take(Resource::Memory, (size_of::<Goroutine>() + words) as u64)
        {
            self.found.limit = Some(why);
            return;
        }
        let labels = self.labels.read(self.process, header.labels);
        let bubble = (header.bubble != 0).then(|| self.bubble_id(header.bubble)).flatten();
        self.found.all.push(Goroutine {
            id: header.id,
            status: header.state(),
            is_scanned: header.status & SCAN != 0,
            wait_reason: header.wait_reason,
            wait_since: header.wait_since,
            is_locked: header.locked != 0,
            parent: header.parent,
            created_at: header.created_at,
            start: header.start,
            labels,
            bubble,
            // Decided when all are read; a goroutine that runs cleanups belongs to the program.
            is_system: !header.runs_cleanups,
            stack: stack.flatten(),
            arguments: self.arguments.as_slice().into(),
            address: header.address,
            stack_bounds: header.stack,
            thread: header.thread,
        });
    }

    /// `synctestBubble.id`; before Go 1.25, the `goid` of the group's first goroutine.
    fn bubble_id(&self, at: u64) -> Option<u64> {
        const BUBBLE_ID: i64 = 72;
        const GROUP_ROOT: i64 = 88;
        let memory = &self.process.memory;
        if self.layout.minor >= 25 {
            return memory.read_word(RuntimeAddr(at).offset(BUBBLE_ID));
        }
        let root = memory.read_word(RuntimeAddr(at).offset(GROUP_ROOT))?;
        memory.read_word(RuntimeAddr(root).offset(self.layout.goid as i64))
    }

    fn header(&self, address: u64) -> Option<Header> {
        let mut bytes = [0; 512];
        let bytes = bytes.get_mut(..self.layout.g_bytes())?;
        let there = self.process.memory.read_exact(RuntimeAddr(address), bytes);
        there.then(|| Header::parse(address, bytes, self.layout)).flatten()
    }

    /// Reads several `g`, adjacent ones together.
    fn headers(&mut self, addresses: &[u64]) -> Vec<Option<Header>> {
        let size = self.layout.g_bytes();
        let mut order: Vec<usize> = (0..addresses.len()).collect();
        order.sort_unstable_by_key(|index| addresses[*index]);
        let Buffers { headers: buffer, ranges, .. } = &mut self.buffers;
        ranges.clear();
        let mut places = vec![0; addresses.len()];
        let mut total = 0usize;
        for index in order {
            let address = addresses[index];
            match ranges.last_mut() {
                Some((start, length))
                    if address.saturating_sub(start.0.saturating_add(*length as u64)) <= NEAR =>
                {
                    let inside = (address - start.0) as usize;
                    places[index] = total - *length + inside;
                    total += (inside + size).saturating_sub(*length);
                    *length = (*length).max(inside + size);
                }
                _ => {
                    places[index] = total;
                    ranges.push((RuntimeAddr(address), size));
                    total += size;
                }
            }
        }
        buffer.resize(total, 0);
        let whole = self.process.memory.read_ranges(ranges, buffer) == ranges.len();
        self.found.bytes += total as u64;
        if !whole {
            return addresses.iter().map(|address| self.header(*address)).collect();
        }
        let parse = |(address, place): (&u64, usize)| Header::parse(*address, &buffer[place..], self.layout);
        addresses.iter().zip(places).map(parse).collect()
    }
}

impl Goroutines {
    /// The index of a stack; a new stack is added. `None` once the budget is exhausted.
    fn number(&mut self, frames: &[Frame], end: End, budget: &Budget) -> Option<StackId> {
        // One allocation per goroutine; equal stacks share one.
        let key: (Box<[Frame]>, End) = (frames.into(), end);
        if let Some(known) = self.numbers.get(&key) {
            return Some(*known);
        }
        // The stack is kept as key and as value.
        if let Err(why) = budget.take(Resource::Memory, 2 * size_of_val(frames) as u64 + 64) {
            self.limit = Some(why);
            return None;
        }
        let next = self.stacks.len() as StackId;
        self.stacks.push(key.clone());
        self.numbers.insert(key, next);
        Some(next)
    }

    /// The running goroutines with their indexes. Only the kernel has their registers.
    pub fn running(&self) -> impl Iterator<Item = (usize, &Goroutine)> {
        self.all
            .iter()
            .enumerate()
            .filter(|(_, goroutine)| goroutine.status == RUNNING && goroutine.stack.is_none())
    }

    /// Sets the stack of a running goroutine from registers and stack memory of its thread.
    /// `false`: they belong to something else.
    pub fn set_stack(
        &mut self,
        process: &GoProcess,
        index: usize,
        (pc, sp): (u64, u64),
        stack: Copied<'_>,
    ) -> bool {
        let Some(goroutine) = self.all.get(index) else { return false };
        let (low, high) = goroutine.stack_bounds;
        if !(low <= sp && sp < high) {
            return false;
        }
        let mut frames = Vec::new();
        let end = Walker::new(process).walk((pc, sp), false, true, stack, &mut frames, None);
        if frames.is_empty() || end == End::Cut {
            return false;
        }
        self.all[index].stack = self.number(&frames, end, &process.budget);
        self.all[index].stack.is_some()
    }
}
