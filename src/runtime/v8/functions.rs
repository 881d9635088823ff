//! Functions and scripts: names, files, lines.
//!
//! Not here: which function a frame is of (`code`).

use std::sync::Arc;

use super::{
    classes::Classes,
    heap::{Heap, Text, small_integer},
    names,
};

/// The most characters of a name.
const MAX_NAME: usize = 1024;
/// The most characters of a path.
const MAX_PATH: usize = 4096;
/// The most characters of a source.
const MAX_SOURCE: usize = 16 << 20;
/// From this many variables on, a hash table holds their names
/// (`kScopeInfoMaxInlinedLocalNamesSize`).
const MANY_VARIABLES: u64 = 75;
/// How many words after the variables of a `ScopeInfo` may be the name and the position.
const NAME_WORDS: u64 = 10;

/// A script.
#[derive(Debug)]
pub struct Script {
    /// The path or name.
    pub name: String,
    /// Offset of the end of each line; empty: not known.
    pub line_ends: Vec<u32>,
    /// The classes in it.
    pub classes: Classes,
}

impl Script {
    /// The line and the column of an offset in the source, from 1 on; 0: not known.
    pub fn line(&self, offset: u32) -> (u32, u32) {
        if self.line_ends.is_empty() {
            return (0, 0);
        }
        let index = self.line_ends.partition_point(|end| *end < offset);
        let start =
            index.checked_sub(1).and_then(|before| self.line_ends.get(before)).map_or(0, |end| end + 1);
        (index as u32 + 1, offset.saturating_sub(start) + 1)
    }
}

/// A function, whichever closure and code runs it.
#[derive(Debug)]
pub struct Function {
    /// The name to show.
    pub name: String,
    /// Its script; `None`: it is a builtin.
    pub script: Option<Arc<Script>>,
    /// Line of its parameters; 0: not known.
    pub line: u32,
    /// Its bytecode; `None`: it has none.
    pub bytecode: Option<u64>,
}

/// Name and position, as a `SharedFunctionInfo` states them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Stated {
    name: String,
    start: Option<u32>,
}

/// What identifies a function at an address: the words that do not change while it lives.
pub fn generation(heap: &Heap, function: u64) -> Option<u64> {
    let at = &heap.layout.at;
    let words: [u64; 8] = heap.words(function, 0)?;
    let word = |offset: u64| words.get(usize::try_from(offset / 8).ok()?).copied();
    Some(word(0)? ^ word(at.function_name)?.rotate_left(17) ^ word(at.function_script)?.rotate_left(31))
}

/// Reads a function. `script`: reads a script, or knows it. `None`: it is none.
pub fn read(heap: &Heap, function: u64, script: impl FnOnce(u64) -> Option<Arc<Script>>) -> Option<Function> {
    let (types, at) = (&heap.layout.types, &heap.layout.at);
    if !heap.is(function, types.function) {
        return None;
    }
    let script = script(script_of(heap, heap.word(function, at.function_script)?)?);
    let name = heap.word(function, at.function_name)?;
    let stated = match heap.is(name, types.scope) {
        true => scope(heap, name).unwrap_or_default(),
        false => Stated { name: heap.string(name, MAX_NAME).unwrap_or_default(), start: None },
    };
    let data = heap.word(function, 8)?;
    let (line, _) = script.as_ref().zip(stated.start).map_or((0, 0), |(script, start)| script.line(start));
    let class = script.as_ref().zip(stated.start).and_then(|(script, at)| script.classes.of_method(at));
    let name = names::of_class(&stated.name, class);
    let name = names::display(&name, script.as_ref().map(|script| script.name.as_str()), line);
    Some(Function { name, script, line, bytecode: bytecode(heap, data, 4) })
}

/// The script that a function states: itself, or in its debug information.
fn script_of(heap: &Heap, stated: u64) -> Option<u64> {
    if heap.is(stated, heap.layout.types.script) {
        return Some(stated);
    }
    // `DebugInfo`: some of its first words is the script; a builtin has a value that is no object.
    let inside = heap.words::<8>(stated, 8).unwrap_or_default();
    Some(inside.into_iter().find(|word| heap.is(*word, heap.layout.types.script)).unwrap_or(0))
}

