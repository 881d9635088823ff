//! Stacks deeper than the copy in the sample: the rest is read from the process while it runs, and
//! used only if the copied part has not changed.
//!
//! A stack changes at its leaf; the frames near the root change rarely. So the last page of the
//! copy is read again together with the memory above it. If the page is unchanged, the frames above
//! it are unchanged too (correct in 99 % of accepted reads in trials; the others are rejected).
//!
//! A stack may also continue elsewhere: above pages that were never touched, where the kernel's
//! copy ends (a function with a large array), or on another stack that a signal handler
//! interrupted, if the sampler has not copied it. That memory is used if the last frame found in
//! the copy (its return address and saved registers) is unchanged: while that frame exists, its
//! callers exist too. Not here: stacks that were copied whole.

use std::ops::Range;

use crate::{
    addr::RuntimeAddr,
    process::ProcessMemory,
    sampler::{StackCopy, Task},
    unwind::{CopiedStack, RED_ZONE, ReadFailure, Registers, StackMemory},
};

/// How much of the copy is compared with a second read, in bytes.
const OVERLAP_BYTES: usize = 4096;
/// How much is read at once, in bytes.
const CHUNK_BYTES: usize = 128 << 10;
/// How much is read per stack at most, in bytes.
const MAX_BYTES: usize = 8 << 20;

/// A copied stack whose rest is read on demand.
pub struct LateStack<'a> {
    copy: CopiedStack<'a>,
    task: Option<Task<'a>>,
    interrupted: Option<StackCopy<'a>>,
    memory: &'a ProcessMemory,
    /// The memory after the copy, as far as it has been read.
    rest: &'a mut Vec<u8>,
    state: State,
    /// Memory that is not adjacent to the copy: the start of each piece and its bytes; no bytes if
    /// it could not be read or was rejected.
    others: Vec<(RuntimeAddr, Vec<u8>)>,
    /// The words last read from the copy, as address and value (a ring).
    last_reads: [(u64, u64); LAST_READS],
    reads: usize,
}

/// How many pieces of other memory are read per stack at most.
const MAX_OTHERS: usize = 64;
/// A frame has its return address and at most six saved registers.
const LAST_READS: usize = 8;
/// How far below its return address a frame saves registers, in bytes.
const SAVED_BYTES: u64 = 48;

/// A word of a piece of memory: its start and its bytes.
fn word_of((start, bytes): &(RuntimeAddr, Vec<u8>), address: RuntimeAddr) -> Option<u64> {
    let offset = usize::try_from(address.0.checked_sub(start.0)?).ok()?;
    bytes.get(offset..)?.first_chunk::<8>().map(|word| u64::from_le_bytes(*word))
}

#[derive(PartialEq, Eq)]
enum State {
    Open,
    /// The second read differed, or there is nothing more to read.
    Closed,
}

impl<'a> LateStack<'a> {
    /// A stack with its copy. `buffer` is reused for each stack.
    pub fn new(copy: CopiedStack<'a>, memory: &'a ProcessMemory, buffer: &'a mut Vec<u8>) -> LateStack<'a> {
        buffer.clear();
        LateStack {
            copy,
            task: None,
            interrupted: None,
            memory,
            rest: buffer,
            state: State::Open,
            others: Vec::new(),
            last_reads: [(0, 0); LAST_READS],
            reads: 0,
        }
    }

    /// Also reads from the copied stack of the task that the thread runs.
    pub fn with_task(self, task: Option<Task<'a>>) -> LateStack<'a> {
        LateStack { task, ..self }
    }

    /// Also reads from the copied stack that a signal handler interrupted.
    pub fn with_interrupted_stack(self, interrupted: Option<StackCopy<'a>>) -> LateStack<'a> {
        LateStack { interrupted, ..self }
    }

    /// A word of another stack that was copied together with the thread's.
    fn in_other_copy(&self, address: RuntimeAddr) -> Option<u64> {
        let task = self.task.as_ref().map(|task| task.stack);
        task.into_iter().chain(self.interrupted).find_map(|stack| {
            let offset = usize::try_from(address.0.checked_sub(stack.start.0)?).ok()?;
            stack.bytes.get(offset..)?.first_chunk::<8>().map(|word| u64::from_le_bytes(*word))
        })
    }

    /// Whether memory outside the copy was needed.
    pub fn was_needed(&self) -> bool {
        !self.rest.is_empty() || self.state == State::Closed || !self.others.is_empty()
    }

    fn beyond_copy(&self, address: RuntimeAddr) -> Option<u64> {
        let offset = address.0.checked_sub(self.rest_start())?;
        let word = self.rest.get(usize::try_from(offset).ok()?..)?.first_chunk::<8>()?;
        Some(u64::from_le_bytes(*word))
    }

    /// A word of the pieces of other memory that were read.
    fn in_others(&self, address: RuntimeAddr) -> Option<u64> {
        self.others.iter().find_map(|piece| word_of(piece, address))
    }

    /// A word that is neither in the copy nor adjacent to it.
    fn elsewhere(&mut self, address: RuntimeAddr) -> Option<u64> {
        let known = self.in_others(address);
        if known.is_some() || self.others.len() >= MAX_OTHERS {
            return known;
        }
        let read = (address, self.read_other(address).unwrap_or_default());
        let word = word_of(&read, address);
        self.others.push(read);
        word
    }

    fn read_other(&self, address: RuntimeAddr) -> Option<Vec<u8>> {
        if (1..=RED_ZONE).contains(&self.copy.start.0.wrapping_sub(address.0)) {
            return self.read_below_copy(address);
        }
        let mut bytes = vec![0; CHUNK_BYTES];
        let count = self.memory.read(address, &mut bytes);
        bytes.truncate(count);
        self.last_frame_is_unchanged().then_some(bytes)
    }

    /// Part of the red zone, where a leaf may keep its caller's stack pointer. No frame that was
    /// read before proves that it is unchanged: the unwinder checks where it leads.
    fn read_below_copy(&self, address: RuntimeAddr) -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.copy.start.0 - address.0).ok()?];
        let count = self.memory.read(address, &mut bytes);
        (count == bytes.len()).then_some(bytes)
    }

