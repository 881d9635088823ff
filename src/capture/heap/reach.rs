//! Who holds the chunks of a process, and which chunks nothing holds.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    super::{CaptureError, Request},
    report::{HeldRow, Leaks},
};
use crate::heap::{
    self, Amount, Certainty, Chunk, Index, Marks, Sink, Suspects, Tally, Target, TypeId, TypeName,
    class_size_of, mark, roots,
};

/// How many passes must agree that a chunk is unreachable.
const PASSES: u32 = 3;
/// How long after the end of a pass the next one begins.
const APART: Duration = Duration::from_millis(1100);
/// The holder of chunks that were not reached in the pass.
pub const UNREACHED: &str = "[not reached]";

/// A pass over all chunks of a process.
struct Pass {
    index: Index,
    marks: Marks,
    types: Vec<TypeName>,
}

/// Types each chunk and keeps it.
struct Indexer<'s, 't> {
    tally: &'s mut Tally<'t>,
    index: &'s mut Index,
}

impl Sink for Indexer<'_, '_> {
    fn chunk(&mut self, chunk: &Chunk, content: &[u8]) {
        self.tally.chunk(chunk, content);
        self.index.add(chunk, self.tally.last_type());
    }
}

impl Pass {
    fn take(target: &Target) -> Pass {
        let (mut tally, mut index, mut own_data) = (Tally::new(target), Index::default(), Vec::new());
        for found in heap::ALL.iter().filter_map(|allocator| allocator.detect(target)) {
            found.census(target, &mut Indexer { tally: &mut tally, index: &mut index });
            own_data.extend(found.own_data());
        }
        index.finish();
        let marks = mark(target, &index, &roots(target, &index, &own_data));
        Pass { index, marks, types: tally.finish().1 }
    }

    fn name(&self, of_type: TypeId) -> String {
        self.types[of_type as usize].text.clone()
    }
}

/// Who holds what: one pass.
pub fn holders(pid: u32, request: &Request) -> Result<Vec<(HeldRow, Amount)>, CaptureError> {
    let target = Target::open(pid, &request.symbolize.budget)?.with_threads();
    let pass = Pass::take(&target);
    let mut rows = BTreeMap::<(&str, TypeId, u64), Amount>::new();
    for chunk in 0..pass.index.len() as u32 {
        let (_, usable) = pass.index.content(chunk);
        let holder = pass.marks.holder(chunk).unwrap_or(UNREACHED);
        let key = (holder, pass.index.of_type(chunk), class_size_of(usable));
        rows.entry(key).or_default().add(Amount { count: 1, bytes: usable });
    }
    let row = |((holder, of_type, size), amount): ((&str, TypeId, u64), Amount)| {
        let is_named = pass.types[of_type as usize].certainty == Certainty::Named;
        (HeldRow { holder: holder.to_owned(), of_type: pass.name(of_type), is_named, size }, amount)
    };
    Ok(rows.into_iter().map(row).collect())
}

/// What nothing holds, in all of several passes.
pub fn leaks(pid: u32, request: &Request) -> Result<Leaks, CaptureError> {
    let (mut suspects, mut names, mut missing) = (Suspects::default(), Vec::new(), 0);
    let began = Instant::now();
    for pass in 0..PASSES {
        if pass > 0 {
            request.stop.wait(APART);
        }
        if request.stop.is_set() {
            break;
        }
        // Mappings and threads change between passes.
        let target = Target::open(pid, &request.symbolize.budget)?.with_threads();
        let pass = Pass::take(&target);
        suspects.add(&target, &pass.index, &pass.marks);
        // The suspects have the types of the last pass that counts.
        if pass.marks.cut.is_none() {
            missing = pass.index.missing;
            names = pass.types;
        }
    }
    let mut rows = BTreeMap::<(TypeId, u64), Amount>::new();
    for (_, chunk) in suspects.chunks() {
        let key = (chunk.of_type, class_size_of(chunk.size));
        rows.entry(key).or_default().add(Amount { count: 1, bytes: chunk.size });
    }
    let name = |of_type: TypeId| names.get(of_type as usize);
    let row = |((of_type, size), amount): ((TypeId, u64), Amount)| {
        let (text, is_named) = name(of_type)
            .map_or_else(Default::default, |name| (name.text.clone(), name.certainty == Certainty::Named));
        (HeldRow { holder: "[unreachable]".to_owned(), of_type: text, is_named, size }, amount)
    };
    let rows = rows.into_iter().map(row).collect();
    Ok(Leaks { rows, passes: suspects.passes, first_pass: suspects.first, missing, took: began.elapsed() })
}
