//! Reads a range of memory once, forwards, through one buffer. Pages that are not present read as
//! zeros and are counted.

use super::{Memory, Present, memory::PAGE};
use crate::budget::{Budget, Exhausted, Resource};

/// The size of the buffer, in bytes.
const BLOCK: u64 = 1 << 20;

/// A forward reader.
pub struct Stream<'m> {
    memory: &'m dyn Memory,
    budget: &'m Budget,
    block: Vec<u8>,
    /// The address of the first byte of `block`.
    start: u64,
    /// The pages of `block`, where they are known.
    pages: Vec<Present>,
    /// The end of the block read last, up to which pages are counted.
    counted: u64,
    /// Bytes of pages never touched, which were not read.
    pub untouched: u64,
    /// Bytes of pages in swap, which were not read.
    pub swapped: u64,
    /// Whether the state of all pages was known.
    pub knows_pages: bool,
    /// Why reading ended.
    pub cut: Option<Exhausted>,
}

impl<'m> Stream<'m> {
    /// A reader of this memory, which draws what it reads from `budget`.
    pub fn new(memory: &'m dyn Memory, budget: &'m Budget) -> Stream<'m> {
        Stream {
            memory,
            budget,
            block: Vec::new(),
            start: 0,
            pages: Vec::new(),
            counted: 0,
            untouched: 0,
            swapped: 0,
            knows_pages: true,
            cut: None,
        }
    }

    /// The 8-byte word at `address`, below `end`; `None`: not mapped, or the budget is used up.
    pub fn word(&mut self, address: u64, end: u64) -> Option<u64> {
        let bytes = self.bytes(address, 8, end);
        bytes.first_chunk::<8>().map(|word| u64::from_le_bytes(*word))
    }

    /// The bytes from `address` on: `count`, or fewer if the memory or the range ends before.
    /// `count` is at most half a MiB.
    pub fn bytes(&mut self, address: u64, count: u64, end: u64) -> &[u8] {
        let wanted = address.saturating_add(count).min(end);
        let block_end = self.start + self.block.len() as u64;
        if address < self.start || wanted > block_end {
            self.load(address, end);
        }
        let at = usize::try_from(address.wrapping_sub(self.start)).unwrap_or(usize::MAX);
        let rest = self.block.get(at..).unwrap_or_default();
        &rest[..rest.len().min(wanted.saturating_sub(address) as usize)]
    }

    fn load(&mut self, address: u64, end: u64) {
        let start = address & !(PAGE - 1);
        let end = end.checked_next_multiple_of(PAGE).unwrap_or(end).min(start.saturating_add(BLOCK));
        self.start = start;
        let size = end.saturating_sub(start);
        if let Err(why) = self.budget.take(Resource::Work, size) {
            self.cut = Some(why);
            self.block.clear();
            return;
        }
        self.block.clear();
        self.block.resize(size as usize, 0);
        self.pages.clear();
        self.pages.resize(size.div_ceil(PAGE) as usize, Present::Yes);
        if !self.memory.pages(start, &mut self.pages) {
            self.knows_pages = false;
            self.pages.fill(Present::Yes);
        }
        self.read_present();
    }

    /// Reads each run of pages that are present, up to the first that cannot be read.
    fn read_present(&mut self) {
        let mut at = 0;
        while at < self.pages.len() {
            let kind = self.pages[at];
            let run = self.pages[at..].iter().take_while(|page| **page == kind).count();
            let (from, to) = (at * PAGE as usize, ((at + run) * PAGE as usize).min(self.block.len()));
            at += run;
            let bytes = &mut self.block[from..to];
            if kind == Present::Yes {
                let read = self.memory.read(self.start + from as u64, bytes);
                if read < to - from {
                    self.block.truncate(from + read);
                    break;
                }
                continue;
            }
            let first = (self.start + from as u64).max(self.counted);
            let new = (self.start + to as u64).saturating_sub(first);
            match kind {
                Present::Swapped => self.swapped += new,
                _ => self.untouched += new,
            }
        }
        self.counted = self.counted.max(self.start + self.block.len() as u64);
    }
}

/// Reads `size` bytes at `address`; pages that are not present, and what cannot be read, are zeros.
/// For the data of modules, whose size the caller limits.
pub fn read_present(memory: &dyn Memory, address: u64, size: usize) -> Vec<u8> {
    let budget = Budget::session();
    let mut stream = Stream::new(memory, &budget);
    let end = address.saturating_add(size as u64);
    let mut bytes = Vec::with_capacity(size);
    while bytes.len() < size {
        let at = address + bytes.len() as u64;
        let piece = stream.bytes(at, (size - bytes.len()).min(BLOCK as usize / 2) as u64, end);
        if piece.is_empty() {
            break;
        }
        bytes.extend_from_slice(piece);
    }
    bytes.resize(size, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::{super::Image, *};

    #[test]
    fn a_stream_reads_across_blocks_and_ends_with_the_memory() {
        let mut image = Image::default();
        let bytes: Vec<u8> = (0..(3u32 << 18)).flat_map(u32::to_le_bytes).collect();
        image.add(0x10000, bytes);
        let budget = Budget::session();
        let mut stream = Stream::new(&image, &budget);
        let end = 0x10000 + (3 << 20);
        for at in (0..(3u64 << 18)).step_by(1000) {
            let low = stream.bytes(0x10000 + at * 4, 4, end).first_chunk::<4>().copied();
            assert_eq!(low.map(u32::from_le_bytes), Some(at as u32));
        }
        assert_eq!(stream.bytes(end - 4, 100, end + 100).len(), 4);
        assert_eq!(stream.word(end, end + 100), None);
    }

    #[test]
    fn pages_that_are_not_present_read_as_zeros_and_are_counted_once() {
        let mut image = Image::default();
        image.add(0x10000, vec![1; 4 * PAGE as usize]);
        image.hide(0x11000, Present::Untouched);
        image.hide(0x12000, Present::Swapped);
        let budget = Budget::session();
        let mut stream = Stream::new(&image, &budget);
        for _ in 0..2 {
            let words: Vec<_> = (0..4).map(|page| stream.word(0x10000 + page * PAGE, 0x14000)).collect();
            let one = Some(0x0101_0101_0101_0101);
            assert_eq!(words, [one, Some(0), Some(0), one]);
            stream.bytes(0x13ff0, 16, 0x14000);
        }
        assert_eq!((stream.untouched, stream.swapped, stream.knows_pages), (PAGE, PAGE, true));
    }
}