    /// Whether the highest return address read so far and the registers saved below it are
    /// unchanged.
    fn last_frame_is_unchanged(&self) -> bool {
        let reads = &self.last_reads[..self.reads.min(LAST_READS)];
        let Some(highest) = reads.iter().map(|(address, _)| *address).max() else { return false };
        reads.iter().filter(|(address, _)| *address >= highest.saturating_sub(SAVED_BYTES)).all(
            |(address, value)| {
                let mut now = [0; 8];
                self.memory.read(RuntimeAddr(*address), &mut now) == 8 && u64::from_le_bytes(now) == *value
            },
        )
    }

    fn rest_start(&self) -> u64 {
        // The copy's length need not be a multiple of 8: a word may straddle its end.
        let whole = self.copy.bytes.len() & !7;
        self.copy.start.0.wrapping_add(whole as u64)
    }

    /// Reads the next chunk with the overlap before it, and keeps it if the overlap is unchanged.
    fn extend(&mut self) {
        let known_end = self.rest_start().wrapping_add(self.rest.len() as u64);
        let overlap = if self.rest.is_empty() {
            let whole = &self.copy.bytes[..self.copy.bytes.len() & !7];
            &whole[whole.len().saturating_sub(OVERLAP_BYTES)..]
        } else {
            &self.rest[self.rest.len().saturating_sub(OVERLAP_BYTES)..]
        };
        let mut buffer = vec![0; overlap.len() + CHUNK_BYTES];
        let start = RuntimeAddr(known_end.wrapping_sub(overlap.len() as u64));
        let count = self.memory.read(start, &mut buffer);
        let unchanged = !overlap.is_empty() && buffer[..count].get(..overlap.len()) == Some(overlap);
        let got = count.saturating_sub(overlap.len()) & !7;
        if !unchanged || got == 0 || self.rest.len() + got > MAX_BYTES {
            self.state = State::Closed;
            return;
        }
        let skip = overlap.len();
        self.rest.extend_from_slice(&buffer[skip..skip + got]);
    }
}

