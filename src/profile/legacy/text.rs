//! Stacks as text: Go's counted stacks (goroutines, threads), listings of threads, contention.
//!
//! Not here: heaps ([`super::heap`]) and Java ([`super::java`]).

use std::sync::LazyLock;

use regex::Regex;

use super::{Draft, Lines, Refusal, hex_addresses, is_blank_or_comment, maps};
use crate::text::go::{integer, truncate};

fn regex(text: &str) -> Regex {
    Regex::new(text).expect("a valid expression")
}

static COUNT_HEADER: LazyLock<Regex> = LazyLock::new(|| regex(r"\A(\S+) profile: total [0-9]+\z"));
static COUNT: LazyLock<Regex> = LazyLock::new(|| regex(r"\A([0-9]+) @(( 0x[0-9a-f]+)+)\z"));
static CONTENTION: LazyLock<Regex> = LazyLock::new(|| regex(r"([0-9]+) *([0-9]+) @([ x0-9a-f]*)"));
static THREADS_HEADER: LazyLock<Regex> = LazyLock::new(|| regex(r"--- threadz [0-9]+ ---"));
static THREAD: LazyLock<Regex> =
    LazyLock::new(|| regex(r"--- Thread ([[:xdigit:]]+) \(name: (.*)/([0-9]+)\) stack: ---"));

/// `goroutine profile: total 8`, then `count @ addresses`.
pub(super) fn read_counts(bytes: &[u8]) -> Result<Draft, Refusal> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = Lines::new(&text);
    lines.skip_comments();
    let header = COUNT_HEADER.captures(lines.current).ok_or(Refusal::Unrecognized)?;
    let kind = (&header[1], "count");
    let mut draft = Draft::new(&[kind], kind, 1);
    while lines.advance() {
        if is_blank_or_comment(lines.current) {
            continue;
        }
        if lines.current.starts_with("---") {
            break;
        }
        let found = COUNT.captures(lines.current).ok_or_else(Refusal::malformed)?;
        let count = integer(&found[1]).map_err(|_| Refusal::malformed())?;
        let addresses = hex_addresses(&found[2]).map_err(|_| Refusal::malformed())?;
        draft.push(vec![count], &addresses, None, |_| true);
    }
    maps::skip_to_map(&mut draft, lines)?;
    Ok(draft)
}

/// `--- contentionz`, `--- mutex:` or `--- contention:`, attributes, then `delay count @
/// addresses`.
pub(super) fn read_contention(bytes: &[u8]) -> Result<Draft, Refusal> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = Lines::new(&text);
    lines.advance();
    let headers = ["--- contentionz ", "--- mutex:", "--- contention:"];
    if !headers.iter().any(|header| lines.current.starts_with(header)) {
        return Err(Refusal::Unrecognized);
    }
    let kinds = [("contentions", "count"), ("delay", "nanoseconds")];
    let mut draft = Draft::new(&kinds, ("contentions", "count"), 1);
    let cycles_hz = contention_attributes(&mut lines, &mut draft)?;
    loop {
        let line = lines.current.trim();
        if line.starts_with("---") {
            break;
        }
        if !is_blank_or_comment(line) {
            contention_sample(line, cycles_hz, &mut draft)?;
        }
        if !lines.advance() {
            break;
        }
    }
    maps::skip_to_map(&mut draft, lines)?;
    Ok(draft)
}

/// Reads `name = value` lines and returns the clock rate, 0 if it is not stated.
fn contention_attributes(lines: &mut Lines, draft: &mut Draft) -> Result<i64, Refusal> {
    let mut cycles_hz = 0;
    while lines.advance() {
        let line = lines.current.trim();
        if is_blank_or_comment(line) {
            continue;
        }
        if line.starts_with("---") {
            break;
        }
        let Some((name, value)) = line.split_once('=') else { break };
        let number = || integer(value.trim()).map_err(|_| Refusal::Unrecognized);
        match name.trim() {
            "cycles/second" => cycles_hz = number()?,
            "sampling period" => draft.columns.header.period = number()?,
            "ms since reset" => {
                draft.columns.header.duration_ns = number()?.wrapping_mul(1_000_000);
            }
            "discarded samples" => {}
            // Any other value is written by Java only.
            _ => return Err(Refusal::Unrecognized),
        }
    }
    Ok(cycles_hz)
}

fn contention_sample(line: &str, cycles_hz: i64, draft: &mut Draft) -> Result<(), Refusal> {
    let found = CONTENTION.captures(line).ok_or(Refusal::Unrecognized)?;
    let malformed = |why: String| Refusal::Broken(format!("malformed sample: {line}: {why}"));
    let number = |digits: &str| {
        digits
            .parse::<i64>()
            .map_err(|_| malformed(format!("strconv.ParseInt: parsing \"{digits}\": value out of range")))
    };
    let (mut delay, mut count) = (number(&found[1])?, number(&found[2])?);
    let period = draft.columns.header.period;
    if period > 0 {
        if cycles_hz > 0 {
            delay = truncate(delay as f64 * period as f64 / (cycles_hz as f64 / 1e9));
        }
        count = count.wrapping_mul(period);
    }
    let addresses = hex_addresses(&found[3]).map_err(malformed)?;
    draft.push(vec![count, delay], &addresses, None, |_| true);
    Ok(())
}

/// `--- threadz 1 ---` or `--- Thread …`: one stack for each thread.
pub(super) fn read_threads(bytes: &[u8]) -> Result<Draft, Refusal> {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = Lines::new(&text);
    lines.skip_comments();
    if THREADS_HEADER.is_match(lines.current) {
        while lines.advance() && !maps::is_sentinel(lines.current) && !lines.current.starts_with('-') {}
    } else if !THREAD.is_match(lines.current) {
        return Err(Refusal::Unrecognized);
    }
    let mut draft = Draft::new(&[("thread", "count")], ("thread", "count"), 1);
    while !maps::is_sentinel(lines.current) && !lines.current.starts_with("---- no stack trace for") {
        if !THREAD.is_match(lines.current) {
            return Err(Refusal::Unrecognized);
        }
        let addresses = thread_stack(&mut lines)?;
        match addresses.as_deref() {
            Some([]) | None => {
                // The same stack as the thread before.
                if let Some(last) = draft.samples.last_mut() {
                    last.values[0] = last.values[0].wrapping_add(1);
                }
            }
            Some(addresses) => draft.push(vec![1], addresses, None, |at| at > 0),
        }
    }
    maps::skip_to_map(&mut draft, lines)?;
    draft.drop_doubled_leaves();
    Ok(draft)
}

/// Reads up to the next `---` line; `None` if it refers to the previous thread.
fn thread_stack(lines: &mut Lines) -> Result<Option<Vec<u64>>, Refusal> {
    let (mut addresses, mut same) = (Vec::new(), false);
    let mut last = "";
    while lines.advance() {
        let line = lines.current.trim();
        if line.is_empty() {
            continue;
        }
        last = line;
        if line.starts_with("---") {
            break;
        }
        if line.contains("same as previous thread") {
            same = true;
            continue;
        }
        let malformed = |why| Refusal::Broken(format!("malformed sample: {line}: {why}"));
        addresses.extend(hex_addresses(line).map_err(malformed)?);
    }
    // At the end of the text, the last line decides whether the listing was complete.
    lines.current = last;
    Ok((!same).then_some(addresses))
}
