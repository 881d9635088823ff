//! Folded stacks: one line for each different stack, `main;parse;read 42`, as flame graph tools
//! read them.
//!
//! Not here: line numbers, units; the format has no room for them.

use std::{
    collections::BTreeMap,
    io::{self, Write},
};

use super::stacks::{Stacks, value_of};

/// Writes value number `value_index` of all samples, equal stacks summed, in the order of their
/// text. With `by_thread` the thread's name is the first frame. Stacks without a positive sum are
/// left out.
pub fn write_folded(
    stacks: &Stacks<'_>,
    value_index: usize,
    by_thread: bool,
    mut writer: impl Write,
) -> io::Result<()> {
    let names: Vec<String> = stacks.frames().iter().map(|frame| folded_name(&frame.name)).collect();
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    let mut line = String::new();
    for sample in &stacks.profile().sample {
        line.clear();
        if by_thread {
            line.push_str(&folded_name(&stacks.label(sample, "thread").unwrap_or_default()));
        }
        for used in stacks.of(sample) {
            if !line.is_empty() {
                line.push(';');
            }
            line.push_str(&names[used.frame.0 as usize]);
        }
        let value = value_of(sample, value_index);
        match sums.get_mut(&line) {
            Some(sum) => *sum = sum.saturating_add(value),
            None => drop(sums.insert(line.clone(), value)),
        }
    }
    for (stack, sum) in sums.iter().filter(|(stack, sum)| **sum > 0 && !stack.is_empty()) {
        writeln!(writer, "{stack} {sum}")?;
    }
    writer.flush()
}

/// A name without what separates names. (Line ends are gone already: see `printable`.)
fn folded_name(name: &str) -> String {
    if name.is_empty() { "[unknown]".to_string() } else { name.replace(';', ":") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Builder, LabelValue, LineSpec};

    #[test]
    fn equal_stacks_are_summed_and_names_cannot_break_the_format() {
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
