//! The samples of a profile as stacks of named frames, root first, including inlined functions.
//!
//! Not here: sums, output formats.

use std::{borrow::Cow, collections::HashMap, ops::Range};

use crate::profile::{
    function_starts::{self, FunctionStarts},
    ids::IdIndex,
    proto::{Function, Line, Location, Mapping, Profile, Sample},
};

/// A function (or an address without a name), shared by the frames of many samples.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame<'p> {
    /// The function's name; if it has none, `libfoo.so+0x1f30` (the offset in the file of the
    /// function, or of the location if the function's start is not known),
    /// `0x7f12… [libfoo.so]` or the bare address. Without control characters.
    pub name: Cow<'p, str>,
    /// Source file; empty: unknown.
    pub file: Cow<'p, str>,
    /// First line of the function; 0: unknown.
    pub start_line: i64,
    /// Path (or `[name]`) of the mapping; empty: none.
    pub module: Cow<'p, str>,
    /// Whether the function has a name.
    pub named: bool,
}

impl Frame<'_> {
    /// The last component of the module's path.
    pub fn module_name(&self) -> &str {
        base_name(&self.module)
    }
}

/// Index of a [`Frame`] in [`Stacks::frames`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct FrameId(pub u32);

/// An occurrence of a frame in a stack.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameUse {
    /// The frame.
    pub frame: FrameId,
    /// The current line; 0: unknown.
    pub line: i64,
    /// Whether the function is inlined into the previous frame (nearer to the root).
    pub inlined: bool,
}

/// A profile with its locations converted to frames.
pub struct Stacks<'p> {
    profile: &'p Profile,
    frames: Vec<Frame<'p>>,
    /// For each location, its range in `uses`.
    locations: Vec<Range<usize>>,
    location_index: IdIndex,
    /// The frames of all locations, outermost first.
    uses: Vec<FrameUse>,
}

impl<'p> Stacks<'p> {
    /// Reads the tables of `profile`. Broken references are treated as unknown.
    pub fn new(profile: &'p Profile) -> Stacks<'p> {
        let mut reader = Reader::new(profile);
        let locations = profile.location.iter().map(|location| reader.location(location)).collect();
        let location_index = IdIndex::new(profile.location.iter().map(|location| location.id)).0;
        Stacks { profile, frames: reader.frames, locations, location_index, uses: reader.uses }
    }

    /// All frames, indexed by [`FrameId`].
    pub fn frames(&self) -> &[Frame<'p>] {
        &self.frames
    }

    /// The frame with this index.
    pub fn frame(&self, id: FrameId) -> &Frame<'p> {
        &self.frames[id.0 as usize]
    }

    /// The profile.
    pub fn profile(&self) -> &'p Profile {
        self.profile
    }

    /// The frames of a sample of this profile, root first.
    pub fn of(&self, sample: &Sample) -> impl Iterator<Item = FrameUse> {
        let positions = sample.location_id.iter().rev().filter_map(|id| self.location_index.position(*id));
        positions.flat_map(|position| self.uses[self.locations[position].clone()].iter().copied())
    }

    /// The text of a sample's label, such as `thread`.
    pub fn label(&self, sample: &Sample, key: &str) -> Option<Cow<'p, str>> {
        let label =
            sample.label.iter().find(|label| label.str != 0 && self.profile.string(label.key) == key)?;
        Some(printable(self.profile.string(label.str)))
    }
}

/// The value with index `index` of a sample; 0 if it has none.
pub fn value_of(sample: &Sample, index: usize) -> i64 {
    sample.value.get(index).copied().unwrap_or(0)
}

/// Builds the frame table.
struct Reader<'p> {
    profile: &'p Profile,
    mapping_index: IdIndex,
    function_index: IdIndex,
    frames: Vec<Frame<'p>>,
    uses: Vec<FrameUse>,
    /// By name, file and module.
    named: HashMap<(&'p str, &'p str, &'p str), FrameId>,
    unnamed: HashMap<String, FrameId>,
    starts: FunctionStarts,
}

