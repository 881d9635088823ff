//! jemalloc's table of sampled stacks (`bt2gctx` of src/prof_data.c), a hash table: {random state,
//! count, log2 of least size, log2 of size, hash function, comparison, cells}. Each cell has a
//! stack (`prof_bt_t`) and its counters by thread (`prof_gctx_t`, a tree of `prof_tctx_t`). The
//! stack is inside the latter, at an offset that is the same in all cells and differs by release.
//!
//! Measured with 5.2.1, 5.3.0 and 5.3.1. Not here: allocations that were not sampled.

use super::{
    super::Target,
    MAX_STACK_BYTES, Sampled, SampledStack, bytes_of, weight,
    words::{is_code, is_data, search, variable},
};
use crate::budget::Resource;

const NAME: &str = "jemalloc (prof:true)";
/// The default of `lg_prof_sample`.
const DEFAULT_LG_SAMPLE: u32 = 19;
/// The most stacks, the most cells, the longest stack (`PROF_BT_MAX`), the most threads of a stack.
const MAX_STACKS: u64 = 1 << 24;
const MAX_LG_CELLS: u64 = 22;
const MAX_FRAMES: u64 = 128;
const MAX_THREADS: usize = 1 << 16;
/// Counters above this are none.
const MAX_COUNT: u64 = 1 << 50;

/// Offsets of a release.
struct Layout {
    /// From the counters of a stack to its frames' list: pointer, then a 32-bit length; then the
    /// frames themselves.
    stack: u64,
    /// In a thread's counters: the numbers, the stack's counters, the tree's links.
    counters: usize,
    owner: usize,
    links: usize,
    /// Words from one number to the next one that is used.
    step: usize,
}

const TREE: u64 = 16;
/// To 5.2, and from 5.3 on, where each number is followed by its unbiased estimate.
const LAYOUTS: [Layout; 2] = [
    Layout { stack: 72, counters: 24, owner: 56, links: 72, step: 1 },
    Layout { stack: 104, counters: 32, owner: 96, links: 112, step: 2 },
];

/// Reads the table; `None`: there is none, or it is empty.
pub fn read(target: &Target) -> Option<Sampled> {
    let (layout, cells) = search(target, "jemalloc", 7, &mut |_, words| table(target, words))?;
    let options = variable(target, "MALLOC_CONF").unwrap_or_default();
    let stated = options.split(',').find_map(|option| option.strip_prefix("lg_prof_sample:")?.parse().ok());
    let period = 1u64 << stated.unwrap_or(DEFAULT_LG_SAMPLE).min(40);
    let mut sampled = Sampled {
        allocator: NAME,
        period,
        is_period_assumed: stated.is_none(),
        stacks: Vec::new(),
        broken: 0,
    };
    let mut bytes = 0;
    for cell in cells {
        if bytes > MAX_STACK_BYTES {
            sampled.broken += 1;
            continue;
        }
        match layout.stack(target, cell, period) {
            Some(stack) if stack.samples > 0 => {
                bytes += bytes_of(&stack.frames);
                sampled.stacks.push(stack);
            }
            Some(_) => {}
            None => sampled.broken += 1,
        }
    }
    Some(sampled)
}

/// The counters of the stacks in the table that begins with these words; `None`: it is none.
fn table(target: &Target, words: &[u64]) -> Option<(&'static Layout, Vec<u64>)> {
    let &[_, count, sizes, hash, compare, cells, _] = words else { return None };
    let (least, log2) = (sizes & 0xffff_ffff, sizes >> 32);
    let is_table = (1..MAX_STACKS).contains(&count)
        && (1..=log2).contains(&least)
        && log2 <= MAX_LG_CELLS
        && hash != compare
        && is_data(target, cells)
        && is_code(target, hash)
        && is_code(target, compare);
    // A bucket has four cells.
    let count = is_table.then_some(4usize << log2)?;
    target.budget.take(Resource::Work, count as u64 * 16).ok()?;
    let words = target.memory.words(cells, count * 2);
    if words.len() < count * 2 {
        return None;
    }
    let used = || words.as_chunks::<2>().0.iter().filter(|cell| cell[0] != 0);
    let offset = used().next().map(|[stack, counters]| stack.wrapping_sub(*counters))?;
    let layout = LAYOUTS.iter().find(|layout| layout.stack == offset)?;
    let is_alike = used().all(|[stack, counters]| stack.wrapping_sub(*counters) == offset);
    is_alike.then(|| (layout, used().map(|cell| cell[1]).collect()))
}

