//! The values of local variables as text: numbers, strings and the lengths of collections; of other
//! objects the name of the type. Nothing is executed, and no attribute or property is read.
//!
//! Everything is bounded, because values are read while a thread is stopped or might wake up. Text
//! is escaped: it comes from the program and may hold control characters.
//!
//! Not here: which frames there are (`frames`).

use std::time::{Duration, Instant};

use super::{
    layouts::Layout,
    objects::{Objects, is_pointer},
    process::PythonProcess,
    walker::{FORM_OBJECTS, Section},
};
use crate::runtime::Variable;

/// The most frames of a thread whose variables are read.
const MAX_FRAMES: usize = 64;
/// The most variables of a frame.
const MAX_OF_FRAME: u64 = 64;
/// The most variables of a thread.
const MAX_OF_THREAD: usize = 512;
/// The longest time that the variables of a thread are read.
const MAX_TIME: Duration = Duration::from_millis(5);
/// The most characters or bytes of a value that are shown.
const MAX_SHOWN: usize = 80;
/// The most characters of a name.
const MAX_NAME: usize = 64;
/// The most 30-bit digits of an integer that are shown.
const MAX_DIGITS: u64 = 4;

impl PythonProcess {
    /// The local variables of the frames of a section, with the index of each frame.
    pub fn variables(&self, section: &Section) -> Vec<(usize, Vec<Variable>)> {
        let deadline = Instant::now() + MAX_TIME;
        let mut found = Vec::new();
        let mut room = MAX_OF_THREAD;
        for (index, frame) in section.frames.iter().enumerate().take(MAX_FRAMES) {
            if room == 0 || Instant::now() > deadline {
                break;
            }
            if self.layout.is_shim(frame.entry()) {
                continue;
            }
            let mut variables = self.variables_of(frame.frame(), frame.code).unwrap_or_default();
            variables.truncate(room);
            room -= variables.len();
            found.push((index, variables));
        }
        found
    }

    /// The variables of one frame; those without a value are left out.
    fn variables_of(&self, frame: u64, code: u64) -> Option<Vec<Variable>> {
        let (objects, layout) = (self.objects(), &self.layout);
        let names = objects.tuple(objects.pointer(code, layout.code_local_names)?, MAX_OF_FRAME)?;
        let first = frame.checked_add(u64::from(layout.frame_locals))?;
        let values = objects.words(first, names.len() as u64)?;
        let variable = |(name, value): (&u64, &u64)| {
            let value = value_of(&objects, layout, *value)?;
            Some(Variable { name: short(&objects.text_up_to(*name, MAX_NAME)?.0), value })
        };
        Some(names.iter().zip(&values).filter_map(variable).collect())
    }
}

/// A value as text; `None`: the variable has none.
fn value_of(objects: &Objects<'_>, layout: &Layout, word: u64) -> Option<String> {
    // From 3.14 on the lowest bits are a tag: 3 is an integer in the word itself.
    if layout.code_mask != u64::MAX && word & 3 == 3 {
        return Some((word.cast_signed() >> 2).to_string());
    }
    let object = word & layout.code_mask;
    if !is_pointer(object) {
        return None;
    }
    // A variable that an inner function uses is in a cell (3.11 and newer: of the same array).
    let Some(kind) = objects.type_name(object) else { return Some("?".to_owned()) };
    if kind != "cell" || layout.form == FORM_OBJECTS {
        return Some(simple(objects, layout, object, &kind));
    }
    let inner = objects.pointer(object, layout.weak_object)?;
    let Some(kind) = objects.type_name(inner) else { return Some("?".to_owned()) };
    Some(simple(objects, layout, inner, &kind))
}

/// The text of an object of the type `kind`.
fn simple(objects: &Objects<'_>, layout: &Layout, object: u64, kind: &str) -> String {
    // In a set and a dictionary: the number of used entries.
    let used = |offset: u32| objects.word(object, layout.weak_object + offset);
    let text = match kind {
        "NoneType" => Some("None".to_owned()),
        "bool" => match objects.int_size(object) {
            Some((false, 0)) => Some("False".to_owned()),
            Some((false, 1)) => Some("True".to_owned()),
            _ => None,
        },
        "int" => integer(objects, object),
        "float" => objects.word(object, layout.float_value).map(|bits| format!("{:?}", f64::from_bits(bits))),
        "str" => string(objects, object),
        "bytes" => bytes(objects, layout, object),
        "list" | "tuple" => items(kind, objects.word(object, layout.size)),
        "dict" => items(kind, used(0)),
        "set" | "frozenset" => items(kind, used(8)),
        _ => None,
    };
    text.unwrap_or_else(|| format!("<{}>", short(kind)))
}

/// `list of 3`; `None`: no collection has so many.
fn items(kind: &str, count: Option<u64>) -> Option<String> {
    count.filter(|count| *count < 1 << 48).map(|count| format!("{kind} of {count}"))
}

fn integer(objects: &Objects<'_>, object: u64) -> Option<String> {
    let (is_negative, count) = objects.int_size(object)?;
    let sign = if is_negative { "-" } else { "" };
    if count > MAX_DIGITS {
        return (count < 1 << 40).then(|| format!("{sign}int of {} bits", count * 30));
    }
    let magnitude = objects.int_magnitude(object, count)?;
    Some(format!("{sign}{magnitude}"))
}

