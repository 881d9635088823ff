//! The frames of a thread by plain reads: as the BPF walker reads them, for threads that sleep or
//! are stopped, and, at a risk, for threads that run.
//!
//! From 3.11 on the frames of ordinary functions are in one piece of memory, the data stack, except
//! for those of generators and coroutines, which are in the object itself. One system call copies
//! the thread state, the record that leads to the frame, and the data stack; the chain is then
//! followed in the copy. A thread that runs may change them during the call: about 1 to 3 % of such
//! readings are torn.
//!
//! Not here: names and lines (`code`).

use super::{
    layouts::Layout,
    objects::is_pointer,
    process::PythonProcess,
    walker::{
        COMPLETE, CUT, FORM_CFRAME, FORM_OBJECTS, GAP, GIL_KNOWN, HOLDS_GIL, MAX_FRAMES, NO_THREAD_STATE,
        RESTARTED, Section, SectionHead, UNREADABLE, WalkedFrame,
    },
};
use crate::{addr::RuntimeAddr, process::ProcessMemory};

/// The most bytes of data stack that are copied.
const MAX_STACK: u64 = 512 << 10;
/// The most chunks of the data stack that are copied.
const MAX_CHUNKS: usize = 32;
/// Bytes of a chunk's header: the chunk before, its size, and its top (_PyStackChunk).
const CHUNK_HEADER: u64 = 24;
/// Frames that are pushed between two readings fit in this many bytes.
const CHUNK_SLACK: u64 = 4096;

impl PythonProcess {
    /// The frames of a thread state, leaf first.
    pub fn frames(&self, state: u64) -> Section {
        let copy = Copy::of(self, state);
        let mut walk =
            Walk { copy: &copy, layout: &self.layout, head: SectionHead::default(), frames: Vec::new() };
        walk.head.tstate = state;
        if is_pointer(state) {
            walk.run(state);
        } else {
            walk.head.flags |= NO_THREAD_STATE;
        }
        let Walk { mut head, frames, .. } = walk;
        head.flags |= self.gil_flags(state);
        head.frames = frames.len() as u32;
        Section { head, frames }
    }

    /// Whether the thread state holds the interpreter lock.
    fn gil_flags(&self, state: u64) -> u32 {
        let interpreter = self.objects().pointer(state, self.layout.thread_interpreter);
        match interpreter.and_then(|interpreter| self.gil(interpreter)) {
            Some(gil) if gil.locked && gil.holder == state => GIL_KNOWN | HOLDS_GIL,
            Some(_) => GIL_KNOWN,
            None => 0,
        }
    }
}

/// Copies of pieces of memory, read at once; other addresses are read when needed.
struct Copy<'a> {
    memory: &'a ProcessMemory,
    pieces: Vec<(u64, Vec<u8>)>,
}

impl<'a> Copy<'a> {
    /// The thread state and all that leads to its frames.
    fn of(process: &'a PythonProcess, state: u64) -> Copy<'a> {
        let layout = &process.layout;
        let mut copy = Copy { memory: &process.memory, pieces: Vec::new() };
        if layout.chunk == 0 || !is_pointer(state) {
            return copy;
        }
        let mut ranges = vec![(state, u64::from(layout.chunk.max(layout.thread_frame)) + 16)];
        if layout.form == FORM_CFRAME
            && let Some(anchor) = process.objects().pointer(state, layout.thread_frame)
        {
            ranges.push((anchor, u64::from(layout.cframe_previous.max(layout.cframe_frame)) + 8));
        }
        ranges.extend(chunks(process, state));
        copy.read(&ranges);
        copy
    }

    fn read(&mut self, ranges: &[(u64, u64)]) {
        let sizes: Vec<_> = ranges.iter().map(|(at, bytes)| (RuntimeAddr(*at), *bytes as usize)).collect();
        let mut all = vec![0; sizes.iter().map(|(_, bytes)| bytes).sum()];
        let count = self.memory.read_ranges(&sizes, &mut all);
        let mut rest = &all[..];
        for (at, bytes) in sizes.into_iter().take(count) {
            let (piece, later) = rest.split_at(bytes);
            self.pieces.push((at.0, piece.to_vec()));
            rest = later;
        }
    }

    /// Fills `buffer` from the copies, or else from the memory.
    fn get(&self, at: u64, buffer: &mut [u8]) -> bool {
        for (start, bytes) in &self.pieces {
            let inside = at.checked_sub(*start).and_then(|from| usize::try_from(from).ok());
            let range = inside.and_then(|from| Some(from..from.checked_add(buffer.len())?));
            if let Some(found) = range.and_then(|range| bytes.get(range)) {
                buffer.copy_from_slice(found);
                return true;
            }
        }
        self.memory.read_exact(RuntimeAddr(at), buffer)
    }

    fn word(&self, at: u64) -> Option<u64> {
        let mut word = [0; 8];
        (is_pointer(at & !7) && self.get(at, &mut word)).then(|| u64::from_le_bytes(word))
    }
}

/// The used parts of a thread's data stack, the newest first.
fn chunks(process: &PythonProcess, state: u64) -> Vec<(u64, u64)> {
    let objects = process.objects();
    let mut ranges: Vec<(u64, u64)> = Vec::new();
    let mut room = MAX_STACK;
    // The top of the newest chunk is in the thread state, after the pointer to the chunk.
    let mut end = objects.word(state, process.layout.chunk + 8).map(|top| top.saturating_add(CHUNK_SLACK));
    let mut chunk = objects.pointer(state, process.layout.chunk);
    while let Some(at) = chunk.filter(|_| ranges.len() < MAX_CHUNKS && room > 0) {
        let Some(header) = objects.words(at, 3) else { break };
        let top = end.take().unwrap_or_else(|| at.saturating_add(header[2].saturating_mul(8)));
        let used = top.saturating_sub(at).saturating_add(CHUNK_HEADER).min(header[1]).min(room);
        if ranges.iter().any(|(start, _)| *start == at) || used < CHUNK_HEADER {
            break;
        }
        ranges.push((at, used));
        room -= used;
        chunk = Some(header[0]).filter(|previous| is_pointer(*previous));
    }
    ranges
}

/// Follows a chain of frames as the BPF walker does.
struct Walk<'a> {
    copy: &'a Copy<'a>,
    layout: &'a Layout,
    head: SectionHead,
    frames: Vec<WalkedFrame>,
}

