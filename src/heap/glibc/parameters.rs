//! The parameters of malloc (`struct malloc_par mp_`): where the main arena's heap begins, and how
//! many chunks have a mapping of their own.

use super::{
    arenas::Arenas,
    layouts::{PARAMETER_LAYOUTS, ParameterLayout},
};
use crate::heap::{Target, stream::read_present};

/// What is read of the parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parameters {
    /// The start of the main arena's heap.
    pub heap_start: u64,
    /// The number of chunks that have a mapping of their own.
    pub mapped_count: u32,
    /// Their bytes.
    pub mapped_bytes: u64,
}

/// How far from the main arena they are searched, in bytes: they are 0x900 to 0x940 before it.
const NEAR: u64 = 0x2000;
/// The default of `n_mmaps_max`.
const MAPPED_MAX: u32 = 65_536;

/// Finds the parameters near the main arena: the start of the heap that they have is that of a
/// mapping which holds the arena's memory. `None`: the main arena is not used, or they are not
/// there.
pub fn find(target: &Target, arenas: &Arenas) -> Option<Parameters> {
    let main = arenas.list.first()?;
    let from = main.base.saturating_sub(NEAR);
    let bytes = read_present(&*target.memory, from, 2 * NEAR as usize);
    let mut starts = (target.space.mappings().iter())
        .filter(|mapping| mapping.path == "[heap]" || (mapping.start.0..mapping.end.0).contains(&main.top))
        .map(|mapping| mapping.start.0..mapping.end.0);
    let heap = starts.next()?;
    let in_heap =
        |address: u64| heap.contains(&address) || starts.clone().any(|range| range.contains(&address));
    let places = (0..bytes.len()).step_by(8);
    let all = places.flat_map(|at| PARAMETER_LAYOUTS.iter().map(move |layout| (at, layout)));
    let mut found = all.filter_map(|(at, layout)| read(bytes.get(at..)?, layout));
    found.find(|parameters| in_heap(parameters.heap_start))
}

fn read(bytes: &[u8], layout: &ParameterLayout) -> Option<Parameters> {
    let word = |at: usize| bytes.get(at..)?.first_chunk::<8>().map(|word| u64::from_le_bytes(*word));
    let half = |at: usize| bytes.get(at..)?.first_chunk::<4>().map(|word| u32::from_le_bytes(*word));
    let (mapped_count, most) = (half(layout.mapped_count)?, half(layout.mapped_count + 4)?);
    let (mapped_bytes, heap_start) = (word(layout.mapped_bytes)?, word(layout.heap_start)?);
    let is_plausible = mapped_count <= most
        && most == MAPPED_MAX
        && mapped_bytes % 4096 == 0
        && (mapped_count == 0) == (mapped_bytes == 0);
    is_plausible.then_some(Parameters { heap_start, mapped_count, mapped_bytes })
}