impl Layout {
    /// A stack with the sums of its threads' counters; `None`: it does not make sense.
    fn stack(&self, target: &Target, at: u64, period: u64) -> Option<SampledStack> {
        let memory = &*target.memory;
        let words = memory.words(at.checked_add(self.stack)?, 2);
        let &[frames, length] = &words[..] else { return None };
        let length = length & 0xffff_ffff;
        if frames != at + self.stack + 16 || length == 0 || length > MAX_FRAMES {
            return None;
        }
        let frames = memory.words(frames, length as usize);
        let mut stack = SampledStack { frames, samples: 0, objects: 0.0, bytes: 0.0 };
        let (mut next, mut left) = (vec![memory.word(at.checked_add(TREE)?)?], MAX_THREADS);
        while let Some(thread) = next.pop() {
            if thread == 0 {
                continue;
            }
            left = left.checked_sub(1)?;
            let words = memory.words(thread, self.links / 8 + 2);
            if words.len() < self.links / 8 + 2 || words[self.owner / 8] != at {
                return None;
            }
            self.add(&words[self.counters / 8..], period, &mut stack)?;
            // The lowest bit of the right link is the node's colour.
            next.extend([words[self.links / 8], words[self.links / 8 + 1] & !1]);
        }
        Some(stack)
    }

    /// Adds the counters of a thread: objects and bytes.
    fn add(&self, counters: &[u64], period: u64, stack: &mut SampledStack) -> Option<()> {
        let (objects, bytes) = (*counters.first()?, *counters.get(self.step)?);
        if objects >= MAX_COUNT || bytes >= MAX_COUNT || objects == 0 {
            return (objects < MAX_COUNT && bytes < MAX_COUNT).then_some(());
        }
        let size = bytes as f64 / objects as f64;
        let factor = weight(size, period);
        stack.samples += objects;
        // 5.3 keeps the estimate itself, for the period that it really has.
        let unbiased = if self.step == 2 { *counters.get(3)? } else { 0 };
        let estimate =
            if unbiased > 0 && unbiased < MAX_COUNT { unbiased as f64 } else { bytes as f64 * factor };
        stack.bytes += estimate;
        stack.objects += if size > 0.0 { estimate / size } else { 0.0 };
        Some(())
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

    const DATA: u64 = 0x20_0000;
    const CODE: u64 = 0x10_0000;
    const CELLS: u64 = 0x60_0000;
    const STACK: u64 = 0x60_1000;
    const THREAD: u64 = 0x60_2000;

    fn target(layout: &Layout, change: &[(u64, u64)]) -> Target {
        let mut image = Image::default();
        image.add(DATA, vec![0; 0x1000]);
        image.add(CELLS, vec![0; 0x3000]);
        let table = [7, 1, (2 << 32) | 2, CODE, CODE + 64, CELLS];
        table.iter().enumerate().for_each(|(index, word)| image.set(DATA + 0x80 + index as u64 * 8, *word));
        let thread = THREAD + layout.counters as u64;
        for (at, word) in [
            (CELLS + 5 * 16, STACK + layout.stack),
            (CELLS + 5 * 16 + 8, STACK),
            (STACK + TREE, THREAD),
            (STACK + layout.stack, STACK + layout.stack + 16),
            (STACK + layout.stack + 8, 2),
            (STACK + layout.stack + 16, CODE + 5),
            (STACK + layout.stack + 24, CODE + 9),
            (THREAD + layout.owner as u64, STACK),
            (thread, 3),
            (thread + layout.step as u64 * 8, 3 << 30),
        ] {
            image.set(at, word);
        }
        change.iter().for_each(|(at, word)| image.set(*at, *word));
        let space = Space::new(maps::parse(
            b"100000-200000 r-xp 0 fe:0 5 /usr/bin/app\n200000-201000 rw-p 0 fe:0 5 /usr/bin/app\n\
              600000-603000 rw-p 0 0:0 0 \n",
        ));
        Target::of(space, Box::new(image), &Budget::session())
    }

    #[test]
    fn the_stacks_of_both_layouts_are_read() {
        for layout in &LAYOUTS {
            let sampled = read(&target(layout, &[])).expect("a table");
            let stack = &sampled.stacks[0];
            assert_eq!((&stack.frames[..], stack.samples), (&[CODE + 5, CODE + 9][..], 3));
            assert!((stack.bytes / f64::from(3u32 << 30) - 1.0).abs() < 1e-6, "{stack:?}");
            assert_eq!((sampled.broken, sampled.is_period_assumed), (0, true));
        }
    }

    #[test]
    fn what_does_not_make_sense_is_passed_over() {
        let layout = &LAYOUTS[1];
        let broken = [
            (STACK + layout.stack, STACK),
            (STACK + layout.stack + 8, 1 << 20),
            (THREAD + layout.owner as u64, 1),
            (THREAD + layout.counters as u64, u64::MAX),
            // A circle of threads.
            (THREAD + layout.links as u64, THREAD),
        ];
        for change in broken {
            let sampled = read(&target(layout, &[change])).expect("a table");
            assert_eq!((sampled.stacks.len(), sampled.broken), (0, 1), "{change:x?}");
        }
        for change in [(DATA + 0x88, 0), (DATA + 0x98, CELLS), (CELLS + 5 * 16, STACK + 80)] {
            assert!(read(&target(layout, &[change])).is_none(), "{change:x?}");
        }
    }
}
