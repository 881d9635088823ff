//! gperftools' CPU profiles: machine words of 32 or 64 bits in either byte order, then the memory
//! map as text. The third word distinguishes Java's variant.
//!
//! Not here: the part after the samples in Java's variant ([`super::java`]).

use super::{Draft, Refusal};
use rustc_hash::FxHashMap;

/// Size and byte order of the words.
#[derive(Clone, Copy)]
struct Words {
    size: usize,
    big_endian: bool,
}

impl Words {
    /// Removes and returns the first word.
    fn next(self, bytes: &mut &[u8]) -> Option<u64> {
        let (word, rest) = bytes.split_at_checked(self.size)?;
        *bytes = rest;
        let fold = |number: u64, byte: &u8| number << 8 | u64::from(*byte);
        Some(if self.big_endian { word.iter().fold(0, fold) } else { word.iter().rev().fold(0, fold) })
    }
}

pub(super) fn read(bytes: &[u8]) -> Result<Draft, Refusal> {
    for (size, big_endian) in [(4, false), (4, true), (8, false), (8, true)] {
        let words = Words { size, big_endian };
        let mut rest = bytes;
        let header: Option<Vec<u64>> = (0..5).map(|_| words.next(&mut rest)).collect();
        match header.as_deref() {
            Some([0, 3, 0, period, 0]) if *period > 0 => return native(rest, words, *period),
            Some([0, 3, 1, period, 0]) if *period > 0 => return of_java(rest, words, *period),
            _ => {}
        }
    }
    Err(Refusal::Unrecognized)
}

fn draft(period_us: u64) -> Draft {
    let kinds = [("samples", "count"), ("cpu", "nanoseconds")];
    Draft::new(&kinds, ("cpu", "nanoseconds"), (period_us as i64).wrapping_mul(1000))
}

fn native(bytes: &[u8], words: Words, period_us: u64) -> Result<Draft, Refusal> {
    let mut draft = draft(period_us);
    let rest = samples(bytes, words, true, &mut draft)?;
    drop_handler_frames(&mut draft);
    super::maps::apply(&mut draft, &String::from_utf8_lossy(rest))?;
    draft.drop_doubled_leaves();
    Ok(draft)
}

fn of_java(bytes: &[u8], words: Words, period_us: u64) -> Result<Draft, Refusal> {
    let mut draft = draft(period_us);
    let rest = samples(bytes, words, false, &mut draft)?;
    super::java::locations(&mut draft, &String::from_utf8_lossy(rest))?;
    Ok(draft)
}

/// Reads samples up to the end marker and returns the rest.
fn samples<'a>(
    mut bytes: &'a [u8],
    words: Words,
    adjust: bool,
    draft: &mut Draft,
) -> Result<&'a [u8], Refusal> {
    let period = draft.columns.header.period;
    while !bytes.is_empty() {
        let (count, depth) = (words.next(&mut bytes), words.next(&mut bytes));
        let (Some(count), Some(depth)) = (count, depth) else { return Err(Refusal::Unrecognized) };
        if depth > bytes.len() as u64 / 4 {
            return Err(Refusal::Unrecognized);
        }
        let mut addresses = Vec::new();
        for _ in 0..depth {
            match words.next(&mut bytes) {
                Some(address) => addresses.push(address),
                None => {
                    addresses.push(0);
                    bytes = &[];
                }
            }
        }
        if count == 0 && addresses == [0] {
            break;
        }
        let values = vec![count as i64, (count as i64).wrapping_mul(period)];
        draft.push(values, &addresses, None, |at| adjust && at > 0);
    }
    Ok(bytes)
}

/// Removes, at most twice, a caller that nearly all leaves have: the signal handler's frame.
fn drop_handler_frames(draft: &mut Draft) {
    let margin = draft.samples.len() / 32;
    for _ in 0..2 {
        let mut counts: FxHashMap<u32, usize> = FxHashMap::default();
        for sample in &draft.samples {
            if let [_, caller, ..] = sample.stack[..] {
                *counts.entry(caller).or_default() += 1;
            }
        }
        let enough = draft.samples.len() - margin;
        let Some((common, _)) = counts.into_iter().find(|(_, count)| *count >= enough) else { continue };
        for sample in &mut draft.samples {
            if sample.stack.get(1) == Some(&common) {
                sample.stack.remove(1);
            }
        }
    }
}
