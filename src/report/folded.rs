//! Folded stacks, the input of flame graph tools: one line per distinct stack, `main;parse;read
//! 42`.
//!
//! Not here: line numbers and units, which the format does not have.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Write},
};

use super::stacks::{Stacks, value_of};
use crate::profile::proto::Sample;

/// Writes the value with index `value_index` of all samples, equal stacks summed, ordered by name.
/// `by_thread`: the thread's name is the first frame. Stacks without a positive sum are left out.
/// Errors: those of the writer.
pub fn write_folded(
    stacks: &Stacks<'_>,
    value_index: usize,
    by_thread: bool,
    mut writer: impl Write,
) -> io::Result<()> {
    let names = Names::new(stacks, by_thread);
    let mut sums: BTreeMap<Vec<u32>, i64> = BTreeMap::new();
    for sample in &stacks.profile().sample {
        let mut stack: Vec<u32> = Vec::with_capacity(sample.location_id.len() + 1);
        if by_thread {
            stack.push(names.rank(&thread_name(stacks, sample)));
        }
        stack.extend(stacks.of(sample).map(|used| names.of_frame[used.frame.0 as usize]));
        let sum = sums.entry(stack).or_default();
        *sum = sum.saturating_add(value_of(sample, value_index));
    }
    for (stack, sum) in sums.iter().filter(|(stack, sum)| **sum > 0 && !stack.is_empty()) {
        for (depth, rank) in stack.iter().enumerate() {
            let separator = if depth == 0 { "" } else { ";" };
            write!(writer, "{separator}{}", names.sorted[*rank as usize])?;
        }
        writeln!(writer, " {sum}")?;
    }
    writer.flush()
}

/// All names, sorted: a stack of ranks sorts like its text.
struct Names {
    sorted: Vec<String>,
    /// The rank of each frame's name.
    of_frame: Vec<u32>,
}

impl Names {
    fn new(stacks: &Stacks<'_>, by_thread: bool) -> Names {
        let mut all: BTreeSet<String> =
            stacks.frames().iter().map(|frame| folded_name(&frame.name)).collect();
        if by_thread {
            all.extend(stacks.profile().sample.iter().map(|sample| thread_name(stacks, sample)));
        }
        let mut names = Names { sorted: all.into_iter().collect(), of_frame: Vec::new() };
        names.of_frame = stacks.frames().iter().map(|frame| names.rank(&folded_name(&frame.name))).collect();
        names
    }

    fn rank(&self, name: &str) -> u32 {
        self.sorted.binary_search_by(|known| known.as_str().cmp(name)).expect("every name was collected")
            as u32
    }
}

fn thread_name(stacks: &Stacks<'_>, sample: &Sample) -> String {
    folded_name(&stacks.label(sample, "thread").unwrap_or_default())
}

/// A name without separators. (`printable` has removed line breaks.)
fn folded_name(name: &str) -> String {
    if name.is_empty() { "[unknown]".to_string() } else { name.replace(';', ":") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Builder, LabelValue, LineSpec};

    #[test]
    fn equal_stacks_are_summed_and_names_cannot_break_lines() {
        let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
        let names = ["main", "a;b", "two\nlines", "operator new(unsigned long)"];
        let [main, semicolon, newline, spaces] = names.map(|name| {
            let function = builder.function(name, name, "", 0);
            builder.location(None, 0, &[LineSpec { function, line: 0, column: 0 }])
        });
        let thread = |name| [("thread", LabelValue::Text(name))];
        builder.sample(&[semicolon, main], &[1, 10], &thread("w;1"));
        builder.sample(&[newline, main], &[2, 20], &thread("w;1"));
        builder.sample(&[semicolon, main], &[3, 30], &thread("w2"));
        builder.sample(&[spaces, main], &[4, 40], &[]);
        builder.sample(&[main], &[0, 0], &[]);
        let profile = builder.finish();
        let folded = |value_index, by_thread| {
            let mut bytes = Vec::new();
            write_folded(&Stacks::new(&profile), value_index, by_thread, &mut bytes).unwrap();
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(
            folded(0, false),
            "main;a:b 4\nmain;operator new(unsigned long) 4\nmain;two\u{fffd}lines 2\n"
        );
        assert_eq!(
            folded(1, true),
            "[unknown];main;operator new(unsigned long) 40\nw2;main;a:b 30\nw:1;main;a:b 10\nw:1;main;two\u{fffd}lines 20\n"
        );
    }
}
