//! Who holds the chunks, and what nothing holds, as text for a reader.

use std::{collections::BTreeMap, io};

use super::{
    format::{size, size_class},
    report::{HeapReport, HeldRow, Leaks},
    text::table,
};
use crate::{heap::Amount, text::counted};

/// Writes both, where they were requested. Errors: those of the writer.
pub fn write(report: &HeapReport, writer: &mut dyn io::Write) -> io::Result<()> {
    if let Some(rows) = &report.holders {
        holders(rows, writer)?;
    }
    report.leaks.as_ref().map_or(Ok(()), |leaks| write_leaks(leaks, writer))
}

fn sums(rows: &[(HeldRow, Amount)], key: impl Fn(&HeldRow) -> String) -> Vec<(String, Amount)> {
    let mut sums = BTreeMap::<String, Amount>::new();
    rows.iter().for_each(|(row, amount)| sums.entry(key(row)).or_default().add(*amount));
    sums.into_iter().collect()
}

fn holders(rows: &[(HeldRow, Amount)], writer: &mut dyn io::Write) -> io::Result<()> {
    let whole = rows.iter().map(|(_, amount)| amount.bytes).fold(0, u64::saturating_add);
    table("held by", sums(rows, |row| row.holder.clone()), whole, writer)?;
    table("held by, type", sums(rows, |row| format!("{}: {}", row.holder, row.of_type)), whole, writer)?;
    writeln!(
        writer,
        "\nA chunk is counted for the first holder that leads to it: globals first, then stacks and \
         other memory by address."
    )
}

fn write_leaks(leaks: &Leaks, writer: &mut dyn io::Write) -> io::Result<()> {
    let sum = leaks.sum();
    writeln!(writer)?;
    if leaks.passes < 2 {
        return writeln!(writer, "Leaks: not known, because fewer than two passes were complete.");
    }
    let (passes, seconds) = (leaks.passes, leaks.took.as_secs_f64());
    if sum.count == 0 {
        writeln!(
            writer,
            "Leaks: nothing is provably unreachable, in {passes} passes within {seconds:.1} s."
        )?;
    } else {
        let (bytes, chunks) = (size(sum.bytes), counted(sum.count, "chunk"));
        writeln!(
            writer,
            "Leaks: {bytes} in {chunks} that nothing points to, unchanged in {passes} passes within {seconds:.1} s"
        )?;
        let name = |row: &HeldRow| format!("{}, {}", row.of_type, size_class(row.size));
        table("leaked", sums(&leaks.rows, name), sum.bytes, writer)?;
    }
    if leaks.missing > 0 {
        writeln!(writer, "{} were not examined: there are too many.", counted(leaks.missing, "chunk"))?;
    }
    writeln!(
        writer,
        "(The first pass alone did not reach {}. A chunk that only a register, a hidden pointer or another \
         process holds counts as unreachable; one that an old value on a stack still points to does not.)",
        counted(leaks.first_pass, "chunk")
    )
}
