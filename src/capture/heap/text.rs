//! A census as text for a reader.

use std::{io, time::Duration};

use super::{
    super::kinds::TextForm,
    format::{percent, printable, size, size_class},
    growth::Growth,
    report::{AllocatorReport, HeapReport},
};
use crate::{
    heap::{Amount, Certainty, State},
    text::counted,
};

/// Why there are no allocation stacks, and what has them.
pub const NO_STACKS: &str = "Allocators do not record which code allocated a chunk. For stacks of growth: \
                             `rprof attach --kind faults` (code that touches new memory)";

/// Where allocation stacks are.
pub const STACKS: &str =
    "The allocator samples the stacks that allocate: `-o FILE.pb.gz` writes them as a profile";

/// How many rows a table has.
const ROWS: usize = 15;
/// Free bytes from which on advice follows.
const MUCH: u64 = 16 << 20;

/// Writes the report. Errors: those of the writer.
pub fn write(report: &HeapReport, writer: &mut dyn io::Write) -> io::Result<()> {
    writeln!(writer, "{} (pid {})", report.identity.display_name(), report.identity.pid)?;
    for heap in &report.heaps {
        writeln!(writer)?;
        totals(heap, writer)?;
        advice(heap, writer)?;
        sizes(heap, writer)?;
        arenas(heap, writer)?;
        types(heap, writer)?;
        writeln!(writer)?;
        for line in coverage_lines(heap) {
            writeln!(writer, "{line}")?;
        }
    }
    Ok(())
}

/// Writes what grew within a time. Errors: those of the writer.
pub fn write_growth(
    list: &[Growth],
    between: Duration,
    form: TextForm,
    writer: &mut dyn io::Write,
) -> io::Result<()> {
    let minutes = between.as_secs_f64().max(0.001) / 60.0;
    if form == TextForm::Json {
        let rows = list.iter().map(|row| {
            serde_json::json!({ "what": row.what, "count": row.count, "bytes": row.bytes,
                                "bytes_per_minute": row.bytes as f64 / minutes })
        });
        let seconds = between.as_secs_f64();
        let all = serde_json::json!({ "seconds": seconds, "growth": rows.collect::<Vec<_>>() });
        return writeln!(writer, "{all}");
    }
    let sum: i64 = list.iter().map(|row| row.bytes).fold(0, i64::saturating_add);
    let rate = signed_size((sum as f64 / minutes) as i64);
    writeln!(writer, "In {:.1} s: {} in use, {rate} per minute", between.as_secs_f64(), signed_size(sum))?;
    writeln!(writer, "{:>12} {:>14} {:>12}  what", "bytes", "per minute", "objects")?;
    let shown = list.iter().filter(|row| row.bytes > 0).take(ROWS);
    let shrunk = list.iter().rev().filter(|row| row.bytes < 0).take(ROWS / 3);
    for row in shown.chain(shrunk) {
        let rate = signed_size((row.bytes as f64 / minutes) as i64);
        let (bytes, what) = (signed_size(row.bytes), printable(&row.what));
        writeln!(writer, "{bytes:>12} {rate:>14} {:>+12}  {what}", row.count)?;
    }
    writeln!(writer)
}

fn signed_size(bytes: i64) -> String {
    format!("{}{}", if bytes < 0 { '-' } else { '+' }, size(bytes.unsigned_abs()))
}

fn totals(heap: &AllocatorReport, writer: &mut dyn io::Write) -> io::Result<()> {
    writeln!(writer, "{}, {}", heap.name, counted(heap.coverage.arenas, "arena"))?;
    line("in use", heap.in_use(), "", writer)?;
    for state in State::ALL.into_iter().filter(|state| *state != State::InUse) {
        let sum = heap.in_state(state);
        if sum.count == 0 {
            continue;
        }
        let note = match (state, heap.coverage.trimmable) {
            (State::Mapped, _) => "included in the line above".to_owned(),
            (State::Free, Some(bytes)) => {
                format!("{} in whole pages, which malloc_trim(3) returns", size(bytes))
            }
            _ => String::new(),
        };
        line(state.name(), sum, &note, writer)?;
    }
    Ok(())
}

fn line(name: &str, sum: Amount, note: &str, writer: &mut dyn io::Write) -> io::Result<()> {
    let note = if note.is_empty() { String::new() } else { format!("  ({note})") };
    writeln!(writer, "  {name:<22}{:>12} in {:<10}{note}", size(sum.bytes), sum.count)
}

