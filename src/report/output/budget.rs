//! Limits the size of a printed report, in rows or bytes. What does not fit is counted in its
//! place.
//!
//! Not here: how a report is printed.

use super::{Entry, List, ReportOutput};

/// A size limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// Number of entries, including those of inner lists.
    Rows(usize),
    /// Bytes of the printed report. The header is printed even if it is larger.
    Bytes(usize),
}

impl std::str::FromStr for Budget {
    type Err = String;

    /// Parses `50` as rows and `8000B`, `20kB`, `1MB` as bytes.
    fn from_str(text: &str) -> Result<Budget, String> {
        let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let wrong = || format!("`{text}` is neither a number of rows (50) nor a size (8000B, 20kB, 1MB)");
        let number: usize = digits.parse().map_err(|_| wrong())?;
        let unit: usize = match text[digits.len()..].to_ascii_lowercase().as_str() {
            "" => return Ok(Budget::Rows(number)),
            "b" => 1,
            "k" | "kb" => 1 << 10,
            "m" | "mb" => 1 << 20,
            _ => return Err(wrong()),
        };
        number.checked_mul(unit).map(Budget::Bytes).ok_or_else(wrong)
    }
}

/// Prints as much of the report as fits.
pub(super) fn fit(output: &ReportOutput, budget: Budget, print: impl Fn(&ReportOutput) -> String) -> String {
    let with =
        |rows: usize| print(&ReportOutput { list: cut(&output.list, &mut rows.clone()), ..output.clone() });
    let bytes = match budget {
        Budget::Rows(rows) => return with(rows),
        Budget::Bytes(bytes) => bytes,
    };
    // Bisects the number of rows that fit: `fits` fit, `too_many` do not. A row has at least a
    // byte.
    let (mut fits, mut too_many) = (0, count(&output.list).min(bytes) + 1);
    while fits + 1 < too_many {
        let middle = fits + (too_many - fits) / 2;
        if with(middle).len() <= bytes { fits = middle } else { too_many = middle }
    }
    with(fits)
}

fn count(list: &List) -> usize {
    let inner = |entry: &Entry| entry.groups.iter().map(count).sum::<usize>();
    list.entries.iter().map(|entry| 1 + inner(entry)).sum()
}

/// The first `left` entries, counting outer and inner ones in order.
fn cut(list: &List, left: &mut usize) -> List {
    let mut kept = Vec::new();
    for entry in &list.entries {
        if *left == 0 {
            break;
        }
        *left -= 1;
        let groups = entry.groups.iter().map(|group| cut(group, left)).collect();
        kept.push(Entry { cells: entry.cells.clone(), groups });
    }
    let mut out = List { entries: kept, more_sums: list.more_sums.clone(), ..*list };
    let rest = out.entries.len()..;
    list.entries[rest].iter().for_each(|entry| out.leave_out(entry));
    out
}
