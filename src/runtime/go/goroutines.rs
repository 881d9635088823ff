//! All goroutines of a process, read while it runs.
//!
//! Each goroutine is read like this: its `g`, its stack, its `g` again. Only if what matters of it is the
//! same both times, the counter of its departures from running among it, was the stack that of one
//! moment; else it is read again, and after some tries counted as unstable: never shown as truth.
//!
//! ```text
//! what may happen meanwhile                  what tells it
//! the table of goroutines is reallocated     read again, is the old one's address still there?
//! it runs, its stack moves, it ends          status, sp, pc, stack bounds, goid differ
//! it ran and waits at the same place again   trackingSeq differs
//! ```
//! Not here: text, profiles, the stacks of goroutines that run now (their registers are the kernel's to
//! give: see [`Goroutines::running`]).

use std::sync::Arc;

use rustc_hash::FxHashMap;

use super::{
    globals::MAX_GOROUTINES,
    labels::LabelReader,
    layouts::{G_M, G_SCHED_PC, G_SCHED_SP, Layout},
    process::{GoError, GoProcess},
    walk::{Copied, End, Frame, Walker},
};
use crate::addr::RuntimeAddr;

/// How many are read at once.
const CHUNK: usize = 512;
/// Readings of one goroutine before it is given up.
const TRIES: usize = 6;
/// `g` structures closer than this are read together.
const NEAR: u64 = 2048;
/// The most of one stack that is read.
const MAX_STACK: u64 = 64 << 20;
/// Most stack read at once of a chunk; the rest of it follows.
const MAX_CHUNK_STACK: usize = 64 << 20;

/// The states of `g.atomicstatus` (source: `src/runtime/runtime2.go`).
pub const IDLE: u32 = 0;
pub const RUNNABLE: u32 = 1;
pub const RUNNING: u32 = 2;
pub const SYSCALL: u32 = 3;
pub const WAITING: u32 = 4;
pub const DEAD: u32 = 6;
pub const COPYING: u32 = 8;
pub const LEAKED: u32 = 10;
pub const DEAD_EXTRA: u32 = 11;
/// The garbage collector scans its stack.
pub const SCAN: u32 = 0x1000;

/// Number of a stack in [`Goroutines::stacks`].
pub type StackId = u32;

/// A goroutine as it was read.
#[derive(Clone, Debug)]
pub struct Goroutine {
    pub id: u64,
    /// Without the scan bit.
    pub status: u32,
    pub is_scanned: bool,
    pub wait_reason: u8,
    /// CLOCK_MONOTONIC; 0: not known (only a garbage collection notes it).
    pub wait_since: u64,
    pub is_locked: bool,
    pub parent: u64,
    /// Return address in the function that started it.
    pub created_at: u64,
    /// Its first function.
    pub start: u64,
    pub labels: Option<Arc<Vec<(String, String)>>>,
    /// Number of its synctest bubble.
    pub bubble: Option<u64>,
    pub is_system: bool,
    /// `None`: it could not be read in one piece, or it runs.
    pub stack: Option<StackId>,
    /// Values of arguments, frame by frame, where they were asked for.
    pub arguments: Box<[u64]>,
    /// The address of its `g`.
    pub address: u64,
    /// The bounds of its stack.
    pub stack_bounds: (u64, u64),
    /// The thread that it is bound to while it runs, as an address; 0: none.
    pub thread: u64,
}

/// All goroutines, and what reading them came to.
#[derive(Debug, Default)]
pub struct Goroutines {
    /// In the order of the runtime's table.
    pub all: Vec<Goroutine>,
    pub stacks: Vec<(Box<[Frame]>, End)>,
    /// Read again because they changed meanwhile.
    pub read_again: u64,
    /// Never read in one piece.
    pub unstable: u64,
    /// Bytes read.
    pub bytes: u64,
    numbers: FxHashMap<(Box<[Frame]>, End), StackId>,
}

/// What is wanted of goroutines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GoroutineOptions {
    /// The values of arguments, for Go's own form of a dump.
    pub arguments: bool,
}

impl GoProcess {
    /// Reads all goroutines.
    pub fn goroutines(&self, wanted: GoroutineOptions) -> Result<Goroutines, GoError> {
        let table = self.goroutine_table()?;
        let mut reading = Reading {
            process: self,
            layout: &self.layout,
            wanted,
            walker: Walker::new(self),
            labels: LabelReader::default(),
            found: Goroutines::default(),
            frames: Vec::new(),
            arguments: Vec::new(),
            buffers: Default::default(),
        };
        reading.found.all.reserve(table.len());
        for chunk in table.chunks(CHUNK) {
            reading.chunk(chunk);
        }
        let finalizers_run = self.finalizers_run();
        let mut found = reading.found;
        let system = SystemGoroutines::of(self, finalizers_run);
        for goroutine in &mut found.all {
            goroutine.is_system = goroutine.is_system && system.is_system(goroutine.start);
        }
        Ok(found)
    }

