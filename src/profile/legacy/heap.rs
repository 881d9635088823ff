//! Heap profiles as text: gperftools' and Go's, and growth and fragmentation in the same form.
//!
//! Not here: Java's ([`super::java`]).

use std::sync::LazyLock;

use regex::Regex;

use super::{Draft, Lines, Refusal, hex_addresses, is_blank_or_comment, maps};
use crate::text::go::truncate;

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("a valid expression")
}

const TOTALS: &str = r"heap profile: *([0-9]+): *([0-9]+) *\[ *([0-9]+): *([0-9]+) *\] ";

static HEADER: LazyLock<Regex> =
    LazyLock::new(|| regex(&format!("{}*@ *(heap[_a-z0-9]*)/?([0-9]*)", TOTALS)));
static OTHER_HEADER: LazyLock<Regex> =
    LazyLock::new(|| regex(&format!("{TOTALS}@ (growthz?|fragmentationz?)")));
static SAMPLE: LazyLock<Regex> =
    LazyLock::new(|| regex(r"(-?[0-9]+): *(-?[0-9]+) *\[ *([0-9]+): *([0-9]+) *] @([ x0-9a-f]*)"));

/// The sampling method stated in the header.
struct Sampling {
    /// Values were sampled by a Poisson process.
    poisson: bool,
    period: i64,
    has_allocations: bool,
}

pub(super) fn read(bytes: &[u8]) -> Result<Draft, Refusal> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = Lines::new(&text);
    if !lines.advance() {
        return Err(Refusal::Unrecognized);
    }
    let sampling = header(lines.current)?;
    let kinds: &[_] = if sampling.has_allocations {
        &[
            ("alloc_objects", "count"),
            ("alloc_space", "bytes"),
            ("inuse_objects", "count"),
            ("inuse_space", "bytes"),
        ]
    } else {
        &[("objects", "count"), ("space", "bytes")]
    };
    let mut draft = Draft::new(kinds, ("space", "bytes"), sampling.period);
    while lines.advance() {
        let line = lines.current.trim();
        if is_blank_or_comment(line) {
            continue;
        }
        if maps::is_sentinel(line) {
            break;
        }
        let (values, block_bytes, addresses) = sample(line, &sampling).map_err(Refusal::Broken)?;
        draft.push(values, &addresses, Some(block_bytes), |_| true);
    }
    maps::skip_to_map(&mut draft, lines)?;
    Ok(draft)
}

fn header(line: &str) -> Result<Sampling, Refusal> {
    let Some(found) = HEADER.captures(line) else {
        return match OTHER_HEADER.is_match(line) {
            true => Ok(Sampling { poisson: false, period: 1, has_allocations: false }),
            false => Err(Refusal::Unrecognized),
        };
    };
    let period = match &found[6] {
        "" => 0,
        digits => digits.parse::<i64>().map_err(|_| Refusal::Unrecognized)?,
    };
    let differs = |all: usize, inuse: usize| found[all] != found[inuse] && &found[all] != "0";
    let has_allocations = differs(3, 1) || differs(4, 2);
    let (poisson, period) = match &found[5] {
        "heapz_v2" | "heap_v2" => (true, period),
        "heapprofile" => (false, 1),
        "heap" => (true, period / 2),
        _ => return Err(Refusal::Unrecognized),
    };
    Ok(Sampling { poisson, period, has_allocations })
}

fn sample(line: &str, sampling: &Sampling) -> Result<(Vec<i64>, i64, Vec<u64>), String> {
    let Some(found) = SAMPLE.captures(line) else {
        return Err("unexpected number of sample values: got 0, want 6".into());
    };
    let malformed = |why: String| format!("malformed sample: {line}: {why}");
    let number = |at: usize| {
        let digits = &found[at];
        let out_of_range =
            || malformed(format!("strconv.ParseInt: parsing \"{digits}\": value out of range"));
        digits.parse::<i64>().map_err(|_| out_of_range())
    };
    let mut values = Vec::new();
    let mut block_bytes = 0;
    let pairs = [(3, 4, "allocation"), (1, 2, "inuse")];
    for (count, size, what) in &pairs[usize::from(!sampling.has_allocations)..] {
        let (mut count, mut size) = (number(*count)?, number(*size)?);
        if count == 0 && size != 0 {
            return Err(format!("{what} count was 0 but {what} bytes was {size}"));
        }
        if count != 0 {
            block_bytes = size.wrapping_div(count);
            if sampling.poisson {
                (count, size) = unsample(count, size, sampling.period);
            }
        }
        values.extend([count, size]);
    }
    let addresses = hex_addresses(&found[5]).map_err(malformed)?;
    Ok((values, block_bytes, addresses))
}

/// Estimates the true values from samples of a Poisson process with one event per `rate` bytes.
pub(super) fn unsample(count: i64, size: i64, rate: i64) -> (i64, i64) {
    if count == 0 || size == 0 {
        return (0, 0);
    }
    if rate <= 1 {
        return (count, size);
    }
    let average = size as f64 / count as f64;
    let scale = 1.0 / (1.0 - (-average / rate as f64).exp());
    (truncate(count as f64 * scale), truncate(size as f64 * scale))
}
