//! An invented process with a small glibc heap, as an image: tests and the fuzzer damage it and
//! walk it.

use super::{Image, Index, Sink, Space, Tally, Target, mark::mark, registry, roots::roots};
use crate::{budget::Budget, heap::Chunk, process::maps};

/// The mappings: a C library with its data, and a heap.
const MAPS: &[u8] = b"50000000-50010000 rw-p 0 0:0 0 [heap]\n\
    700000000000-700000001000 r-xp 0 fe:0 5 /lib/libc.so.6\n\
    700000001000-700000004000 rw-p 1000 fe:0 5 /lib/libc.so.6\n";
/// The first address of the heap.
pub const HEAP: u64 = 0x5000_0000;
/// The bytes of the heap.
pub const HEAP_BYTES: u64 = 0x10000;
/// The data of the C library.
const DATA: u64 = 0x7000_0000_1000;
/// The main arena in it: glibc 2.36.
pub const ARENA: u64 = DATA + 0x1000;
const BINS: u64 = ARENA + 112;

/// An image whose heap has chunks of these sizes, each followed by its use; the rest is the top.
pub fn image(chunks: &[(u64, bool)]) -> Image {
    let mut image = Image::default();
    image.add(DATA, vec![0; 0x3000]);
    image.add(HEAP, vec![0; HEAP_BYTES as usize]);
    let (mut at, mut flag) = (HEAP, 1);
    for (size, is_used) in chunks {
        image.set(at + 8, size | flag);
        flag = u64::from(*is_used);
        at += size;
        if !is_used {
            image.set(at, *size);
        }
    }
    image.set(at + 8, (HEAP + HEAP_BYTES - at) | flag);
    for bin in 0..127 {
        let own = BINS + bin * 16 - 16;
        image.set(BINS + bin * 16, own);
        image.set(BINS + bin * 16 + 8, own);
    }
    image.set(BINS - 16, at);
    image.set(BINS + 2048, ARENA);
    image.set(BINS + 2064, 1);
    image.set(BINS + 2072, HEAP_BYTES);
    image.set(BINS + 2080, HEAP_BYTES);
    // The parameters, as in 2.36.
    image.set(ARENA - 0x920 + 64, 65_536);
    image.set(ARENA - 0x920 + 96, HEAP);
    image
}

/// The process with this memory.
pub fn target(image: Image, budget: &Budget) -> Target {
    Target::of(Space::new(maps::parse(MAPS)), Box::new(image), budget)
}

/// Walks an invented heap, in which `bytes` have replaced words: pairs of a place, in words from
/// the start of the heap or the library's data, and a word. For fuzzing: any bytes must end.
pub fn walk_damaged(bytes: &[u8]) {
    let mut image =
        image(&[(0x30, true), (0x50, false), (0x40, true), (0x800, true), (0x20, false), (0x90, true)]);
    for (place, word) in bytes.as_chunks::<12>().0.iter().map(|entry| entry.split_at(4)) {
        let place = u32::from_le_bytes(std::array::from_fn(|at| place[at]));
        let word = u64::from_le_bytes(std::array::from_fn(|at| word[at]));
        let from = if place & 1 == 0 { HEAP } else { DATA };
        image.set(from + u64::from(place >> 1) % 0x2000 * 8, word);
    }
    let budget = Budget::session().process();
    let target = target(image, &budget);
    for heap in registry::ALL.iter().filter_map(|allocator| allocator.detect(&target)) {
        let (mut index, mut tally) = (Index::default(), Tally::new(&target));
        let coverage = heap.census(&target, &mut Both(&mut index, &mut tally));
        assert!(coverage.lost <= 1 << 20, "{coverage:?}");
        index.finish();
        mark(&target, &index, &roots(&target, &index, &heap.own_data()));
    }
}

struct Both<'b, 't>(&'b mut Index, &'b mut Tally<'t>);

impl Sink for Both<'_, '_> {
    fn chunk(&mut self, chunk: &Chunk, content: &[u8]) {
        self.1.chunk(chunk, content);
        self.0.add(chunk, self.1.last_type());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Coverage, State},
        *,
    };

    #[derive(Default)]
    struct List(Vec<(u64, u64, State)>);

    impl Sink for List {
        fn chunk(&mut self, chunk: &Chunk, _: &[u8]) {
            self.0.push((chunk.address - HEAP, chunk.size, chunk.state));
        }
    }

    fn census(image: Image) -> (Vec<(u64, u64, State)>, Coverage) {
        let budget = Budget::session();
        let target = target(image, &budget);
        let heap = registry::ALL.iter().find_map(|allocator| allocator.detect(&target)).expect("glibc");
        let mut list = List::default();
        let coverage = heap.census(&target, &mut list);
        (list.0, coverage)
    }

    #[test]
    fn chunks_have_the_state_that_their_successor_states() {
        let (list, coverage) = census(image(&[(0x30, true), (0x50, false), (0x40, true)]));
        let expected = [
            (0x10, 0x30, State::InUse),
            (0x40, 0x50, State::Free),
            (0x90, 0x40, State::InUse),
            (0xd0, HEAP_BYTES - 0xc0, State::Top),
        ];
        assert_eq!(list, expected);
        assert_eq!((coverage.share(), coverage.breaks, coverage.lost), (Some(1.0), 0, 0));
    }

    #[test]
    fn a_fast_list_is_followed_and_a_ring_in_it_ends() {
        let mut image = image(&[(0x20, true), (0x20, true), (0x20, true)]);
        image.set(ARENA + 16, HEAP + 0x20);
        image.set(HEAP + 0x20 + 16, HEAP + 0x40);
        image.set(HEAP + 0x40 + 16, HEAP + 0x20);
        let (list, coverage) = census(image);
        let states: Vec<State> = list.iter().map(|(_, _, state)| *state).collect();
        assert_eq!(states, [State::InUse, State::FastList, State::FastList, State::Top]);
        assert!(coverage.breaks > 0);
    }

    #[test]
    fn a_broken_chain_is_counted_and_the_walk_goes_on_behind_it() {
        let sizes: Vec<(u64, bool)> = (0..40).map(|_| (0x40, true)).collect();
        let mut image = image(&sizes);
        image.set(HEAP + 0x40 * 10 + 8, 0xdead_beef_dead_beef);
        let (list, coverage) = census(image);
        assert_eq!((coverage.breaks, coverage.resyncs, coverage.lost), (1, 1, 0x40), "{coverage:?}");
        let walked: u64 = list.iter().map(|(_, size, _)| size).sum();
        assert_eq!(walked, HEAP_BYTES - 0x40);
    }

    #[test]
    fn memory_without_arenas_is_not_a_heap_of_glibc() {
        let mut image = image(&[(0x20, true)]);
        (0..127).for_each(|bin| image.set(BINS + bin * 16, 0x1234_5678));
        let budget = Budget::session();
        let target = target(image, &budget);
        assert!(registry::ALL.iter().all(|allocator| allocator.detect(&target).is_none()));
    }

    proptest! {
        #[test]
        fn damaged_heaps_end(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            walk_damaged(&bytes);
        }
    }
}
