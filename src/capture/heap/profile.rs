//! A census as a profile. Its stacks are not calls: the root is the arena, below it the type, and
//! where nothing names the type, the size class. Each such name is in brackets or begins with `~`.

use super::{
    super::name::locations::{clamp, epoch_ns},
    format::size_class,
    report::{AllocatorReport, HeapReport, HeldRow},
};
use crate::{
    heap::{Amount, Certainty, Row},
    profile::{
        builder::{Builder, LabelValue, LineSpec, LocationId, MappingSpec},
        proto::Profile,
    },
};

/// The values of a sample.
const SAMPLE_TYPES: &[(&str, &str)] =
    &[("unused_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")];

/// The same of a profile of leaks.
const LEAK_TYPES: &[(&str, &str)] = &[("leaked_objects", "count"), ("leaked_space", "bytes")];

/// The profile: of leaks or of holders where they were requested, else of all chunks.
pub fn build(report: &HeapReport) -> Profile {
    let sample_types = if report.leaks.is_some() { LEAK_TYPES } else { SAMPLE_TYPES };
    let mut builder = Builder::new(sample_types);
    builder.set_default_sample_type(sample_types[sample_types.len() - 1].0);
    builder.set_time(epoch_ns(report.taken_at), 0);
    let identity = &report.identity;
    builder.comment("kind: heap");
    builder.comment(&format!("target: {} (pid {})", identity.display_name(), identity.pid));
    builder.comment("synthetic stacks: arenas, types and sizes of chunks, not calls");
    for heap in &report.heaps {
        super::text::coverage_lines(heap).iter().for_each(|line| builder.comment(line));
        if report.leaks.is_none() && report.holders.is_none() {
            add(heap, &mut builder);
        }
    }
    match (&report.leaks, &report.holders) {
        (Some(leaks), _) => add_held(&leaks.rows, |count, bytes| vec![count, bytes], &mut builder),
        (None, Some(rows)) => add_held(rows, |count, bytes| vec![0, count, bytes], &mut builder),
        (None, None) => {}
    }
    builder.comment(super::text::NO_STACKS);
    builder.comment(&format!("rprof: {}", env!("CARGO_PKG_VERSION")));
    builder.finish()
}

fn add(heap: &AllocatorReport, builder: &mut Builder) {
    for (row, amount) in &heap.rows {
        let stack = stack(heap, row, builder);
        let (count, bytes) = (clamp(amount.count), clamp(amount.bytes));
        let values = if row.state.is_in_use() { [0, count, bytes] } else { [bytes, 0, 0] };
        let mut labels = vec![("bytes", LabelValue::Number(clamp(row.size), "bytes"))];
        labels.push(("arena", LabelValue::Text(&heap.arenas[&row.arena])));
        labels.push(("state", LabelValue::Text(row.state.name())));
        builder.sample(&stack, &values, &labels);
    }
}

/// Adds chunks below their holders.
fn add_held(rows: &[(HeldRow, Amount)], values: impl Fn(i64, i64) -> Vec<i64>, builder: &mut Builder) {
    for (row, amount) in rows {
        let holder = match row.holder.starts_with('[') {
            true => row.holder.clone(),
            false => format!("[held by] {}", row.holder),
        };
        let of_type = if row.is_named { format!("[type] {}", row.of_type) } else { row.of_type.clone() };
        let names = [format!("[size: {}]", size_class(row.size)), of_type, holder];
        let stack: Vec<_> = names.iter().map(|name| frame(name, "", builder)).collect();
        let label = ("bytes", LabelValue::Number(clamp(row.size), "bytes"));
        builder.sample(&stack, &values(clamp(amount.count), clamp(amount.bytes)), &[label]);
    }
}

/// The frames of a row, leaf first.
fn stack(heap: &AllocatorReport, row: &Row, builder: &mut Builder) -> Vec<LocationId> {
    let root = format!("[heap: {} {}]", heap.name, heap.arenas[&row.arena]);
    let mut stack = vec![frame(&root, "", builder)];
    let type_name = heap.type_of(row);
    let size = format!("[size: {}]", size_class(row.size));
    if !row.state.is_in_use() {
        stack.push(frame(&format!("[{}]", row.state.name()), "", builder));
        stack.push(frame(&size, "", builder));
    } else if type_name.certainty == Certainty::Named {
        stack.push(frame(&format!("[type] {}", type_name.text), &type_name.module, builder));
    } else {
        stack.push(frame(&type_name.text, "", builder));
        stack.push(frame(&size, "", builder));
    }
    stack.reverse();
    stack
}

/// A frame that is not code: a function without an address, of the module that defines the type.
fn frame(name: &str, module: &str, builder: &mut Builder) -> LocationId {
    let filename = if module.is_empty() { "[heap]" } else { module };
    let mapping = builder.mapping(&MappingSpec { filename, symbolized: true, ..MappingSpec::default() });
    let function = builder.function(name, "", "", 0);
    builder.location(Some(mapping), 0, &[LineSpec { function, line: 0, column: 0 }])
}
