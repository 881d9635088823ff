//! The heaviest paths as text of a given width.
//!
//! ```text
//!  TOTAL   SELF  FUNCTION                                              MODULE
//!  98.4%   0.2%  main › aeMain › aeProcessEvents                       redis-server
//!  61.2%   4.0%  ├ readQueryFromClient                                 redis-server
//!  40.1%  40.1%  │ └ read (system call)                                kernel
//! ```

use std::fmt::Write;

use super::{Paths, Row};
use crate::report::names::{fit, short};

/// Width of the columns before the functions.
const SHARES: usize = 16;
/// The widest module column.
const MAX_MODULE: usize = 18;
/// Functions with a smaller own share are not listed.
const MIN_LISTED: f64 = 0.005;
/// Deeper rows are not indented further.
const MAX_INDENT: usize = 12;

/// How the paths are written.
#[derive(Clone, Copy, Debug)]
pub struct TextOptions {
    /// Longest line, in characters.
    pub width: usize,
    /// Names as they are in the profile; lines may be longer than `width`.
    pub full_names: bool,
}

/// The tree as lines, with a heading.
pub fn tree(paths: &Paths, options: TextOptions) -> String {
    let modules = paths.rows.iter().map(|row| row.module.chars().count());
    let module_width = modules.max().unwrap_or(0).clamp(6, MAX_MODULE);
    let width = options.width.saturating_sub(SHARES + module_width + 2).max(20);
    let mut out = String::new();
    // Writing to memory does not fail, here and below.
    let _ = writeln!(out, "{:>6} {:>6}  {:<width$}  MODULE", "TOTAL", "SELF", "FUNCTION");
    for row in &paths.rows {
        let indent = indent(row);
        let name = names(row, width.saturating_sub(indent.chars().count()), options.full_names);
        let function = format!("{indent}{name}");
        let module = fit(&row.module, module_width);
        let _ = writeln!(
            out,
            "{:>6} {:>6}  {function:<width$}  {}",
            percent(row.total),
            percent(row.own),
            if options.full_names { &row.module } else { &*module }
        );
    }
    out
}

/// The functions with the largest own values in one line: `most self: find 40.1%, hash 12.0%;
/// kernel 30.0%`. `None`: there are none.
pub fn hottest(paths: &Paths, options: TextOptions) -> Option<String> {
    const LABEL: &str = "most self: ";
    let kernel = if paths.kernel > 0.0 { format!("kernel {}", percent(paths.kernel)) } else { String::new() };
    let width = options.width.saturating_sub(kernel.len() + 2);
    let mut line = LABEL.to_owned();
    for (name, share) in paths.hottest.iter().filter(|(_, share)| *share >= MIN_LISTED) {
        let name = if options.full_names { name.into() } else { short(name) };
        let name = if options.full_names { name } else { fit(&name, width / 2) };
        let item = format!("{name} {}", percent(*share));
        let is_first = line.len() == LABEL.len();
        let separator = if is_first { "" } else { ", " };
        if !is_first && line.chars().count() + separator.len() + item.chars().count() > width {
            break;
        }
        line += separator;
        line += &item;
    }
    match (line.len() > LABEL.len(), kernel.is_empty()) {
        (false, true) => None,
        (false, false) => Some(format!("{LABEL}{kernel}")),
        (true, true) => Some(line),
        (true, false) => Some(format!("{line}; {kernel}")),
    }
}

/// The lines that connect a row with its caller.
pub fn indent(row: &Row) -> String {
    let mut text = String::new();
    let (last, above) = row.continues.split_last().unwrap_or((&false, &[]));
    if row.depth == 0 {
        return text;
    }
    // The rows of the outermost level are not connected.
    let above = above.get(1..).unwrap_or_default();
    let skipped = above.len().saturating_sub(MAX_INDENT);
    if skipped > 0 {
        text.push_str("… ");
    }
    above[skipped..].iter().for_each(|continues| text.push_str(if *continues { "│ " } else { "  " }));
    text.push_str(if *last { "├ " } else { "└ " });
    text
}

/// The functions of a row, in at most `width` characters: the last one is whole if possible.
pub fn names(row: &Row, width: usize, full: bool) -> String {
    let shorts: Vec<_> =
        row.names.iter().map(|name| if full { name.as_str().into() } else { short(name) }).collect();
    if full {
        return shorts.join(" › ");
    }
    let Some((last, before)) = shorts.split_last() else { return String::new() };
    let all = shorts.join(" › ");
    if all.chars().count() <= width {
        return all;
    }
    // The first and the last functions are the most useful ones.
    for kept in (0..before.len()).rev() {
        let head = before.first().filter(|_| kept > 0).map(|first| format!("{first} › ")).unwrap_or_default();
        let tail: String =
            before[before.len() - kept.saturating_sub(1)..].iter().map(|name| format!("{name} › ")).collect();
        let text = format!("{head}… › {tail}{last}");
        if text.chars().count() <= width {
            return text;
        }
    }
    fit(last, width).into_owned()
}

/// A share as `98.4%`; never `100.0%` unless it is all.
fn percent(share: f64) -> String {
    match share {
        1.0 => "100%".to_owned(),
        0.0 => "0%".to_owned(),
        share => format!("{:.1}%", (share * 1000.0).round().clamp(-999.0, 999.0) / 10.0),
    }
}