fn string(objects: &Objects<'_>, object: u64) -> Option<String> {
    let (text, length) = objects.text_up_to(object, MAX_SHOWN)?;
    Some(cut(format!("{text:?}"), length, MAX_SHOWN, "characters"))
}

fn bytes(objects: &Objects<'_>, layout: &Layout, object: u64) -> Option<String> {
    let length = objects.word(object, layout.size)?;
    let shown = objects.bytes_up_to(object, MAX_SHOWN)?;
    let length = usize::try_from(length).ok()?;
    Some(cut(format!("b\"{}\"", shown.escape_ascii()), length, MAX_SHOWN, "bytes"))
}

/// A value in quotes, with its length if it is longer than what is shown.
fn cut(quoted: String, length: usize, shown: usize, unit: &str) -> String {
    if length <= shown { quoted } else { format!("{quoted}… ({length} {unit})") }
}

/// A name without control characters, of bounded length.
fn short(name: &str) -> String {
    name.chars().take(MAX_NAME).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{addr::RuntimeAddr, process::ProcessMemory};

    const START: u64 = 0x10_0000;
    /// Words of a type object, with its name behind it.
    const TYPE: usize = 40;
    const INT_FLAG: u64 = 1 << 24;

    /// The text of an object of 3.12 whose words after its type are `words`.
    fn text_of(kind: &str, flags: u64, words: &[u64]) -> Option<String> {
        let mut all = vec![0; TYPE];
        all[3] = START + (TYPE as u64 - 4) * 8;
        all[168 / 8] = flags;
        let mut bytes: Vec<u8> = all.iter().flat_map(|word| word.to_le_bytes()).collect();
        let name = (TYPE - 4) * 8;
        bytes[name..name + kind.len().min(31)].copy_from_slice(&kind.as_bytes()[..kind.len().min(31)]);
        bytes.extend([1, START].iter().chain(words).flat_map(|word| word.to_le_bytes()));
        let (layout, memory) =
            (Layout::of(12).expect("a row"), ProcessMemory::of_image(RuntimeAddr(START), bytes));
        value_of(&Objects::new(&memory, &layout), &layout, START + TYPE as u64 * 8)
    }

    #[track_caller]
    fn assert_text(kind: &str, words: &[u64], text: &str) {
        let flags = if matches!(kind, "int" | "bool") { INT_FLAG } else { 0 };
        assert_eq!(text_of(kind, flags, words).as_deref(), Some(text));
    }

    /// The state of a `str` of 3.12 whose characters are bytes.
    const ASCII: u64 = 1 << 2 | 1 << 5 | 1 << 6;

    #[test]
    fn simple_values_are_shown_as_python_shows_them() {
        assert_text("NoneType", &[], "None");
        assert_text("bool", &[1 << 3, 1], "True");
        assert_text("bool", &[1, 0], "False");
        assert_text("int", &[1, 0, 0], "0");
        assert_text("int", &[1 << 3, 1234, 0], "1234");
        // -(2^65): 30 + 30 + 6 bits.
        assert_text("int", &[3 << 3 | 2, 0, 32, 0], "-36893488147419103232");
        assert_text("int", &[9 << 3, 0, 0], "int of 270 bits");
        assert_text("float", &[0.25f64.to_bits()], "0.25");
        let text = u64::from_le_bytes(*b"a\x1b[2J\n\0\0");
        assert_text("str", &[6, 0, ASCII, text], r#""a\u{1b}[2J\n""#);
        assert_text("bytes", &[3, 0, u64::from_le_bytes(*b"\0\xffz\0\0\0\0\0")], r#"b"\x00\xffz""#);
        assert_text("list", &[7], "list of 7");
        assert_text("dict", &[8], "dict of 8");
        assert_text("set", &[1, 9], "set of 9");
        assert_text("Session", &[1, 9], "<Session>");
    }

    #[test]
    fn hostile_objects_are_shown_by_their_type_or_in_part() {
        assert_text("list", &[u64::MAX], "<list>");
        assert_text("int", &[u64::MAX, 0, 0], "<int>");
        assert_text("int", &[3 << 3], "<int>");
        // 4 GB, of which no byte is there.
        assert_text("str", &[4 << 30, 0, ASCII], "<str>");
        assert_text("bytes", &[u64::MAX, 0], "<bytes>");
        let many = [0x6161_6161_6161_6161; 12];
        let shown = format!("\"{}\"… (4294967296 characters)", "a".repeat(80));
        assert_text("str", &[&[4 << 30, 0, ASCII], &many[..]].concat(), &shown);
        assert_text("a\x1b]0;title\x07", &[], r"<a\u{1b}]0;title\u{7}>");
        // A cell in a cell, and one that refers to nothing.
        assert_eq!(text_of("cell", 0, &[START + TYPE as u64 * 8]).as_deref(), Some("<cell>"));
        assert_eq!(text_of("cell", 0, &[0]), None);
    }

    #[test]
    fn an_integer_in_the_word_itself_is_shown_and_no_pointer_is_no_value() {
        let (layout, memory) =
            (Layout::of(14).expect("a row"), ProcessMemory::of_image(RuntimeAddr(START), vec![]));
        let objects = Objects::new(&memory, &layout);
        assert_eq!(value_of(&objects, &layout, (-5i64 << 2 | 3).cast_unsigned()).as_deref(), Some("-5"));
        assert_eq!((value_of(&objects, &layout, 0), value_of(&objects, &layout, 1)), (None, None));
        assert_eq!(value_of(&objects, &layout, START).as_deref(), Some("?"), "it cannot be read");
    }
}