/// What would return free memory to the system, where there is much.
fn advice(heap: &AllocatorReport, writer: &mut dyn io::Write) -> io::Result<()> {
    let (used, free) = (heap.in_use().bytes, heap.in_state(State::Free).bytes);
    if free < MUCH || free < used / 4 {
        return Ok(());
    }
    let trimmable = heap.coverage.trimmable.unwrap_or(0);
    let advice = match () {
        () if trimmable >= free / 2 => {
            "a call of malloc_trim(0) returns most of the free memory; MALLOC_TRIM_THRESHOLD_ does so by itself"
        }
        () if heap.coverage.arenas > 2 => {
            "the free memory is in small pieces and in several arenas: MALLOC_ARENA_MAX=2 makes fewer"
        }
        () => {
            "the free memory is in pieces smaller than a page, between chunks in use: malloc_trim does not help. \
             Only the program's pattern of allocations, or another allocator, changes that"
        }
    };
    writeln!(writer, "  {advice}")
}

fn sizes(heap: &AllocatorReport, writer: &mut dyn io::Write) -> io::Result<()> {
    let rows = heap.used_by(|row| row.size).into_iter();
    table(
        "size class",
        rows.map(|(size, sum)| (size_class(size), sum)).collect(),
        heap.in_use().bytes,
        writer,
    )
}

fn arenas(heap: &AllocatorReport, writer: &mut dyn io::Write) -> io::Result<()> {
    let rows = heap.used_by(|row| heap.arenas[&row.arena].clone());
    if rows.len() < 2 {
        return Ok(());
    }
    table("arena", rows.into_iter().collect(), heap.in_use().bytes, writer)
}

fn types(heap: &AllocatorReport, writer: &mut dyn io::Write) -> io::Result<()> {
    let rows = heap.used_by(|row| heap.type_of(row).text.clone());
    if rows.len() > 1 {
        table("type", rows.into_iter().collect(), heap.in_use().bytes, writer)?;
    }
    Ok(())
}

/// A table, the largest rows first. Errors: those of the writer.
pub fn table(
    title: &str,
    mut rows: Vec<(String, Amount)>,
    whole: u64,
    writer: &mut dyn io::Write,
) -> io::Result<()> {
    rows.sort_by(|one, other| other.1.bytes.cmp(&one.1.bytes).then_with(|| one.0.cmp(&other.0)));
    writeln!(writer, "\n{:>12} {:>7} {:>12}  {title}", "bytes", "", "objects")?;
    for (name, sum) in rows.iter().take(ROWS) {
        let share = percent(sum.bytes, whole);
        writeln!(writer, "{:>12} {share:>7} {:>12}  {}", size(sum.bytes), sum.count, printable(name))?;
    }
    let mut rest = Amount::default();
    rows.iter().skip(ROWS).for_each(|(_, sum)| rest.add(*sum));
    if rest.count > 0 {
        let (share, more) = (percent(rest.bytes, whole), rows.len() - ROWS);
        writeln!(writer, "{:>12} {share:>7} {:>12}  {more} more", size(rest.bytes), rest.count)?;
    }
    Ok(())
}

/// How complete the census is, a sentence a line.
pub fn coverage_lines(heap: &AllocatorReport) -> Vec<String> {
    let coverage = &heap.coverage;
    let mut lines = Vec::new();
    let walked = match coverage.share() {
        Some(share) => format!("{:.1} % of the allocator's own count", 100.0 * share),
        None => "the allocator has no count of its own".to_owned(),
    };
    let caches = match coverage.thread_caches {
        (_, 0) => String::new(),
        (found, all) => format!("; {found} of {all} thread caches found"),
    };
    lines.push(format!(
        "Coverage: {} walked ({walked}) in {:.2} s; {}, {} lost{caches}",
        size(coverage.walked),
        coverage.took.as_secs_f64(),
        counted(coverage.breaks, "break"),
        size(coverage.lost)
    ));
    let whole = heap.in_use().bytes;
    let share = |certainty| percent(heap.certain(certainty), whole);
    lines.push(format!(
        "Types, by bytes in use: {} named, {} by shape only (~), {} unknown",
        share(Certainty::Named),
        share(Certainty::Shape),
        share(Certainty::Unknown)
    ));
    if coverage.untouched + coverage.swapped > 0 {
        let (untouched, swapped) = (size(coverage.untouched), size(coverage.swapped));
        lines.push(format!("Not read: {untouched} that were never touched, {swapped} in swap"));
    }
    if coverage.pages_unknown {
        lines.push("The system does not tell which pages are present, so all were read".to_owned());
    }
    lines.extend(coverage.notes.iter().cloned());
    lines
}
