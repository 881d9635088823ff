//! Computes the weights of all nodes: one pass over all frames, in parallel.
//!
//! Not here: edges ([`super::build`]).

use std::ops::Range;

use super::{Measure, Weight, Weights, nodes::Places};
use crate::profile::columns::{
    Columns,
    parallel::{in_parallel, threads},
};

/// The weights of all nodes. A recursive node counts once per sample.
pub fn weigh(columns: &Columns, places: &Places, measure: Measure) -> Vec<Weights> {
    let parts = in_parallel(
        parts(columns).into_iter().map(|part| move || weigh_part(columns, places, measure, part)).collect(),
    );
    let mut parts = parts.into_iter();
    let mut sums = parts.next().unwrap_or_default();
    for part in parts {
        for (sum, weights) in sums.iter_mut().zip(part) {
            sum.flat.add(weights.flat);
            sum.cum.add(weights.cum);
        }
    }
    sums
}

/// Ranges of samples for each processor; one range for small profiles.
pub(super) fn parts(columns: &Columns) -> Vec<Range<usize>> {
    let threads = if columns.frame_count() < 100_000 { 1 } else { threads() };
    let share = columns.sample_count().div_ceil(threads).max(1);
    (0..threads)
        .map(|at| (at * share).min(columns.sample_count())..((at + 1) * share).min(columns.sample_count()))
        .collect()
}

/// The data touched for each frame, adjacent in memory.
#[derive(Clone, Copy)]
struct Sum {
    cum: Weight,
    /// The last sample that contained the node.
    last: u32,
}

fn weigh_part(columns: &Columns, places: &Places, measure: Measure, samples: Range<usize>) -> Vec<Weights> {
    let mut sums = vec![Sum { cum: Weight::default(), last: u32::MAX }; places.infos.len()];
    let mut flats = vec![Weight::default(); places.infos.len()];
    for sample in samples {
        let Some(weight) = measure.weight(columns.values(sample)) else { continue };
        let stack = columns.stack(sample);
        for location in stack {
            for node in places.of(*location) {
                let sum = &mut sums[*node as usize];
                if sum.last != sample as u32 {
                    sum.last = sample as u32;
                    sum.cum.add(weight);
                }
            }
        }
        if let Some(leaf) = stack.first().and_then(|location| places.of(*location).first()) {
            flats[*leaf as usize].add(weight);
        }
    }
    sums.into_iter().zip(flats).map(|(Sum { cum, .. }, flat)| Weights { flat, cum }).collect()
}
