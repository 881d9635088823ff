//! Folded stacks, `main;work;inner 17`, as written by `stackcollapse-*.pl`, py-spy, async-profiler,
//! inferno and bpftrace scripts.
//!
//! Not here: writing them (`report::folded`). Names are kept unchanged, including suffixes (`_[k]`)
//! that some tools add.

use std::collections::HashMap;

use super::columns::{Columns, Function, Line, Location, Mapping, SampleKind, merge};

/// A stack and its count; `None` if the line is not a folded stack.
fn stack(line: &str) -> Option<(&str, Result<i64, String>)> {
    let (frames, count) = line.rsplit_once([' ', '\t'])?;
    let digits = count.strip_prefix('+').unwrap_or(count);
    if digits.is_empty() || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let number = digits.parse().map_err(|_| format!("count: {digits} is larger than {}", i64::MAX));
    Some((frames.trim(), number)).filter(|(frames, _)| !frames.is_empty())
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = (1..).zip(text.lines()).map(|(number, line)| (number, line.trim()));
    lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
}

/// Reads folded stacks. `None` if the text is something else: its first line is not a stack or, if
/// that has only one frame, some other line is not. The error names the invalid line.
pub fn read(bytes: &[u8]) -> Option<Result<Columns, String>> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (_, first) = lines(text).next()?;
    let (frames, _) = stack(first)?;
    if !frames.contains(';') && !lines(text).all(|(_, line)| stack(line).is_some()) {
        return None;
    }
    Some(read_stacks(text))
}

fn read_stacks(text: &str) -> Result<Columns, String> {
    let mut columns = Columns::default();
    let (name, unit) = (columns.intern("samples"), columns.intern("count"));
    columns.header.kinds = vec![SampleKind { name, unit }];
    columns.header.period_kind = SampleKind { name, unit };
    columns.header.period = 1;
    // A binary file is refused quickly.
    columns.mappings.push(Mapping { id: 1, limit: u64::MAX, has_functions: true, ..Mapping::default() });
    let mut places: HashMap<&str, u32> = HashMap::new();
    let mut frames = Vec::new();
    for (number, line) in lines(text) {
        let Some((names, count)) = stack(line) else {
            let shown: String = line.chars().take(60).collect();
            return Err(format!("line {number}: no count behind the stack: {shown:?}"));
        };
        let count = count.map_err(|why| format!("line {number}: {why}"))?;
        frames.clear();
        for name in names.split(';').rev().map(str::trim).filter(|name| !name.is_empty()) {
            frames.push(*places.entry(name).or_insert_with(|| place(&mut columns, name)));
        }
        columns.push_sample(&[count], &frames, &[]);
    }
    merge::merge(vec![columns])
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

    #[test]
    fn errors_name_the_invalid_line() {
        let error = |text: &str| read(text.as_bytes()).unwrap().unwrap_err();
        assert_eq!(error("a;b 1\n\na;c\n"), "line 3: no count behind the stack: \"a;c\"");
        assert_eq!(
            error("a;b 99999999999999999999"),
            "line 1: count: 99999999999999999999 is larger than 9223372036854775807"
        );
        for other in ["", "no stack", "a 1\nb", "a;b 1.5", "\u{0} x"] {
            assert!(read(other.as_bytes()).is_none(), "{other}");
        }
        assert!(read(b"a;\xff 1").is_none());
    }
}
