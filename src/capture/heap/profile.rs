//! A census as a profile. Its stacks are not calls: the root is the arena, below it the type, and
//! where nothing names the type, the size class. Each such name is in brackets or begins with `~`.

use super::{
    super::name::locations::{clamp, epoch_ns},
    format::size_class,
    report::{AllocatorReport, HeapReport},
};
use crate::{
    heap::{Certainty, Row},
    profile::{
        builder::{Builder, LabelValue, LineSpec, LocationId, MappingSpec},
        proto::Profile,
    },
};

/// The values of a sample.
const SAMPLE_TYPES: &[(&str, &str)] =
    &[("unused_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")];

/// The profile.
pub fn build(report: &HeapReport) -> Profile {
    let mut builder = Builder::new(SAMPLE_TYPES);
    builder.set_default_sample_type("inuse_space");
    builder.set_time(epoch_ns(report.taken_at), 0);
    let identity = &report.identity;
    builder.comment("kind: heap");
    builder.comment(&format!("target: {} (pid {})", identity.display_name(), identity.pid));
    builder.comment("synthetic stacks: arenas, types and sizes of chunks, not calls");
    for heap in &report.heaps {
        super::text::coverage_lines(heap).iter().for_each(|line| builder.comment(line));
        add(heap, &mut builder);
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
