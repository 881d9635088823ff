//! A census as JSON.

use serde_json::{Value, json};

use super::report::{AllocatorReport, HeapReport, HeldRow};
use crate::heap::{Amount, Certainty, State};

/// The census, complete.
pub fn json(report: &HeapReport) -> Value {
    json!({
        "pid": report.identity.pid,
        "name": report.identity.display_name(),
        "took_seconds": report.took.as_secs_f64(),
        "holders": report.holders.as_deref().map(held),
        "leaks": report.leaks.as_ref().map(|leaks| json!({
            "passes": leaks.passes,
            "first_pass_count": leaks.first_pass,
            "not_examined_count": leaks.missing,
            "took_seconds": leaks.took.as_secs_f64(),
            "sum": amount(leaks.sum()),
            "rows": held(&leaks.rows),
        })),
        "allocators": report.heaps.iter().map(allocator).collect::<Vec<_>>(),
    })
}

fn held(rows: &[(HeldRow, Amount)]) -> Value {
    let row = |(row, sum): &(HeldRow, Amount)| {
        json!({
            "holder": row.holder,
            "type": row.of_type,
            "is_named": row.is_named,
            "size_class": row.size,
            "count": sum.count,
            "bytes": sum.bytes,
        })
    };
    rows.iter().map(row).collect()
}

fn allocator(heap: &AllocatorReport) -> Value {
    let coverage = &heap.coverage;
    let states = State::ALL.map(|state| (state.name().to_owned(), amount(heap.in_state(state))));
    let rows = heap.rows.iter().map(|(row, sum)| {
        let name = heap.type_of(row);
        json!({
            "arena": heap.arenas[&row.arena],
            "state": row.state.name(),
            "size_class": row.size,
            "type": (name.certainty != Certainty::Unknown).then_some(&name.text),
            "is_named": name.certainty == Certainty::Named,
            "count": sum.count,
            "bytes": sum.bytes,
        })
    });
    json!({
        "name": heap.name,
        "in_use": amount(heap.in_use()),
        "states": serde_json::Map::from_iter(states),
        "trimmable_bytes": coverage.trimmable,
        "typed_bytes": {
            "named": heap.certain(Certainty::Named),
            "shape": heap.certain(Certainty::Shape),
            "unknown": heap.certain(Certainty::Unknown),
        },
        "coverage": {
            "walked_bytes": coverage.walked,
            "allocator_bytes": coverage.own_total,
            "share": coverage.share(),
            "arenas": coverage.arenas,
            "breaks": coverage.breaks,
            "resyncs": coverage.resyncs,
            "lost_bytes": coverage.lost,
            "untouched_bytes": coverage.untouched,
            "swapped_bytes": coverage.swapped,
            "thread_caches": coverage.thread_caches.0,
            "threads": coverage.thread_caches.1,
            "took_seconds": coverage.took.as_secs_f64(),
            "notes": coverage.notes,
        },
        "rows": rows.collect::<Vec<_>>(),
    })
}

fn amount(amount: Amount) -> Value {
    json!({ "count": amount.count, "bytes": amount.bytes })
}
