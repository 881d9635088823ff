//! The sampled objects of gperftools' tcmalloc: a ring of spans (`Span` of src/span.h) with a head
//! in `.bss`; each has one sampled object with its size and stack (`StackTrace` of src/common.h).
//!
//! Measured with 2.10, 2.16 and 2.18.1. Not here: google/tcmalloc, which samples differently.

use std::collections::BTreeMap;

use super::{
    super::Target,
    MAX_STACK_BYTES, Sampled, SampledStack, bytes_of, weight,
    words::{is_code, is_data, search, variable},
};

const NAME: &str = "tcmalloc of gperftools (TCMALLOC_SAMPLE_PARAMETER)";
/// The parameter that its manual recommends.
const DEFAULT_PERIOD: u64 = 512 << 10;
/// The most samples.
const MAX_SAMPLES: usize = 1 << 20;
/// The longest stack (`kMaxStackDepth`), and the largest object.
const MAX_FRAMES: u64 = 64;
const MAX_SIZE: u64 = 1 << 46;
/// Words of a span: next, previous, objects.
const NEXT: usize = 2;
const PREVIOUS: usize = 3;
const OBJECT: usize = 4;

/// Reads the ring; `None`: there is none, or it is empty.
pub fn read(target: &Target) -> Option<Sampled> {
    let samples = search(target, "tcmalloc", OBJECT + 1, &mut |head, words| {
        let (next, previous) = (words[NEXT], words[PREVIOUS]);
        let is_head = next != head && is_data(target, next) && is_data(target, previous);
        is_head.then(|| ring(target, head, next))?
    })?;
    let stated = variable(target, "TCMALLOC_SAMPLE_PARAMETER").and_then(|value| value.parse().ok());
    let period = stated.unwrap_or(DEFAULT_PERIOD);
    let mut stacks: BTreeMap<Vec<u64>, SampledStack> = BTreeMap::new();
    for (size, frames) in samples {
        let objects = weight(size as f64, period);
        let stack = stacks.entry(frames.clone()).or_insert(SampledStack {
            frames,
            samples: 0,
            objects: 0.0,
            bytes: 0.0,
        });
        stack.samples += 1;
        stack.objects += objects;
        stack.bytes += objects * size as f64;
    }
    let stacks = stacks.into_values().collect();
    Some(Sampled { allocator: NAME, period, is_period_assumed: stated.is_none(), stacks, broken: 0 })
}

/// The sizes and stacks of all objects of a ring; `None`: it is none, or changes.
fn ring(target: &Target, head: u64, first: u64) -> Option<Vec<(u64, Vec<u64>)>> {
    let (mut samples, mut before, mut at, mut bytes) = (Vec::new(), head, first, 0);
    while at != head {
        let words = target.memory.words(at, OBJECT + 1);
        let is_too_much = samples.len() >= MAX_SAMPLES || bytes > MAX_STACK_BYTES;
        if words.len() <= OBJECT || words[PREVIOUS] != before || is_too_much {
            return None;
        }
        let (size, frames) = object(target, words[OBJECT])?;
        bytes += bytes_of(&frames);
        samples.push((size, frames));
        (before, at) = (at, words[NEXT]);
    }
    Some(samples)
}

/// The size and stack of a sampled object.
fn object(target: &Target, at: u64) -> Option<(u64, Vec<u64>)> {
    let words = target.memory.words(at, 2);
    let &[size, depth] = &words[..] else { return None };
    if !(1..MAX_SIZE).contains(&size) || !(1..=MAX_FRAMES).contains(&depth) {
        return None;
    }
    let frames = target.memory.words(at + 16, depth as usize);
    (frames.len() == depth as usize && is_code(target, frames[0])).then_some((size, frames))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        budget::Budget,
        heap::{Image, Space},
        process::maps,
    };

    const HEAD: u64 = 0x20_0100;
    const CODE: u64 = 0x10_0000;
    const SPANS: u64 = 0x60_0000;

    fn target(change: &[(u64, u64)]) -> Target {
        let mut image = Image::default();
        image.add(0x20_0000, vec![0; 0x1000]);
        image.add(SPANS, vec![0; 0x1000]);
        let (a, b, object) = (SPANS + 0x100, SPANS + 0x200, SPANS + 0x300);
        for (at, word) in [
            (HEAD + 16, a),
            (HEAD + 24, b),
            (a + 16, b),
            (a + 24, HEAD),
            (a + 32, object),
            (b + 16, HEAD),
            (b + 24, a),
            (b + 32, object),
            (object, 1 << 30),
            (object + 8, 2),
            (object + 16, CODE + 4),
            (object + 24, CODE + 8),
        ] {
            image.set(at, word);
        }
        change.iter().for_each(|(at, word)| image.set(*at, *word));
        let space = Space::new(maps::parse(
            b"100000-200000 r-xp 0 fe:0 5 /usr/bin/app\n200000-201000 rw-p 0 fe:0 5 /usr/bin/app\n\
              600000-601000 rw-p 0 0:0 0 \n",
        ));
        Target::of(space, Box::new(image), &Budget::session())
    }

    #[test]
    fn the_objects_of_the_ring_are_added_up_by_stack() {
        let sampled = read(&target(&[])).expect("a ring");
        let stack = &sampled.stacks[0];
        assert_eq!((&stack.frames[..], stack.samples), (&[CODE + 4, CODE + 8][..], 2));
        assert!((stack.bytes / f64::from(1u32 << 31) - 1.0).abs() < 1e-6, "{stack:?}");
    }

    #[test]
    fn a_ring_that_is_not_closed_or_has_other_contents_is_none() {
        let (a, object) = (SPANS + 0x100, SPANS + 0x300);
        for change in [(a + 24, a), (a + 16, a), (object, 0), (object + 8, 65), (object + 16, SPANS)] {
            assert!(read(&target(&[change])).is_none(), "{change:x?}");
        }
    }
}
