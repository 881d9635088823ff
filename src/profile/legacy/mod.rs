//! The formats that came before profile.proto: gperftools' binary CPU profiles and text heap
//! profiles, growth, contention and thread listings, Go's counted stacks, Java's profiles; and
//! jemalloc's heap profiles, which are similar.
//!
//! Not here: profile.proto itself ([`super::columns::decode`]). The formats and their quirks are
//! those that google/pprof's `profile` package reads (all but jemalloc's).

use rustc_hash::FxHashMap;

use crate::profile::columns::{Columns, Label, Location, NONE, SampleKind, error::ReadError};

mod cpu;
mod frames;
mod heap;
mod java;
mod jemalloc;
mod maps;
mod text;

/// Why a reader gave up.
enum Refusal {
    /// Not this format; another may fit.
    Unrecognized,
    /// This format, but damaged.
    Broken(String),
}

impl Refusal {
    fn malformed() -> Refusal {
        Refusal::Broken("malformed profile format".into())
    }
}

type Reader = fn(&[u8]) -> Result<Draft, Refusal>;

const READERS: [Reader; 7] = [
    cpu::read,
    heap::read,
    text::read_counts,
    text::read_threads,
    text::read_contention,
    java::read,
    jemalloc::read,
];

/// Reads a profile of any of the older formats.
pub fn read(bytes: &[u8]) -> Result<Columns, ReadError> {
    let answer = read_each(bytes).find(|answer| !matches!(answer, Err(ReadError::Unrecognized)));
    answer.unwrap_or(Err(ReadError::Unrecognized))
}

/// The result of each reader for `bytes`, in the order of trying.
pub fn read_each(bytes: &[u8]) -> impl Iterator<Item = Result<Columns, ReadError>> {
    READERS.iter().map(move |reader| match reader(bytes) {
        Ok(draft) => Ok(frames::name(draft.finish())),
        Err(Refusal::Unrecognized) => Err(ReadError::Unrecognized),
        Err(Refusal::Broken(why)) => Err(ReadError::Legacy(why)),
    })
}

/// A profile while its text is being read: stacks of addresses.
#[derive(Default)]
struct Draft {
    columns: Columns,
    places: FxHashMap<u64, u32>,
    samples: Vec<DraftSample>,
}

struct DraftSample {
    values: Vec<i64>,
    /// Rows of `columns.locations`.
    stack: Vec<u32>,
    bytes: Option<i64>,
}

impl Draft {
    /// `kinds` and the period's kind as (name, unit).
    fn new(kinds: &[(&str, &str)], period_kind: (&str, &str), period: i64) -> Draft {
        let mut draft = Draft::default();
        draft.set_kinds(kinds);
        draft.columns.header.period_kind = draft.kind(period_kind);
        draft.columns.header.period = period;
        draft
    }

    fn kind(&mut self, (name, unit): (&str, &str)) -> SampleKind {
        SampleKind { name: self.columns.intern(name), unit: self.columns.intern(unit) }
    }

    fn set_kinds(&mut self, kinds: &[(&str, &str)]) {
        self.columns.header.kinds = kinds.iter().map(|kind| self.kind(*kind)).collect();
    }

    /// The row of the location at `address`; added if it is new.
    fn place(&mut self, address: u64) -> u32 {
        let new = self.columns.locations.len() as u32;
        let row = *self.places.entry(address).or_insert(new);
        if row == new {
            self.columns.locations.push(Location { mapping: NONE, address, ..Location::default() });
        }
        row
    }

    /// Adds a sample. `adjust` decides by position whether an address is a return address, which
    /// points after its call.
    fn push(
        &mut self,
        values: Vec<i64>,
        addresses: &[u64],
        bytes: Option<i64>,
        adjust: impl Fn(usize) -> bool,
    ) {
        let address = |(at, address): (usize, &u64)| address.wrapping_sub(u64::from(adjust(at)));
        let addresses: Vec<u64> = addresses.iter().enumerate().map(address).collect();
        let stack = addresses.into_iter().map(|address| self.place(address)).collect();
        self.samples.push(DraftSample { values, stack, bytes });
    }

    fn address(&self, row: u32) -> u64 {
        self.columns.locations[row as usize].address
    }

    /// Drops a second frame that equals the first after adjustment.
    fn drop_doubled_leaves(&mut self) {
        let mut samples = std::mem::take(&mut self.samples);
        for sample in &mut samples {
            if let [leaf, caller, ..] = sample.stack[..]
                && self.address(leaf) == self.address(caller).wrapping_add(1)
            {
                sample.stack.remove(1);
            }
        }
        self.samples = samples;
    }

    /// Numbers locations in the order of first use by samples, and drops unused ones.
    fn number_locations(&mut self) {
        let mut rows = vec![NONE; self.columns.locations.len()];
        let mut locations = Vec::new();
        for sample in &mut self.samples {
            for place in &mut sample.stack {
                let row = &mut rows[*place as usize];
                if *row == NONE {
                    *row = locations.len() as u32;
                    let location = self.columns.locations[*place as usize].clone();
                    locations.push(Location { id: u64::from(*row) + 1, ..location });
                }
                *place = *row;
            }
        }
        self.columns.locations = locations;
        self.places.clear();
    }

    fn finish(mut self) -> Columns {
        let key = self.columns.intern("bytes");
        for sample in &self.samples {
            // A zero without a unit is kept: these labels were never encoded.
            let label = sample.bytes.map(|bytes| Label::number(key, bytes, 0));
            self.columns.push_sample(&sample.values, &sample.stack, label.as_slice());
        }
        self.columns
    }
}

/// Lines as returned by Go's scanner: without line endings.
struct Lines<'a> {
    rest: std::str::Lines<'a>,
    current: &'a str,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str) -> Lines<'a> {
        Lines { rest: text.lines(), current: "" }
    }

    /// Moves to the next line; at the end, the current line is empty.
    fn advance(&mut self) -> bool {
        let next = self.rest.next();
        self.current = next.unwrap_or("");
        next.is_some()
    }

    /// Skips empty lines and comments.
    fn skip_comments(&mut self) {
        while self.advance() && is_blank_or_comment(self.current) {}
    }
}

fn is_blank_or_comment(line: &str) -> bool {
    let line = line.trim();
    line.is_empty() || line.starts_with('#')
}

/// All `0x…` numbers of a text.
fn hex_addresses(text: &str) -> Result<Vec<u64>, String> {
    let mut addresses = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("0x") {
        let digits = &rest[at + 2..];
        let is_digit = |letter: char| letter.is_ascii_digit() || ('a'..='f').contains(&letter);
        let length = digits.find(|letter| !is_digit(letter)).unwrap_or(digits.len());
        if length > 0 {
            let read = u64::from_str_radix(&digits[..length], 16);
            let number = &rest[at..at + 2 + length];
            let failed = |_| format!("failed to parse as hex 64-bit number: {number}");
            addresses.push(read.map_err(failed)?);
        }
        rest = &digits[length..];
    }
    Ok(addresses)
}
