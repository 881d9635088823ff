//! Walks the chunks of a segment, once and forwards, while the program goes on changing them.

use super::{arenas::Arena, layouts::Layout, lists::Freed, segments::Segment};
use crate::heap::{
    Chunk, Coverage, Present, Sink, State, Stream, Target, memory::PAGE, stream::read_present,
};

/// Flags in the word with a chunk's size.
const PREVIOUS_IN_USE: u64 = 1;
const IS_MAPPED: u64 = 2;
const OTHER_ARENA: u64 = 4;
const FLAGS: u64 = 7;
/// The smallest chunk, and the size of the markers that end a heap.
const SMALLEST: u64 = 0x20;
const MARKER: u64 = 0x10;
/// Bytes of the header in front of the content.
const HEADER: u64 = 16;
/// Bytes of the content that a sink receives: a type needs at most six words.
const CONTENT: usize = 48;
/// How far a search goes behind a place where the chain of chunks breaks, in pieces of a MiB.
const SEARCHED: u64 = 4;
const SEARCH: u64 = 1 << 20;
/// How many sizes must fit together for the chain to be believed again.
const CHAIN: usize = 8;
/// The most searches of a census: a heap with more is not one, or crafted.
const MAX_SEARCHES: u64 = 10_000;

/// A chunk whose successor has not been read yet.
#[derive(Clone, Copy)]
struct Pending {
    at: u64,
    size: u64,
    content: [u8; CONTENT],
    content_bytes: usize,
}

/// A header as it was read, with the beginning of the content.
struct Header {
    previous_size: u64,
    size: u64,
    flags: u64,
    chunk: Pending,
}

/// What follows a header.
enum Next {
    At(u64),
    End,
    Broken,
}

/// A walk through one arena's segments.
pub struct Walk<'w, 'm> {
    target: &'w Target,
    layout: &'w Layout,
    arena: &'w Arena,
    freed: &'w Freed,
    stream: &'w mut Stream<'m>,
    coverage: &'w mut Coverage,
    pending: Option<Pending>,
    number: u32,
    /// The chunk at the arena's end, as it was read last.
    top: u64,
}

impl<'w, 'm> Walk<'w, 'm> {
    /// A walk through segments of this arena.
    pub fn new(
        target: &'w Target,
        (layout, arena): (&'w Layout, &'w Arena),
        freed: &'w Freed,
        stream: &'w mut Stream<'m>,
        coverage: &'w mut Coverage,
    ) -> Walk<'w, 'm> {
        Walk { target, layout, arena, freed, stream, coverage, pending: None, number: 0, top: arena.top }
    }

    /// Gives all chunks of a segment to `sink`.
    pub fn segment(&mut self, segment: &Segment, sink: &mut dyn Sink) {
        self.number = segment.arena;
        if segment.head > 0 {
            let at = segment.start - segment.head;
            self.give(Pending::bare(at, segment.head), State::Overhead, sink);
        }
        let mut at = segment.start;
        if !segment.is_exact {
            // Something else may be in front, such as the thread-local data of a static program.
            let Some(first) = self.search(at, segment.end) else { return };
            at = first;
        }
        while at + HEADER <= segment.end {
            match self.step(at, segment.end, sink) {
                Next::At(next) => at = next,
                Next::End => break,
                Next::Broken => match self.resynchronize(at, segment.end, sink) {
                    Some(next) => at = next,
                    None => break,
                },
            }
        }
        self.settle(true, sink);
    }

    fn step(&mut self, at: u64, end: u64, sink: &mut dyn Sink) -> Next {
        let Some(header) = self.header(at, end) else {
            self.coverage.lost += end - at;
            return Next::End;
        };
        let is_top = self.is_top(at, header.size, end);
        let is_marker = header.size <= MARKER && end - at <= 4 * MARKER;
        let is_used = header.flags & PREVIOUS_IN_USE != 0;
        if is_top && header.size >= MARKER {
            self.settle(is_used, sink);
            self.give(Pending::bare(at, header.size.min(end - at)), State::Top, sink);
            return Next::End;
        }
        if is_marker {
            self.settle(is_used, sink);
            self.give(Pending::bare(at, end - at), State::Overhead, sink);
            return Next::End;
        }
        if header.size == MARKER {
            self.settle(is_used, sink);
            self.give(Pending::bare(at, MARKER), State::Overhead, sink);
            return Next::At(at + MARKER);
        }
        if !self.is_good(header.size, header.flags, end - at) {
            return Next::Broken;
        }
        if let Some(before) = &self.pending
            && !is_used
            && header.previous_size != before.size
        {
            self.coverage.breaks += 1;
        }
        self.settle(is_used, sink);
        self.pending = Some(header.chunk);
        Next::At(at + header.size)
    }

    /// Whether the chunk at `at` is the last one of the arena. The program may have moved the end
    /// of the arena since the arena was found.
    fn is_top(&mut self, at: u64, size: u64, end: u64) -> bool {
        if at == self.top {
            self.top = self.layout.top(self.target, self.arena.base);
        }
        at == self.top || size == end - at
    }

