//! Folded stacks, `main;work;inner 17`, as written by `stackcollapse-*.pl`, py-spy, async-profiler,
//! inferno and bpftrace scripts.
//!
//! Not here: writing them (`report::folded`). Names are kept unchanged, including suffixes (`_[k]`)
//! that some tools add.

use std::collections::HashMap;

use super::columns::{Columns, Function, Line, Location, Mapping, SampleKind, merge};

/// Values of files with fractions are in thousandths.
const FRACTION_SCALE: i64 = 1000;
/// A comment shows at most this much of a line, in characters.
const MAX_SHOWN_CHARS: usize = 60;

/// The count of a folded stack.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Count {
    Whole(i64),
    /// A number with a point or an exponent, such as `2.5` or `1e-05`.
    Fraction(f64),
    /// Less than 0: the difference of two profiles, or an error of the tool.
    Negative,
    TooLarge,
}

/// The count at the end of a line; `None` if it is not a number.
fn parse_count(text: &str) -> Option<Count> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if !digits.starts_with(|letter: char| letter.is_ascii_digit() || letter == '.') {
        return None;
    }
    if digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return Some(match digits.parse() {
            Ok(0) => Count::Whole(0),
            _ if is_negative => Count::Negative,
            Ok(count) => Count::Whole(count),
            Err(_) => Count::TooLarge,
        });
    }
    let number: f64 = digits.parse().ok().filter(|number: &f64| number.is_finite())?;
    Some(if is_negative && number > 0.0 { Count::Negative } else { Count::Fraction(number) })
}

