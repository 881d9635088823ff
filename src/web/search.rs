//! Search: the share of samples with a matching frame (by name, `module:` or `file:`), and the
//! matching names. It covers the whole profile, also frames that are too narrow to be drawn.
//!
//! Not here: highlighting matches, which the page does itself.

use serde_json::{Value, json};

use super::{DataError, frames::title, prepared::Prepared, query::Query};
use crate::profile::go_regexp::GoRegexp;

/// The largest number of names in a response.
const MAX_NAMES: usize = 200;

/// What an expression is compared with.
#[derive(Clone, Copy)]
enum Field {
    Name,
    Module,
    File,
}

/// The field of `module:libc` and `file:sort.c`, and the expression.
fn field(text: &str) -> (Field, &str) {
    let of = |prefix, field| text.strip_prefix(prefix).map(|rest: &str| (field, rest.trim_start()));
    of("module:", Field::Module).or_else(|| of("file:", Field::File)).unwrap_or((Field::Name, text))
}

/// Responds to a search for the regular expression `q`, which is case-sensitive unless it begins
/// with `(?i)`.
///
/// # Errors
/// [`DataError`] when the expression is invalid.
pub fn respond(prepared: &Prepared, query: &Query) -> Result<Value, DataError> {
    let (field, text) = field(query.get("q"));
    let expression = GoRegexp::new(text).map_err(|why| DataError::bad_request(&why.to_string()))?;
    let columns = &prepared.columns;
    let titles: Vec<String> = prepared.frames.all.iter().map(|frame| title(columns, frame)).collect();
    let matches: Vec<bool> = (prepared.frames.all.iter().zip(&titles))
        .map(|(frame, title)| match field {
            Field::Name => expression.is_match(title),
            Field::Module => expression.is_match(columns.text(frame.module)),
            Field::File => expression.is_match(columns.text(frame.file)),
        })
        .collect();
    let locations: Vec<bool> = (0..columns.locations.len() as u32)
        .map(|location| prepared.frames.of(location).iter().any(|used| matches[used.frame() as usize]))
        .collect();
    let (mut weight, mut samples) = (0i64, 0);
    for sample in 0..columns.sample_count() {
        if columns.stack(sample).iter().any(|location| locations[*location as usize]) {
            let value = columns.values(sample).get(prepared.value).copied().unwrap_or(0);
            weight = weight.saturating_add(value.saturating_abs());
            samples += 1;
        }
    }
    let numbers = (0..titles.len()).filter(|at| matches[*at]);
    let count = numbers.clone().count();
    let names: Vec<Value> =
        numbers.take(MAX_NAMES).map(|at| json!({ "id": at, "name": titles[at] })).collect();
    Ok(
        json!({ "frames": count, "samples": samples, "weight": weight, "total": prepared.total, "names": names }),
    )
}