    /// The addresses of all `g`.
    fn goroutine_table(&self) -> Result<Vec<u64>, GoError> {
        let moving = GoError::Variable { what: "table of goroutines", why: "it moved while it was read" };
        for _ in 0..TRIES {
            let count = self.memory.read_word(self.globals.all_g_count).ok_or(GoError::Memory(self.pid))?;
            let start = self.memory.read_word(self.globals.all_g_table);
            let mut bytes = vec![0; count.min(MAX_GOROUTINES) as usize * 8];
            let read = start.is_some_and(|start| self.memory.read_exact(RuntimeAddr(start), &mut bytes));
            if read && self.memory.read_word(self.globals.all_g_table) == start {
                return Ok(bytes.as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word)).collect());
            }
        }
        Err(moving)
    }

    fn finalizers_run(&self) -> bool {
        /// `fingRunningFinalizer`.
        const RUNNING_FINALIZER: u32 = 2;
        let Some((at, size)) = self.globals.finalizer_state else { return false };
        let value = self.memory.read_u32(at).unwrap_or(0);
        if size == 1 { value & 0xff != 0 } else { value & RUNNING_FINALIZER != 0 }
    }
}

/// Go's own rule which goroutines are the runtime's: those that begin in it, but for some.
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

/// What is read of a `g`.
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

    /// Its status without the bit of the garbage collector.
    fn state(&self) -> u32 {
        self.status & !SCAN
    }

    /// There is (or was) somebody: not a `g` that waits to be used again.
    fn exists(&self) -> bool {
        self.id != 0 && !matches!(self.state(), IDLE | DEAD | DEAD_EXTRA)
    }

    fn runs(&self) -> bool {
        self.state() == RUNNING && self.syscall.1 == 0
    }

    /// Where its stack begins: pc and sp, and whether a system call saved them.
    fn top(&self) -> ((u64, u64), bool) {
        if self.syscall.1 != 0 { (self.syscall, true) } else { (self.sched, false) }
    }

    /// What of its stack is in use: start and length.
    fn used_stack(&self) -> Option<(RuntimeAddr, usize)> {
        let ((_, sp), _) = self.top();
        let (low, high) = self.stack;
        let fits = low <= sp && sp < high && self.state() != COPYING;
        fits.then(|| (RuntimeAddr(sp), (high - sp).min(MAX_STACK) as usize))
    }

    /// Nothing happened between two readings that would have changed the stack.
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
    wanted: GoroutineOptions,
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
            self.some(now);
            rest = later;
        }
        debug_assert!(self.found.all.len() <= base + addresses.len());
    }

    /// Reads the stacks of some, and takes those that stood still.
    fn some(&mut self, first: &[Option<Header>]) {
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
                _ => self.alone(before.address),
            }
        }
        self.buffers.stacks = stacks;
    }

    /// Reads one that changed while it was read, until it does not.
    fn alone(&mut self, address: u64) {
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
            let arguments = self.wanted.arguments.then_some(&mut self.arguments);
            let end = self.walker.walk((pc, sp), in_syscall, is_entry, copied, &mut self.frames, arguments);
            self.found.number(&self.frames, end)
        });
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
            // Settled when all are read; a goroutine that runs cleanups is the program's.
            is_system: !header.runs_cleanups,
            stack,
            arguments: self.arguments.as_slice().into(),
            address: header.address,
            stack_bounds: header.stack,
            thread: header.thread,
        });
    }

    /// `synctestBubble.id`; before Go 1.25 groups were numbered by their first goroutine.
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

    /// Reads many `g`, those that lie near each other together.
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
    /// The number of a stack.
    fn number(&mut self, frames: &[Frame], end: End) -> StackId {
        // (One allocation for each goroutine; equal stacks share theirs.)
        let key: (Box<[Frame]>, End) = (frames.into(), end);
        let next = self.stacks.len() as StackId;
        *self.numbers.entry(key).or_insert_with_key(|key| {
            self.stacks.push(key.clone());
            next
        })
    }

    /// Goroutines that run now, whose stacks only the kernel can tell.
    pub fn running(&self) -> impl Iterator<Item = (usize, &Goroutine)> {
        self.all
            .iter()
            .enumerate()
            .filter(|(_, goroutine)| goroutine.status == RUNNING && goroutine.stack.is_none())
    }

    /// Gives a goroutine that runs the stack that registers and memory of its thread told.
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
        let number = self.number(&frames, end);
        self.all[index].stack = Some(number);
        true
    }
}