impl<'p> Reader<'p> {
    fn new(profile: &'p Profile) -> Reader<'p> {
        Reader {
            profile,
            mapping_index: IdIndex::new(profile.mapping.iter().map(|mapping| mapping.id)).0,
            function_index: IdIndex::new(profile.function.iter().map(|function| function.id)).0,
            frames: Vec::new(),
            uses: Vec::new(),
            named: HashMap::new(),
            unnamed: HashMap::new(),
            starts: FunctionStarts::of_profile(profile),
        }
    }

    /// Appends the frames of `location` to `uses`, outermost first. Returns their range.
    fn location(&mut self, location: &Location) -> Range<usize> {
        let start = self.uses.len();
        let mapping = self.mapping_index.position(location.mapping_id).map(|at| &self.profile.mapping[at]);
        let mut lines: Vec<(&'p Function, i64)> = Vec::with_capacity(location.line.len());
        lines.extend(location.line.iter().rev().filter_map(|line| Some((self.function(line)?, line.line))));
        for (depth, (function, line)) in lines.iter().enumerate() {
            let frame = self.named_frame(function, mapping);
            self.uses.push(FrameUse { frame, line: *line, inlined: depth > 0 });
        }
        if lines.is_empty() {
            let frame = self.unnamed_frame(location.address, mapping);
            self.uses.push(FrameUse { frame, line: 0, inlined: false });
        }
        start..self.uses.len()
    }

    /// The function of a line, if it has a name.
    fn function(&self, line: &Line) -> Option<&'p Function> {
        let function = &self.profile.function[self.function_index.position(line.function_id)?];
        let named = |index| !self.profile.string(index).is_empty();
        (named(function.name) || named(function.system_name)).then_some(function)
    }

    fn named_frame(&mut self, function: &Function, mapping: Option<&'p Mapping>) -> FrameId {
        let profile = self.profile;
        let name = match profile.string(function.name) {
            "" => profile.string(function.system_name),
            name => name,
        };
        let file = profile.string(function.filename);
        let module = mapping.map_or("", |mapping| profile.string(mapping.filename));
        let next = FrameId(self.frames.len() as u32);
        let id = *self.named.entry((name, file, module)).or_insert(next);
        if id == next {
            self.frames.push(Frame {
                name: printable(name),
                file: printable(file),
                start_line: function.start_line,
                module: printable(module),
                named: true,
            });
        }
        id
    }

    fn unnamed_frame(&mut self, address: u64, mapping: Option<&'p Mapping>) -> FrameId {
        let module = printable(mapping.map_or("", |mapping| self.profile.string(mapping.filename)));
        let name = self.address_name(address, mapping, shown_base(&module));
        let next = FrameId(self.frames.len() as u32);
        // Unnamed frames with the same base name are distinguished by address and module.
        let id = *self.unnamed.entry(format!("{name} {module}")).or_insert(next);
        if id == next {
            let name = Cow::Owned(name);
            self.frames.push(Frame { name, file: "".into(), start_line: 0, module, named: false });
        }
        id
    }

    fn address_name(&self, address: u64, mapping: Option<&Mapping>, module: &str) -> String {
        let Some(mapping) = mapping.filter(|_| !module.is_empty()) else {
            return if address == 0 { "[unknown]".to_string() } else { format!("{address:#x}") };
        };
        if address == 0 || is_memory(module) {
            return bracketed(module);
        }
        let inside = (mapping.memory_start..mapping.memory_limit).contains(&address);
        let offset = address.wrapping_sub(mapping.memory_start).checked_add(mapping.file_offset);
        let Some(offset) = offset.filter(|_| inside) else {
            return format!("{address:#x} {}", bracketed(module));
        };
        let text = |index| self.profile.string(index);
        let start = self.starts.of(text(mapping.build_id), text(mapping.filename), offset);
        function_starts::unnamed(module, start.unwrap_or(offset))
    }
}

/// Whether a mapping is memory without a file, where code has been generated: an address in it
/// means nothing to the reader.
fn is_memory(module: &str) -> bool {
    module.starts_with('[') && module != "[vdso]" && !module.starts_with("[kernel")
}

/// The name of a mapping without its folders. The kernel calls memory without a file `//anon`.
fn shown_base(module: &str) -> &str {
    if module == "//anon" { "[anon executable]" } else { base_name(module) }
}

/// The name in brackets; a name in brackets (`[vdso]`) is unchanged.
pub fn bracketed(name: &str) -> String {
    if name.starts_with('[') { name.to_string() } else { format!("[{name}]") }
}

/// The last component of a path.
pub fn base_name(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit('/').next() {
        Some(name) if !name.is_empty() => name,
        _ => path,
    }
}

/// `text` without control characters (XML forbids them) and characters that change the text
/// direction.
pub fn printable(text: &str) -> Cow<'_, str> {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
            || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    if text.contains(harmful) { text.replace(harmful, "\u{fffd}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::{Builder, LineSpec, MappingSpec};

    fn names(profile: &Profile) -> Vec<Vec<String>> {
        let stacks = Stacks::new(profile);
        let of = |sample| stacks.of(sample).map(|used| stacks.frame(used.frame).name.to_string()).collect();
        profile.sample.iter().map(of).collect()
    }

    #[test]
    fn frames_come_root_first_with_inlined_ones_in_their_callers() {
        let mut builder = Builder::new(&[("cpu", "nanoseconds")]);
        let [main, outer, inner] =
            ["main", "outer", "inner"].map(|name| builder.function(name, name, "a.c", 3));
        let line = |function, line| LineSpec { function, line, column: 0 };
        let leaf = builder.location(None, 0x10, &[line(inner, 7), line(outer, 8)]);
        let root = builder.location(None, 0x20, &[line(main, 9)]);
        builder.sample(&[leaf, root], &[1], &[]);
        let profile = builder.finish();
        assert_eq!(names(&profile), [["main", "outer", "inner"]]);
        let stacks = Stacks::new(&profile);
        let uses: Vec<_> = stacks.of(&profile.sample[0]).map(|used| (used.line, used.inlined)).collect();
        assert_eq!(uses, [(9, false), (8, false), (7, true)]);
    }

    #[test]
    fn a_location_without_a_name_is_shown_as_file_and_offset() {
        let mut builder = Builder::new(&[("cpu", "nanoseconds")]);
        let mapping = |filename| MappingSpec {
            start: 0x7f00_0000_1000,
            limit: 0x7f00_0000_3000,
            file_offset: 0x1000,
            filename,
            ..MappingSpec::default()
        };
        let library = builder.mapping(&mapping("/usr/lib/libfoo.so"));
        let vdso = builder.mapping(&mapping("[vdso]"));
        let places = [
            (Some(library), 0x7f00_0000_1f30),
            (Some(library), 0x10),
            (Some(vdso), 0x10),
            (Some(library), 0),
            (None, 0xabc),
            (None, 0),
        ];
        let locations = places.map(|(mapping, address)| builder.location(mapping, address, &[]));
        builder.sample(&locations, &[1], &[]);
        let expected =
            ["[unknown]", "0xabc", "[libfoo.so]", "0x10 [vdso]", "0x10 [libfoo.so]", "libfoo.so+0x1f30"];
        assert_eq!(names(&builder.finish()), [expected]);
    }

    #[test]
    fn control_characters_are_removed_from_names() {
        assert_eq!(printable("\u{1b}[31mred\n\u{202e}txt"), "\u{fffd}[31mred\u{fffd}\u{fffd}txt");
        assert!(matches!(printable("std::vec<T>"), Cow::Borrowed(_)));
    }

    #[test]
    fn broken_references_are_treated_as_unknown() {
        let profile = Profile {
            sample: vec![Sample { location_id: vec![1, 99, 0], ..Sample::default() }],
            location: vec![Location {
                id: 1,
                mapping_id: 5,
                address: 0x5,
                line: vec![Line { function_id: 8, ..Line::default() }],
                is_folded: false,
            }],
            ..Profile::default()
        };
        assert_eq!(names(&profile), [["0x5"]]);
        assert_eq!(value_of(&profile.sample[0], 3), 0);
    }
}
