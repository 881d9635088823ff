//! The runtime's own profiles as `net/http/pprof` writes them with `debug=1`: `heap` and `allocs`,
//! `block`, `mutex` (source: `src/runtime/pprof/pprof.go` of each release).
//!
//! `runtime.MemStats`, which Go appends to a heap profile, cannot be read completely from outside
//! the process and is left out. Not here: the counts (`buckets`), the protobuf format.

use std::{
    cmp::Reverse,
    io::{self, Write},
};

use super::{
    BucketKind,
    buckets::{Contention, Heap},
    process::GoProcess,
    sites::Sites,
    text::write_stack_record,
};

/// Writes a heap profile: the sampled counts, not scaled up. Errors: those of `writer`.
pub fn write_heap(process: &GoProcess, heap: &Heap, writer: &mut dyn Write) -> io::Result<()> {
    let mut records: Vec<_> = heap.records.iter().collect();
    records.sort_by_key(|record| record.in_use_bytes());
    let sum =
        |of: fn(&super::buckets::HeapRecord) -> u64| records.iter().map(|record| of(record)).sum::<u64>();
    let (in_use, all) = (sum(|record| record.in_use_bytes()), sum(|record| record.alloc_bytes));
    writeln!(
        writer,
        "heap profile: {}: {in_use} [{}: {}] @ heap/{}",
        sum(|record| record.in_use_objects()),
        sum(|record| record.allocs),
        // Parsers take equal sums for a profile with two columns.
        all + u64::from(in_use == all),
        2 * heap.rate
    )?;
    let mut sites = Sites::new(process);
    for record in records {
        let (objects, bytes) = (record.in_use_objects(), record.in_use_bytes());
        write!(writer, "{objects}: {bytes} [{}: {}] @", record.allocs, record.alloc_bytes)?;
        write_addresses(&record.stack, writer)?;
        write_functions(&mut sites, process, &record.stack, false, writer)?;
    }
    writeln!(writer, "\n# runtime.MemStats is not available from outside the process")
}

/// Writes a block or mutex profile. Errors: those of `writer`.
pub fn write_contention(
    process: &GoProcess,
    contention: &Contention,
    kind: BucketKind,
    writer: &mut dyn Write,
) -> io::Result<()> {
    let name = if kind == BucketKind::Mutex { "mutex" } else { "contention" };
    writeln!(writer, "--- {name}:\ncycles/second={:.0}", contention.ticks_hz)?;
    if kind == BucketKind::Mutex {
        writeln!(writer, "sampling period={}", contention.rate)?;
    }
    let mut records: Vec<_> = contention.records.iter().collect();
    records.sort_by_key(|record| Reverse(record.cycles));
    let mut sites = Sites::new(process);
    for record in records {
        write!(writer, "{} {} @", record.cycles, record.count)?;
        if process.version.minor >= 23 {
            // Each inlined function has an address.
            let frames = sites.physical(&record.stack);
            let pcs: Vec<u64> = sites.shown(&frames).iter().map(|function| function.pc + 1).collect();
            write_addresses(&pcs, writer)?;
        } else {
            write_addresses(&record.stack, writer)?;
        }
        write_functions(&mut sites, process, &record.stack, true, writer)?;
    }
    Ok(())
}

fn write_addresses(stack: &[u64], writer: &mut dyn Write) -> io::Result<()> {
    stack.iter().try_for_each(|pc| write!(writer, " {pc:#x}"))?;
    writeln!(writer)
}

fn write_functions(
    sites: &mut Sites<'_>,
    process: &GoProcess,
    stack: &[u64],
    all: bool,
    writer: &mut dyn Write,
) -> io::Result<()> {
    let frames = sites.physical(stack);
    let functions = sites.shown(&frames);
    let hides_internal = process.version.minor >= 24;
    let of_runtime = |name: &str| {
        name.starts_with("runtime.") || (hides_internal && name.starts_with("internal/runtime/"))
    };
    let first = functions.iter().position(|function| all || !of_runtime(&function.printed)).unwrap_or(0);
    write_stack_record(&functions[first..], true, writer)
}