    fn header(&mut self, at: u64, end: u64) -> Option<Header> {
        let bytes = self.stream.bytes(at, HEADER + CONTENT as u64, end);
        let (header, content) = bytes.split_first_chunk::<{ HEADER as usize }>()?;
        let mut chunk = Pending::bare(at, 0);
        chunk.content_bytes = content.len();
        chunk.content[..content.len()].copy_from_slice(content);
        let [previous_size, size] =
            [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|byte| header[at + byte])));
        chunk.size = size & !FLAGS;
        Some(Header { previous_size, size: chunk.size, flags: size & FLAGS, chunk })
    }

    fn is_good(&self, size: u64, flags: u64, left: u64) -> bool {
        let is_own = !self.arena.is_main || flags & OTHER_ARENA == 0;
        size & 8 == 0 && size >= SMALLEST && size <= left && flags & IS_MAPPED == 0 && is_own
    }

    /// Gives the pending chunk to the sink: its successor is known now.
    fn settle(&mut self, is_used: bool, sink: &mut dyn Sink) {
        let Some(chunk) = self.pending.take() else { return };
        let state = match is_used {
            true => self.freed.state(chunk.at + HEADER, chunk.content()),
            false => State::Free,
        };
        if state == State::Free {
            self.count_trimmable(chunk.at, chunk.size);
        }
        self.give(chunk, state, sink);
    }

    fn give(&mut self, chunk: Pending, state: State, sink: &mut dyn Sink) {
        self.coverage.walked += chunk.size;
        let out = Chunk {
            address: chunk.at + HEADER,
            size: chunk.size,
            usable: chunk.size.saturating_sub(8),
            state,
            arena: self.number,
            count: 1,
        };
        sink.chunk(&out, chunk.content());
    }

    /// `malloc_trim` returns the whole pages of a free chunk behind its header and links.
    fn count_trimmable(&mut self, at: u64, size: u64) {
        let first = (at + 3 * HEADER).next_multiple_of(PAGE);
        let count = (at + size).saturating_sub(first) / PAGE;
        let mut left = count;
        let mut resident = 0;
        while left > 0 {
            let mut pages = vec![Present::Yes; left.min(4096) as usize];
            let start = first + (count - left) * PAGE;
            if !self.target.memory.pages(start, &mut pages) {
                pages.fill(Present::Yes);
            }
            resident += pages.iter().filter(|page| **page == Present::Yes).count() as u64;
            left -= pages.len() as u64;
        }
        *self.coverage.trimmable.get_or_insert(0) += resident * PAGE;
    }

    /// Goes on behind a place where the chain breaks; `None`: the rest of the segment is lost.
    fn resynchronize(&mut self, at: u64, end: u64, sink: &mut dyn Sink) -> Option<u64> {
        self.settle(true, sink);
        self.coverage.breaks += 1;
        let found = (self.coverage.breaks < MAX_SEARCHES).then(|| self.search(at + HEADER, end)).flatten();
        self.coverage.lost += found.unwrap_or(end) - at;
        self.coverage.resyncs += u64::from(found.is_some());
        found
    }

    /// The first address from which on the sizes of several chunks fit together.
    fn search(&mut self, from: u64, end: u64) -> Option<u64> {
        for piece in 0..SEARCHED {
            let start = from + piece * SEARCH;
            let size = SEARCH.min(end.saturating_sub(start));
            if size < HEADER {
                return None;
            }
            let bytes =
                read_present(&*self.target.memory, start, (size + SEARCH / 4).min(end - start) as usize);
            let places = (0..size).step_by(HEADER as usize);
            if let Some(found) = places.into_iter().find(|place| self.is_chain(&bytes, *place, (start, end)))
            {
                return Some(start + found);
            }
        }
        None
    }

    fn is_chain(&self, bytes: &[u8], from: u64, (start, end): (u64, u64)) -> bool {
        let word = |at: u64| {
            let bytes = bytes.get(usize::try_from(at).ok()?..)?;
            bytes.first_chunk::<8>().map(|word| u64::from_le_bytes(*word))
        };
        let mut at = from;
        for length in 0..CHAIN {
            if start + at == self.top {
                return true;
            }
            // What is beyond the piece that was read counts as good, after some chunks in it.
            let Some(head) = word(at + 8) else { return length >= 2 && start + at < end };
            let size = head & !FLAGS;
            if !self.is_good(size, head & FLAGS, end.saturating_sub(start + at)) {
                return false;
            }
            let next = at + size;
            let is_free = word(next + 8).is_some_and(|head| head & PREVIOUS_IN_USE == 0);
            if is_free && word(next) != Some(size) {
                return false;
            }
            at = next;
        }
        true
    }
}

impl Pending {
    /// A chunk without content.
    fn bare(at: u64, size: u64) -> Pending {
        Pending { at, size, content: [0; CONTENT], content_bytes: 0 }
    }

    fn content(&self) -> &[u8] {
        let usable = self.size.saturating_sub(8).min(CONTENT as u64) as usize;
        &self.content[..self.content_bytes.min(usable)]
    }
}