impl Walk<'_> {
    fn run(&mut self, state: u64) {
        let layout = self.layout;
        let Some(mut next) = self.copy.word(state + u64::from(layout.thread_frame)) else {
            self.head.flags |= UNREADABLE;
            return;
        };
        // Where the walk may start again: the frame of the evaluation before the innermost one.
        let mut before = None;
        if layout.form == FORM_CFRAME {
            self.head.anchor = next;
            let word = |offset: u32| self.copy.word(self.head.anchor.wrapping_add(u64::from(offset)));
            let outer = word(layout.cframe_previous).filter(|outer| *outer != 0);
            before =
                outer.and_then(|outer| self.copy.word(outer.wrapping_add(u64::from(layout.cframe_frame))));
            next = word(layout.cframe_frame).unwrap_or(0);
        }
        self.follow(next, before);
    }

    fn follow(&mut self, first: u64, mut before: Option<u64>) {
        let layout = self.layout;
        let mut next = first;
        let mut last_entry = 0;
        loop {
            if next == 0 {
                if layout.form == FORM_OBJECTS || layout.is_entry(last_entry) {
                    self.head.flags |= COMPLETE;
                    return;
                }
                // A generator that is being left has no previous frame.
                let Some(outer) = before.take().filter(|outer| *outer != 0) else { return };
                self.head.flags |= GAP;
                next = outer;
            }
            let Some((frame, previous)) = self.frame(next) else {
                let Some(outer) = before.take() else {
                    self.head.flags |= UNREADABLE;
                    return;
                };
                self.restart(&mut next, outer);
                continue;
            };
            last_entry = frame.entry();
            if layout.is_entry(last_entry)
                && let Some(outer) = before.take()
                && outer != previous
            {
                // The evaluator is being entered: its frame is not written yet.
                self.restart(&mut next, outer);
                continue;
            }
            if self.frames.len() == MAX_FRAMES {
                self.head.flags |= CUT;
                return;
            }
            self.frames.push(frame);
            next = previous;
        }
    }

    fn restart(&mut self, next: &mut u64, outer: u64) {
        self.head.flags |= RESTARTED;
        self.frames.clear();
        *next = outer;
    }

    /// The frame at an address and the one that called it.
    fn frame(&self, at: u64) -> Option<(WalkedFrame, u64)> {
        let layout = self.layout;
        let mut block = [0; 120];
        let bytes = block.get_mut(..layout.frame_bytes() as usize)?;
        if !is_pointer(at) || !self.copy.get(at, bytes) {
            return None;
        }
        let word = |offset: u32| {
            let bytes = bytes.get(offset as usize..offset as usize + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let entry = if layout.entry_min < 256 { *bytes.get(layout.frame_entry as usize)? } else { 0 };
        let frame = WalkedFrame {
            code: word(layout.frame_code)? & layout.code_mask,
            instr: word(layout.frame_instr)? & layout.instr_mask(),
            address: at | u64::from(entry) << super::walker::ADDRESS_BITS,
        };
        Some((frame, word(layout.frame_previous)?))
    }
}