/// The bytecode that a function's data leads to.
pub fn bytecode(heap: &Heap, data: u64, hops: u32) -> Option<u64> {
    let (types, at) = (&heap.layout.types, &heap.layout.at);
    let hops = hops.checked_sub(1)?;
    let found = heap.type_of(data)?;
    if found == types.bytecode {
        return Some(data);
    }
    if found == types.interpreter_data {
        let parts: [u64; 2] = heap.words(data, 8)?;
        return parts.into_iter().find(|part| heap.is(*part, types.bytecode));
    }
    if found == types.code {
        return bytecode(heap, heap.word(data, at.code_data)?, hops);
    }
    if found == types.code_wrapper {
        return bytecode(heap, heap.word(data, 8)?, hops);
    }
    None
}

/// Name and position that a `ScopeInfo` has: the name is the first string after the variables.
fn scope(heap: &Heap, scope: u64) -> Option<Stated> {
    let at = &heap.layout.at;
    let head: [u64; 5] = heap.words(scope, 8)?;
    let variables = u64::try_from(small_integer(head[2])?).ok().filter(|count| *count < 1 << 16)?;
    let names = if variables < MANY_VARIABLES { 2 * variables } else { 1 + variables };
    let first = 8 + 8 * (at.scope_variables + names);
    let words: Vec<u64> = (0..NAME_WORDS).map_while(|index| heap.word(scope, first + 8 * index)).collect();
    let position = |start: u64, end: u64| {
        let (start, end) = (small_integer(start)?, small_integer(end)?);
        u32::try_from(start).ok().filter(|_| start < end)
    };
    let start = match at.scope_starts_with_position {
        true => position(head[3], head[4]),
        false => words.windows(2).find_map(|pair| position(pair[0], pair[1])),
    };
    let text = |word: &u64| heap.string(*word, MAX_NAME).filter(|text| !text.is_empty());
    Some(Stated { name: words.iter().find_map(text).unwrap_or_default(), start })
}

/// Reads a script. `None`: it is none.
pub fn read_script(heap: &Heap, script: u64) -> Option<Script> {
    if !heap.is(script, heap.layout.types.script) {
        return None;
    }
    let [source, name, line_ends] = heap.layout.at.script.map(|offset| heap.word(script, offset));
    let name = name.and_then(|name| heap.string(name, MAX_PATH)).unwrap_or_default();
    let listed = line_ends.and_then(|ends| heap.array(ends)).filter(|ends| !ends.is_empty());
    let listed = listed.and_then(|ends| {
        let ends: Option<Vec<u32>> =
            ends.iter().map(|end| u32::try_from(small_integer(*end)?).ok()).collect();
        ends.filter(|ends| ends.is_sorted())
    });
    let text = source.and_then(|source| heap.text(source, MAX_SOURCE));
    let line_ends = listed.or_else(|| text.as_ref().map(ends_of)).unwrap_or_default();
    let classes = text.as_ref().map(Classes::of).unwrap_or_default();
    Some(Script { name: names::path(&name), line_ends, classes })
}

/// The ends of the lines of a source (`String::CalculateLineEnds`).
fn ends_of(source: &Text) -> Vec<u32> {
    let is_end = |index: usize| match source.unit(index) {
        Some(0x0d) => source.unit(index + 1) != Some(0x0a),
        Some(unit) => matches!(unit, 0x0a | 0x2028 | 0x2029),
        None => false,
    };
    let length = source.len();
    (0..length).filter(|index| is_end(*index)).chain([length]).map(|end| end as u32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(line_ends: Vec<u32>) -> Script {
        Script { name: String::new(), line_ends, classes: Classes::default() }
    }

    #[test]
    fn lines_and_columns_are_those_of_the_source() {
        let source = Text::OneByte(b"a\nbc\r\nd".to_vec());
        let one = script(ends_of(&source));
        assert_eq!(one.line_ends, [1, 5, 7]);
        assert_eq!([0, 1, 2, 3, 6].map(|at| one.line(at)), [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1)]);
        let source = Text::TwoByte("x\u{2028}y".encode_utf16().collect());
        assert_eq!(ends_of(&source), [1, 3]);
        assert_eq!(script(Vec::new()).line(7), (0, 0));
    }
}
