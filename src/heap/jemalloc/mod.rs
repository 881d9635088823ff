//! jemalloc without its symbols: the counters of each arena's size classes.
//!
//! **Small sizes.** An arena (`arena_t`) has a bin (`bin_t`) for each of 36 size classes, with
//! counters (`bin_stats_t`: allocations, frees, requests, current regions …) and the slab in use
//! (`edata_t`), which states its size class. The array `arenas` in `.bss` points to the arenas. A
//! pointer is taken for one only if, in all bins, allocations minus frees are the current regions,
//! and every slab states the class of its bin. **Large sizes.** An array of counters per class
//! (`arena_stats_large_t`).
//!
//! Offsets differ between releases and builds: [`layouts`] has a row for each that was measured;
//! others are refused, because counters of a wrong class would pass unnoticed. Regions in thread
//! caches count as in use, as in jemalloc's own statistics. Not here: addresses of single regions,
//! sampled stacks (`prof:true`).

mod arenas;
mod layouts;
#[cfg(test)]
mod live_tests;

use arenas::{Arena, LargeClass, find};

use super::{Allocator, Chunk, Coverage, Heap, Sink, State, Target};

/// jemalloc.
pub struct Jemalloc;

const NAME: &str = "jemalloc";

impl Allocator for Jemalloc {
    fn name(&self) -> &'static str {
        NAME
    }

    fn detect(&self, target: &Target) -> Option<Box<dyn Heap>> {
        let (layout, arenas) = find(target)?;
        Some(Box::new(Found { layout, arenas }))
    }
}

/// jemalloc in a process.
struct Found {
    layout: &'static layouts::Layout,
    /// The addresses of the arenas.
    arenas: Vec<u64>,
}

/// How often an arena is read until its counters agree.
const TRIES: usize = 5;

impl Heap for Found {
    fn name(&self) -> String {
        format!("{NAME} ({})", self.layout.release)
    }

    fn census(&self, target: &Target, sink: &mut dyn Sink) -> Coverage {
        let started = std::time::Instant::now();
        let mut coverage = Coverage { arenas: self.arenas.len() as u32, ..Coverage::default() };
        for (index, address) in self.arenas.iter().enumerate() {
            // The process changes counters while they are read: the reading with the fewest
            // contradictions counts.
            let mut readings = (0..TRIES).filter_map(|_| Arena::read(target, self.layout, *address));
            let mut best = readings.next();
            for reading in readings {
                if best.as_ref().is_none_or(|best| best.contradictions == 0) {
                    break;
                }
                best = best.filter(|best| best.contradictions <= reading.contradictions).or(Some(reading));
            }
            match best {
                Some(arena) => arena.give(index as u32, sink, &mut coverage),
                None => coverage.breaks += 1,
            }
        }
        coverage.notes.push("jemalloc counts regions in thread caches as in use.".to_owned());
        coverage.took = started.elapsed();
        coverage
    }
}

impl Arena {
    fn give(&self, arena: u32, sink: &mut dyn Sink, coverage: &mut Coverage) {
        coverage.breaks += u64::from(self.contradictions);
        let mut give = |count: u64, size: u64, state: State| {
            if count > 0 {
                let bytes = count.saturating_mul(size);
                let chunk = Chunk { address: 0, size: bytes, usable: bytes, state, arena, count };
                coverage.walked = coverage.walked.saturating_add(bytes);
                sink.chunk(&chunk, &[]);
            }
        };
        for bin in &self.bins {
            give(bin.regions, bin.size, State::InUse);
            give(bin.free, bin.size, State::Free);
        }
        for LargeClass { size, count } in &self.large {
            give(*count, *size, State::InUse);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::Budget,
        heap::{Image, Space},
        process::maps,
    };

    const BSS: u64 = 0x20_0000;
    const ARENA: u64 = 0x70_0040;
    const SLAB: u64 = 0x60_0080;

    /// A process with one arena: 100 regions of 48 bytes (class 3) and 2 allocations of 20,480.
    fn target(change: impl Fn(&mut Image)) -> Target {
        let layout = &layouts::ROWS[0];
        let mut image = Image::default();
        image.add(BSS, vec![0; 0x1000]);
        image.add(0x60_0000, vec![0; 0x1000]);
        image.add(0x70_0000, vec![0; 0x18000]);
        image.set(BSS + 0x40, ARENA);
        let bin = ARENA + layout.bins + 3 * layout.stride;
        for (offset, word) in [(0, 150), (8, 50), (24, 100), (64, 2), (layout.slab, SLAB)] {
            image.set(bin + offset, word);
        }
        image.set(SLAB, (3 << layout.class_shift) | (1 << layout.slab_bit));
        for (offset, word) in [(0, 5), (8, 3)] {
            image.set(ARENA + layout.large + layout.large_stride + offset, word);
        }
        change(&mut image);
        let space = Space::new(maps::parse(
            b"100000-200000 r-xp 0 fe:0 5 /usr/lib/libjemalloc.so.2\n200000-201000 rw-p 0 fe:0 5 /usr/lib/libjemalloc.so.2\n\
              600000-601000 rw-p 0 0:0 0 \n700000-718000 rw-p 0 0:0 0 \n",
        ));
        Target::of(space, Box::new(image), &Budget::session())
    }

    #[derive(Default)]
    struct Sum(Vec<(u64, u64, State)>);

    impl Sink for Sum {
        fn chunk(&mut self, chunk: &Chunk, _: &[u8]) {
            self.0.push((chunk.size, chunk.count, chunk.state));
        }
    }

    #[test]
    fn the_counters_of_an_arena_are_chunks_by_size_class() {
        let target = target(|_| {});
        let heap = Jemalloc.detect(&target).expect("jemalloc");
        let mut sum = Sum::default();
        let coverage = heap.census(&target, &mut sum);
        assert_eq!(heap.name(), "jemalloc (5.3.0)");
        let slabs = 2 * 256 - 100;
        let expected =
            [(4800, 100, State::InUse), (slabs * 48, slabs, State::Free), (40960, 2, State::InUse)];
        assert_eq!((&sum.0[..], coverage.breaks, coverage.arenas), (&expected[..], 0, 1));
    }

    #[test]
    fn a_slab_of_another_class_or_counters_that_contradict_each_other_are_refused() {
        let layout = &layouts::ROWS[0];
        let bin = ARENA + layout.bins;
        for (at, word) in [
            (SLAB, (4 << layout.class_shift) | (1 << layout.slab_bit)),
            (SLAB, 3 << layout.class_shift),
            (bin + 3 * layout.stride + 24, 99),
            (bin + 7 * layout.stride, 1),
            (BSS + 0x40, ARENA + 64),
        ] {
            let target = target(|image| image.set(at, word));
            assert!(Jemalloc.detect(&target).is_none(), "{at:x} {word:x}");
        }
    }
}