impl StackMemory for LateStack<'_> {
    fn read_u64(&mut self, address: RuntimeAddr) -> Result<u64, ReadFailure> {
        let word = self.copy.read_u64(address);
        let failure = match word.or_else(|failure| self.in_other_copy(address).ok_or(failure)) {
            // Another stack that the walk has entered may lie close above the copy.
            Err(ReadFailure::BeyondCopy) => match self.in_others(address) {
                Some(word) => return Ok(word),
                None => ReadFailure::BeyondCopy,
            },
            Err(ReadFailure::Unreadable) => {
                return self.elsewhere(address).ok_or(ReadFailure::Unreadable);
            }
            Ok(word) => {
                self.last_reads[self.reads % LAST_READS] = (address.0, word);
                self.reads += 1;
                return Ok(word);
            }
        };
        loop {
            if let Some(word) = self.beyond_copy(address) {
                return Ok(word);
            }
            let distance = address.0.wrapping_sub(self.rest_start());
            if distance > MAX_BYTES as u64 {
                return self.elsewhere(address).ok_or(failure);
            }
            if self.state == State::Closed {
                return Err(failure);
            }
            self.extend();
        }
    }

    fn enter_stack(&mut self, bounds: &Range<RuntimeAddr>) -> bool {
        let length = usize::try_from(bounds.end.0.saturating_sub(bounds.start.0)).unwrap_or(usize::MAX);
        if self.others.len() >= MAX_OTHERS || !self.last_frame_is_unchanged() {
            return false;
        }
        let mut bytes = vec![0; length.min(CHUNK_BYTES)];
        let count = self.memory.read(bounds.start, &mut bytes);
        bytes.truncate(count);
        self.others.push((bounds.start, bytes));
        count > 0
    }

    fn code(&self, addr: RuntimeAddr, into: &mut [u8]) -> usize {
        self.memory.read(addr, into)
    }

    fn task_registers(&self) -> Option<&Registers> {
        self.task.as_ref()?.registers.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 512 KiB of this process's memory with a known content, of which the first 64 KiB are
    /// "copied".
    fn stack_and_copy() -> (Vec<u64>, Vec<u8>) {
        let truth: Vec<u64> = (0..65_536).collect();
        let copy = truth[..8192].iter().flat_map(|word| word.to_le_bytes()).collect();
        (truth, copy)
    }

    fn read(truth: &[u64], copy: &[u8], index: usize) -> Result<u64, ReadFailure> {
        let start = RuntimeAddr(truth.as_ptr() as u64);
        let memory = ProcessMemory::new(std::process::id());
        let mut buffer = Vec::new();
        let copied = CopiedStack { start, bytes: copy, capped: true, has_holes: false };
        let mut stack = LateStack::new(copied, &memory, &mut buffer);
        stack.read_u64(start.offset(index as i64 * 8))
    }

    #[test]
    fn an_unchanged_stack_is_read_beyond_the_copy() {
        let (truth, copy) = stack_and_copy();
        for index in [0, 8191, 8192, 30_000, 65_000] {
            assert_eq!(read(&truth, &copy, index), Ok(index as u64));
        }
    }

    #[test]
    fn an_interrupted_stack_is_read_while_the_signal_handlers_frame_is_unchanged() {
        let (mut truth, copy) = stack_and_copy();
        let interrupted: Vec<u64> = (0..64).map(|word| word + 7).collect();
        let other = RuntimeAddr(interrupted.as_ptr() as u64);
        let memory = ProcessMemory::new(std::process::id());
        let mut buffer = Vec::new();
        let start = RuntimeAddr(truth.as_ptr() as u64);
        let copied = CopiedStack { start, bytes: &copy, capped: false, has_holes: false };
        let mut stack = LateStack::new(copied, &memory, &mut buffer);
        assert_eq!(stack.read_u64(start.offset(8000 * 8)), Ok(8000));
        assert_eq!(stack.read_u64(other), Ok(7));
        assert_eq!(stack.read_u64(other.offset(80)), Ok(17));
        // Words below the last frame may change while the handler runs; words above may not.
        truth[7999] = 1;
        let mut stack = LateStack::new(copied, &memory, &mut buffer);
        assert_eq!(stack.read_u64(start.offset(8000 * 8)), Ok(8000));
        assert_eq!(stack.read_u64(other), Ok(7));
        truth[8000] = 1;
        let mut stack = LateStack::new(copied, &memory, &mut buffer);
        assert_eq!(stack.read_u64(start.offset(8000 * 8)), Ok(8000));
        assert_eq!(stack.read_u64(other), Err(ReadFailure::Unreadable));
        assert_eq!(truth[7999..8001], [1, 1]);
    }

    #[test]
    fn the_copied_stack_of_a_task_is_read_from_the_copy() {
        let (_, copy) = stack_and_copy();
        let memory = ProcessMemory::new(std::process::id());
        let mut buffer = Vec::new();
        let copied =
            CopiedStack { start: RuntimeAddr(0x1000), bytes: &copy, capped: false, has_holes: false };
        let stack = StackCopy { start: RuntimeAddr(16), bytes: &[5; 16], capped: false, has_holes: false };
        let task = Task { labels: 0, registers: Some(Registers::default()), stack };
        let mut stack = LateStack::new(copied, &memory, &mut buffer).with_task(Some(task));
        assert_eq!(stack.read_u64(RuntimeAddr(24)), Ok(0x0505_0505_0505_0505));
        assert_eq!(stack.read_u64(RuntimeAddr(32)), Err(ReadFailure::Unreadable));
        assert_eq!(stack.read_u64(RuntimeAddr(0x1000)), Ok(0));
        assert!(stack.task_registers().is_some());
    }

    #[test]
    fn a_copied_stack_that_a_signal_handler_interrupted_is_read_from_the_copy() {
        let memory = ProcessMemory::new(std::process::id());
        let mut buffer = Vec::new();
        let copied =
            CopiedStack { start: RuntimeAddr(0x1000), bytes: &[1; 16], capped: false, has_holes: false };
        let interrupted =
            StackCopy { start: RuntimeAddr(16), bytes: &[6; 16], capped: false, has_holes: false };
        let mut stack =
            LateStack::new(copied, &memory, &mut buffer).with_interrupted_stack(Some(interrupted));
        assert_eq!(stack.read_u64(RuntimeAddr(0x1008)), Ok(0x0101_0101_0101_0101));
        assert_eq!(stack.read_u64(RuntimeAddr(24)), Ok(0x0606_0606_0606_0606));
        assert_eq!(stack.read_u64(RuntimeAddr(32)), Err(ReadFailure::Unreadable));
    }

    #[test]
    fn a_stack_that_changed_since_the_copy_is_rejected() {
        let (mut truth, copy) = stack_and_copy();
        truth[8190] = 1;
        assert_eq!(read(&truth, &copy, 100), Ok(100));
        assert_eq!(read(&truth, &copy, 8192), Err(ReadFailure::BeyondCopy));
    }
}
