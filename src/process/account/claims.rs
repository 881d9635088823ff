//! Which addresses belong to what, beside what the names of mappings say.
//!
//! Not here: how much of them is resident (`parts`).

use std::ops::Range;

use super::{OwnedRange, libc_heap, stacks};
use crate::process::{ProcessMemory, regions::Region};

/// The most ranges: a heap of 64 GiB has as many pages of 256 KiB.
const MAX_CLAIMS: usize = 1 << 18;

/// Addresses and the name of their part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The addresses.
    pub range: Range<u64>,
    /// The part.
    pub part: String,
}

/// All claims, in ascending order, without overlaps: what runtimes state takes precedence.
pub fn find(pid: u32, memory: &ProcessMemory, regions: &[Region], owned: &[OwnedRange]) -> Vec<Claim> {
    let mut claims = Claims::default();
    claims.add(owned.iter().map(|owned| Claim { range: owned.range.clone(), part: owned.part.clone() }));
    claims.add(named(stacks::find(pid, regions), stacks::PART));
    let is_free = |range: &Range<u64>| claims.is_free(range);
    let heap = libc_heap::find(memory, regions, &is_free);
    claims.add(named(heap, libc_heap::PART));
    claims.0
}

fn named(ranges: Vec<Range<u64>>, part: &'static str) -> impl Iterator<Item = Claim> {
    ranges.into_iter().map(move |range| Claim { range, part: part.to_owned() })
}

#[derive(Default)]
struct Claims(Vec<Claim>);

impl Claims {
    /// Whether no claim overlaps a range.
    fn is_free(&self, range: &Range<u64>) -> bool {
        let next = self.0.partition_point(|claim| claim.range.end <= range.start);
        self.0.get(next).is_none_or(|claim| range.end <= claim.range.start)
    }

    /// Adds what overlaps no claim; of claims that are added together, the lower address wins.
    fn add(&mut self, more: impl Iterator<Item = Claim>) {
        let room = MAX_CLAIMS.saturating_sub(self.0.len());
        let is_new = |claim: &Claim| claim.range.start < claim.range.end && self.is_free(&claim.range);
        let mut new: Vec<Claim> = more.filter(is_new).take(room).collect();
        new.sort_by_key(|claim| claim.range.start);
        let mut end = 0;
        new.retain_mut(|claim| {
            claim.range.start = claim.range.start.max(end);
            end = end.max(claim.range.end);
            claim.range.start < claim.range.end
        });
        self.0.append(&mut new);
        self.0.sort_by_key(|claim| claim.range.start);
        // Neighbours of the same part are one: a heap of pages becomes a few ranges.
        self.0.dedup_by(|next, claim| {
            let joins = next.range.start == claim.range.end && next.part == claim.part;
            if joins {
                claim.range.end = next.range.end;
            }
            joins
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn claims_do_not_overlap_and_the_first_ones_win() {
        let claim = |range: Range<u64>, part: &str| Claim { range, part: part.to_owned() };
        let mut claims = Claims::default();
        claims
            .add([claim(30..40, "a"), claim(10..20, "a"), claim(15..25, "a"), claim(5..5, "a")].into_iter());
        assert_eq!(claims.0, [claim(10..25, "a"), claim(30..40, "a")]);
        claims.add([claim(24..28, "b"), claim(25..30, "b")].into_iter());
        assert_eq!(claims.0, [claim(10..25, "a"), claim(25..30, "b"), claim(30..40, "a")]);
        assert!(claims.is_free(&(0..10)) && claims.is_free(&(40..50)) && !claims.is_free(&(39..41)));
    }
}