/// A stack and its count; `None` if the line is not a folded stack.
fn stack(line: &str) -> Option<(&str, Count)> {
    let (frames, count) = line.rsplit_once([' ', '\t'])?;
    let frames = frames.trim();
    Some((frames, parse_count(count)?)).filter(|_| !frames.is_empty())
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Whether a text looks like folded stacks: its first line is a stack of several frames, or all its
/// lines are stacks, or at least half of them are stacks of several frames.
fn is_folded(text: &str) -> bool {
    let several = |line: &str| stack(line).is_some_and(|(frames, _)| frames.contains(';'));
    let Some((_, first)) = lines(text).next() else { return false };
    if several(first) {
        return true;
    }
    let (mut all, mut stacks, mut deep) = (0u64, 0u64, 0u64);
    for (_, line) in lines(text) {
        all += 1;
        stacks += u64::from(stack(line).is_some());
        deep += u64::from(several(line));
    }
    stacks == all || deep * 2 >= all
}

/// Reads folded stacks. `None` if the text is something else. Lines that are not stacks and
/// negative counts are left out; comments of the profile have their numbers. Errors: a count is too
/// large.
pub fn read(bytes: &[u8]) -> Option<Result<Columns, String>> {
    // Other formats are refused quickly.
    if bytes.contains(&0) {
        return None;
    }
    let text = String::from_utf8_lossy(bytes);
    is_folded(&text).then(|| read_stacks(&text, std::str::from_utf8(bytes).is_err()))
}

/// What was left out or changed.
#[derive(Default)]
struct Notes {
    /// Lines that are not stacks, and the first of them.
    noise: usize,
    first_noise: Option<(usize, String)>,
    negative: usize,
}

impl Notes {
    fn add_noise(&mut self, number: usize, line: &str) {
        self.noise += 1;
        self.first_noise.get_or_insert_with(|| (number, line.chars().take(MAX_SHOWN_CHARS).collect()));
    }

    fn comments(&self, has_fractions: bool, has_foreign_bytes: bool) -> Vec<String> {
        let lines = |count: usize| format!("{count} {}", if count == 1 { "line" } else { "lines" });
        let mut comments = Vec::new();
        if let Some((number, line)) = &self.first_noise {
            comments.push(format!(
                "left out: {} without a stack and a count (line {number}: {line:?})",
                lines(self.noise)
            ));
        }
        if self.negative > 0 {
            comments.push(format!("left out: {} with a negative count", lines(self.negative)));
        }
        if has_fractions {
            comments.push("counts have fractions: values are in thousandths".to_owned());
        }
        if has_foreign_bytes {
            comments.push("bytes that are not UTF-8 are shown as U+FFFD".to_owned());
        }
        comments
    }
}

fn read_stacks(text: &str, has_foreign_bytes: bool) -> Result<Columns, String> {
    let mut notes = Notes::default();
    let mut stacks = Vec::new();
    for (number, line) in lines(text) {
        match stack(line) {
            Some((_, Count::Negative)) => notes.negative += 1,
            Some((names, count)) => stacks.push((number, names, count)),
            None => notes.add_noise(number, line),
        }
    }
    let has_fractions = stacks.iter().any(|(_, _, count)| matches!(count, Count::Fraction(_)));
    let mut columns = Columns::default();
    let (name, unit) = if has_fractions { ("thousandths", "count") } else { ("samples", "count") };
    let (name, unit) = (columns.intern(name), columns.intern(unit));
    columns.header.kinds = vec![SampleKind { name, unit }];
    columns.header.period_kind = SampleKind { name, unit };
    columns.header.period = 1;
    for comment in notes.comments(has_fractions, has_foreign_bytes) {
        let comment = columns.intern(&comment);
        columns.header.comments.push(comment);
    }
    // `disasm` and `weblist` refuse a mapping without a file quickly.
    columns.mappings.push(Mapping { id: 1, limit: u64::MAX, has_functions: true, ..Mapping::default() });
    let mut places: HashMap<&str, u32> = HashMap::new();
    let mut frames = Vec::new();
    for (number, names, count) in stacks {
        let value = value_of(count, has_fractions)
            .ok_or_else(|| format!("line {number}: its count is larger than {}", i64::MAX))?;
        frames.clear();
        for name in names.split(';').rev().map(str::trim).filter(|name| !name.is_empty()) {
            frames.push(*places.entry(name).or_insert_with(|| place(&mut columns, name)));
        }
        columns.push_sample(&[value], &frames, &[]);
    }
    merge::merge(vec![columns])
}

/// The value of a count; `None` if it is too large.
fn value_of(count: Count, has_fractions: bool) -> Option<i64> {
    match count {
        Count::Whole(count) if has_fractions => count.checked_mul(FRACTION_SCALE),
        Count::Whole(count) => Some(count),
        Count::Fraction(number) => {
            let scaled = (number * FRACTION_SCALE as f64).round();
            (scaled < i64::MAX as f64).then_some(scaled as i64)
        }
        Count::Negative | Count::TooLarge => None,
    }
}

fn place(columns: &mut Columns, name: &str) -> u32 {
    let id = columns.locations.len() as u64 + 1;
    let name = columns.intern(name);
    let function = columns.functions.len() as u32;
    // A linkage name here would cause tools to demangle it.
    columns.functions.push(Function { id, name, ..Function::default() });
    let location = Location { id, mapping: 0, ..Location::default() };
    columns.push_location(location, &[Line { function, line: 0, column: 0 }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stacks(text: &str) -> Vec<(i64, Vec<String>)> {
        let columns = read(text.as_bytes()).unwrap().unwrap();
        let name = |location: &u32| {
            let line = columns.lines_of(&columns.locations[*location as usize])[0];
            columns.text(columns.functions[line.function as usize].name).to_string()
        };
        let sample = |at| (columns.values(at)[0], columns.stack(at).iter().map(name).collect());
        (0..columns.sample_count()).map(sample).collect()
    }

    #[test]
    fn stacks_are_read_root_first_and_equal_ones_merged() {
        let text = "# a comment\nmain;a b;c 3\r\nmain 4\n\nmain;a b;c 2\n";
        let expected =
            vec![(5, ["c", "a b", "main"].map(String::from).to_vec()), (4, vec!["main".to_string()])];
        assert_eq!(stacks(text), expected);
    }

    fn comments(text: &[u8]) -> Vec<String> {
        let columns = read(text).unwrap().unwrap();
        columns.header.comments.iter().map(|comment| columns.text(*comment).to_string()).collect()
    }

    #[test]
    fn fractions_are_read_as_thousandths() {
        let text = "main;a 1.5\nmain;b 2\nmain;c 1e-3\n";
        let counts: Vec<i64> = stacks(text).into_iter().map(|(count, _)| count).collect();
        assert_eq!(counts, [1500, 2000, 1]);
        assert_eq!(comments(text.as_bytes()), ["counts have fractions: values are in thousandths"]);
        let columns = read(text.as_bytes()).unwrap().unwrap();
        assert_eq!(columns.text(columns.header.kinds[0].name), "thousandths");
    }

    #[test]
    fn noise_and_negative_counts_are_left_out_and_counted() {
        let text = "main;a 3\n\nbad line here\nmain;b 2\nmain;c -3\n-- 7 events lost\n";
        assert_eq!(
            stacks(text),
            [(3, vec!["a".into(), "main".into()]), (2, vec!["b".to_string(), "main".into()])]
        );
        assert_eq!(
            comments(text.as_bytes()),
            [
                "left out: 2 lines without a stack and a count (line 3: \"bad line here\")",
                "left out: 1 line with a negative count"
            ]
        );
        assert_eq!(stacks("profile of today\nmain;a 3\n"), [(3, vec!["a".into(), "main".to_string()])]);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        let columns = read(b"main;caf\xe9 3\nmain;b 2\n").unwrap().unwrap();
        let names: Vec<&str> = columns.functions.iter().map(|function| columns.text(function.name)).collect();
        assert!(names.contains(&"caf\u{fffd}"), "{names:?}");
        assert_eq!(comments(b"main;caf\xe9 3\n"), ["bytes that are not UTF-8 are shown as U+FFFD"]);
    }

    #[test]
    fn errors_name_the_invalid_line_and_other_texts_are_refused() {
        let error = |text: &str| read(text.as_bytes()).unwrap().unwrap_err();
        let too_large = "line 1: its count is larger than 9223372036854775807";
        assert_eq!(error("a;b 99999999999999999999"), too_large);
        assert_eq!(error("a;b 1e30"), too_large);
        assert_eq!(
            error("a;b 9223372036854775807\nc;d 0.5"),
            "line 1: its count is larger than 9223372036854775807"
        );
        for other in ["", "no stack", "a 1\nb", "\u{0} x", "a;b \u{0} 1", "a;b inf", "x\ny;z 1\nw\n"] {
            assert!(read(other.as_bytes()).is_none(), "{other}");
        }
    }
}
