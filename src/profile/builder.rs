//! Builds a [`Profile`] from addresses, names and samples. Every string, function, mapping and
//! location is stored once; IDs are dense from 1.
//!
//! Not here: counting equal stacks (each call of [`Builder::sample`] adds one sample), finding
//! names.

use std::{
    collections::{HashMap, hash_map::RandomState},
    hash::BuildHasher,
};

use super::proto::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType};

/// Longest string kept, in bytes; the rest is replaced by an ellipsis. Names come from the target's
/// symbol tables, which do not limit them.
pub const MAX_STRING_BYTES: usize = 16 * 1024;
/// Most bytes of all strings together. Beyond it, new strings become [`TABLE_FULL`].
pub const MAX_STRING_TABLE_BYTES: usize = 256 * 1024 * 1024;
/// Replaces a string that no longer fits into the table.
pub const TABLE_FULL: &str = "[name dropped: string table full]";

/// A mapping of the [`Builder`] that returned it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct MappingId(u32);

/// A function of the [`Builder`] that returned it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FunctionId(u32);

/// A location of the [`Builder`] that returned it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LocationId(u32);

/// A mapping, as passed to [`Builder::mapping`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MappingSpec<'a> {
    /// First run-time address.
    pub start: u64,
    /// Run-time address after the last byte.
    pub limit: u64,
    /// Offset in the file of the byte at `start`.
    pub file_offset: u64,
    /// Path, or a name like `[vdso]`.
    pub filename: &'a str,
    /// Build ID in lower-case hexadecimal; empty if none.
    pub build_id: &'a str,
    /// Names have been searched: tools that read the file need not search again, even where none
    /// was found. (If names were found, the profile's flags already state it.)
    pub symbolized: bool,
}

/// One (possibly inlined) function at a location, as passed to [`Builder::location`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LineSpec {
    /// The function, as returned by [`Builder::function`].
    pub function: FunctionId,
    /// From 1; 0 if unknown.
    pub line: u32,
    /// From 1; 0 if unknown.
    pub column: u32,
}

/// The value of a label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LabelValue<'a> {
    /// A text.
    Text(&'a str),
    /// A number and its unit (empty if none).
    Number(i64, &'a str),
}

/// Builds a profile. Created by [`Builder::new`], turned into a profile by [`Builder::finish`].
pub struct Builder {
    profile: Profile,
    // The maps are std's, whose hash resists chosen collisions: the target chooses names and
    // addresses.
    /// Position of each string in the table.
    strings: HashMap<Box<str>, u32>,
    string_bytes: usize,
    functions: HashMap<Function, u32>,
    mappings: HashMap<Mapping, u32>,
    /// Hash of a location's content → its index + 1; further candidates follow in `same_hash`.
    locations: HashMap<u64, u32>,
    same_hash: Vec<u32>,
    location_hasher: RandomState,
    main_mapping: Option<MappingId>,
}

impl Builder {
    /// Begins a profile whose samples carry one value for each of `sample_types`, given as (type,
    /// unit): `[("samples", "count"), ("cpu", "nanoseconds")]`.
    pub fn new(sample_types: &[(&str, &str)]) -> Builder {
        let mut builder = Builder {
            profile: Profile::default(),
            strings: HashMap::default(),
            string_bytes: 0,
            functions: HashMap::default(),
            mappings: HashMap::default(),
            locations: HashMap::default(),
            same_hash: Vec::new(),
            location_hasher: RandomState::new(),
            main_mapping: None,
        };
        builder.string("");
        for (kind, unit) in sample_types {
            let value_type = builder.value_type(kind, unit);
            builder.profile.sample_type.push(value_type);
        }
        builder
    }

    /// The index of `text` in the string table.
    fn string(&mut self, text: &str) -> i64 {
        if let Some(index) = self.strings.get(text) {
            return i64::from(*index);
        }
        if text.len() > MAX_STRING_BYTES {
            let mut end = MAX_STRING_BYTES - '…'.len_utf8();
            while !text.is_char_boundary(end) {
                end -= 1;
            }
            return self.string(&format!("{}…", &text[..end]));
        }
        let full = self.string_bytes + text.len() > MAX_STRING_TABLE_BYTES || self.strings.len() >= 1 << 31;
        if full && text != TABLE_FULL {
            return self.string(TABLE_FULL);
        }
        let index = self.strings.len() as u32;
        self.string_bytes += text.len();
        self.strings.insert(text.into(), index);
        i64::from(index)
    }

    fn value_type(&mut self, kind: &str, unit: &str) -> ValueType {
        ValueType { r#type: self.string(kind), unit: self.string(unit) }
    }

    /// Adds a mapping, or finds the equal one added before. Tools treat the first mapping added (or
    /// the one set by [`Builder::set_main_mapping`]) as the main binary.
    pub fn mapping(&mut self, spec: &MappingSpec<'_>) -> MappingId {
        let mapping = Mapping {
            id: 0,
            memory_start: spec.start,
            memory_limit: spec.limit,
            file_offset: spec.file_offset,
            filename: self.string(spec.filename),
            build_id: self.string(spec.build_id),
            has_functions: spec.symbolized,
            ..Mapping::default()
        };
        let next = self.profile.mapping.len() as u32;
        let index = *self.mappings.entry(mapping).or_insert(next);
        if index == next {
            self.profile.mapping.push(Mapping { id: u64::from(index) + 1, ..mapping });
        }
        MappingId(index)
    }

    /// Puts `mapping` first in the profile, which makes it the main binary for tools.
    pub fn set_main_mapping(&mut self, mapping: MappingId) {
        self.main_mapping = Some(mapping);
    }

    /// Adds a function, or finds the equal one. `name` is the name to show, `system_name` the
    /// linkage name (empty if unknown), `filename` the source file (empty if unknown), `start_line`
    /// counts from 1 (0 if unknown).
    ///
    /// If both names are equal and look demangled, only the first is kept. Otherwise Go's pprof
    /// would try to demangle the name and strip its parameters (`<A as B>::f` → `::f`).
    pub fn function(&mut self, name: &str, system_name: &str, filename: &str, start_line: u32) -> FunctionId {
        let demangled_twice = name == system_name && (name.contains("::") || name.contains(['<', '(']));
        let system_name = if demangled_twice { "" } else { system_name };
        let function = Function {
            id: 0,
            name: self.string(name),
            system_name: self.string(system_name),
            filename: self.string(filename),
            start_line: i64::from(start_line),
        };
        let next = self.profile.function.len() as u32;
        let index = *self.functions.entry(function).or_insert(next);
        if index == next {
            self.profile.function.push(Function { id: u64::from(index) + 1, ..function });
        }
        FunctionId(index)
    }

    /// Adds a location, or finds the equal one. `address` is the instruction's run-time address
    /// (for a caller: inside the call, its return address − 1). `lines` are its functions, the
    /// innermost inlined one first (empty if unnamed).
    pub fn location(&mut self, mapping: Option<MappingId>, address: u64, lines: &[LineSpec]) -> LocationId {
        let hash = self.location_hasher.hash_one((mapping, address, lines));
        let mapping_id = mapping.map_or(0, |mapping| u64::from(mapping.0) + 1);
        let newest = self.locations.get(&hash).copied().unwrap_or(0);
        let mut candidate = newest;
        while let Some(index) = candidate.checked_sub(1) {
            let known = &self.profile.location[index as usize];
            if known.mapping_id == mapping_id && known.address == address && same_lines(&known.line, lines) {
                return LocationId(index);
            }
            candidate = self.same_hash[index as usize];
        }
        let index = self.profile.location.len() as u32;
        self.same_hash.push(newest);
        self.locations.insert(hash, index + 1);
        let line = lines.iter().map(to_line).collect();
        let id = u64::from(index) + 1;
        self.profile.location.push(Location { id, mapping_id, address, line, is_folded: false });
        LocationId(index)
    }

    /// Adds a sample: its locations, leaf first; one value for each sample type (missing ones count
    /// 0, surplus ones are dropped); labels as (key, value).
    pub fn sample(&mut self, locations: &[LocationId], values: &[i64], labels: &[(&str, LabelValue<'_>)]) {
        let label = labels.iter().map(|(key, value)| self.label(key, *value)).collect();
        let mut value = values.to_vec();
        value.resize(self.profile.sample_type.len(), 0);
        let location_id = locations.iter().map(|location| u64::from(location.0) + 1).collect();
        self.profile.sample.push(Sample { location_id, value, label });
    }

    fn label(&mut self, key: &str, value: LabelValue<'_>) -> Label {
        let key = self.string(key);
        match value {
            LabelValue::Text(text) => Label { key, str: self.string(text), ..Label::default() },
            LabelValue::Number(num, unit) => Label { key, num, num_unit: self.string(unit), str: 0 },
        }
    }

    /// Adds a comment: a line of free text for the reader.
    pub fn comment(&mut self, text: &str) {
        let index = self.string(text);
        self.profile.comment.push(index);
    }

    /// Sets the unit and amount between two samples: `set_period("cpu", "nanoseconds",
    /// 10_101_010)`.
    pub fn set_period(&mut self, kind: &str, unit: &str, period: i64) {
        self.profile.period_type = Some(self.value_type(kind, unit));
        self.profile.period = period;
    }

    /// Sets the start of collection (nanoseconds since 1970-01-01 UTC) and its duration
    /// (nanoseconds).
    pub fn set_time(&mut self, time_nanos: i64, duration_nanos: i64) {
        self.profile.time_nanos = time_nanos;
        self.profile.duration_nanos = duration_nanos;
    }

    /// Sets the type of the value that tools show first.
    pub fn set_default_sample_type(&mut self, kind: &str) {
        self.profile.default_sample_type = self.string(kind);
    }

    /// Sets the URL that documents this kind of profile.
    pub fn set_doc_url(&mut self, url: &str) {
        self.profile.doc_url = self.string(url);
    }

    /// Number of samples so far.
    pub fn sample_count(&self) -> usize {
        self.profile.sample.len()
    }

    /// Finishes the profile: the main mapping first, the flags of each mapping set.
    pub fn finish(mut self) -> Profile {
        self.mark_mappings();
        self.move_main_mapping_first();
        let mut table = vec![String::new(); self.strings.len()];
        for (text, index) in self.strings {
            table[index as usize] = text.into_string();
        }
        self.profile.string_table = table;
        self.profile
    }

    /// Sets the `has_*` flags of each mapping from its locations.
    fn mark_mappings(&mut self) {
        for location in &self.profile.location {
            let Some(mapping) = self.profile.mapping.get_mut((location.mapping_id as usize).wrapping_sub(1))
            else {
                continue;
            };
            mapping.has_inline_frames |= location.line.len() > 1;
            for line in &location.line {
                let function = &self.profile.function[line.function_id as usize - 1];
                mapping.has_functions = true;
                mapping.has_filenames |= function.filename != 0;
                mapping.has_line_numbers |= line.line != 0;
            }
        }
    }

    /// Moves the main mapping to the front and keeps the order of the others.
    fn move_main_mapping_first(&mut self) {
        let Some(MappingId(main)) = self.main_mapping.filter(|main| main.0 > 0) else { return };
        let Some(before) = self.profile.mapping.get_mut(..=main as usize) else { return };
        before.rotate_right(1);
        for (index, mapping) in before.iter_mut().enumerate() {
            mapping.id = index as u64 + 1;
        }
        let main_id = u64::from(main) + 1;
        for location in &mut self.profile.location {
            location.mapping_id = match location.mapping_id {
                0 => 0,
                id if id == main_id => 1,
                id if id < main_id => id + 1,
                id => id,
            };
        }
    }
}

fn to_line(spec: &LineSpec) -> Line {
    Line { function_id: u64::from(spec.function.0) + 1, line: spec.line.into(), column: spec.column.into() }
}

fn same_lines(known: &[Line], specs: &[LineSpec]) -> bool {
    known.len() == specs.len() && known.iter().zip(specs).all(|(line, spec)| *line == to_line(spec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::check;

    fn spec(filename: &str) -> MappingSpec<'_> {
        MappingSpec { start: 0x1000, limit: 0x2000, filename, build_id: "ab", ..MappingSpec::default() }
    }

    #[test]
    fn equal_entries_are_stored_once() {
        let mut builder = Builder::new(&[("cpu", "nanoseconds")]);
        let mapping = builder.mapping(&spec("/bin/a"));
        assert_eq!(mapping, builder.mapping(&spec("/bin/a")));
        let function = builder.function("main", "main", "a.c", 3);
        assert_eq!(function, builder.function("main", "main", "a.c", 3));
        assert_ne!(function, builder.function("main", "main", "b.c", 3));
        let line = LineSpec { function, line: 4, column: 0 };
        let location = builder.location(Some(mapping), 0x1004, &[line]);
        assert_eq!(location, builder.location(Some(mapping), 0x1004, &[line]));
        assert_ne!(location, builder.location(Some(mapping), 0x1004, &[LineSpec { line: 5, ..line }]));
        assert_ne!(location, builder.location(None, 0x1004, &[line]));
        assert_ne!(location, builder.location(Some(mapping), 0x1005, &[line]));
    }

    #[test]
    fn a_demangled_name_is_not_stored_as_a_linkage_name() {
        let mut builder = Builder::new(&[]);
        builder.function("main", "main", "", 0);
        builder.function("<A as B>::f", "<A as B>::f", "", 0);
        builder.function("a::f", "_ZN1a1fE", "", 0);
        let profile = builder.finish();
        let names: Vec<_> = profile.function.iter().map(|f| profile.string(f.system_name)).collect();
        assert_eq!(names, ["main", "", "_ZN1a1fE"]);
    }

    #[test]
    fn the_main_mapping_comes_first_and_locations_follow_it() {
        let mut builder = Builder::new(&[("cpu", "nanoseconds")]);
        let ids = ["/lib/x", "/lib/y", "/bin/main", "/lib/z"].map(|name| builder.mapping(&spec(name)));
        let locations: Vec<_> =
            ids.iter().enumerate().map(|(at, id)| builder.location(Some(*id), at as u64, &[])).collect();
        builder.sample(&locations, &[1], &[]);
        builder.set_main_mapping(ids[2]);
        let profile = builder.finish();
        check(&profile).unwrap();
        let names: Vec<_> = profile.mapping.iter().map(|m| profile.string(m.filename)).collect();
        assert_eq!(names, ["/bin/main", "/lib/x", "/lib/y", "/lib/z"]);
        assert_eq!(profile.location.iter().map(|l| l.mapping_id).collect::<Vec<_>>(), [2, 3, 1, 4]);
        assert_eq!(profile.mapping.iter().map(|m| m.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn the_flags_of_a_mapping_follow_from_its_locations() {
        let mut builder = Builder::new(&[("cpu", "nanoseconds")]);
        let [named, bare, unnamed] = ["/bin/a", "/lib/b", "/lib/c"].map(|name| builder.mapping(&spec(name)));
        let tried = builder.mapping(&MappingSpec { symbolized: true, ..spec("/lib/d") });
        let inner = LineSpec { function: builder.function("i", "i", "a.c", 0), line: 1, column: 0 };
        let outer = LineSpec { function: builder.function("o", "o", "", 0), line: 0, column: 0 };
        builder.location(Some(named), 1, &[inner, outer]);
        builder.location(Some(bare), 2, &[outer]);
        builder.location(Some(unnamed), 3, &[]);
        builder.location(Some(tried), 4, &[]);
        let flags: Vec<_> = builder
            .finish()
            .mapping
            .iter()
            .map(|m| [m.has_functions, m.has_filenames, m.has_line_numbers, m.has_inline_frames])
            .collect();
        assert_eq!(flags, [[true; 4], [true, false, false, false], [false; 4], [true, false, false, false]]);
    }

    #[test]
    fn a_very_long_name_is_cut_at_a_character_boundary() {
        let mut builder = Builder::new(&[]);
        builder.comment(&"ä".repeat(MAX_STRING_BYTES));
        builder.comment(&"ä".repeat(MAX_STRING_BYTES + 7));
        let profile = builder.finish();
        let texts: Vec<_> = profile.comments().collect();
        assert!(texts[0].len() <= MAX_STRING_BYTES && texts[0].ends_with("ä…"));
        assert_eq!(texts[0], texts[1]);
    }

    #[test]
    fn a_sample_has_as_many_values_as_there_are_types() {
        let mut builder = Builder::new(&[("samples", "count"), ("cpu", "nanoseconds")]);
        builder.sample(
            &[],
            &[1],
            &[("thread", LabelValue::Text("w")), ("n", LabelValue::Number(3, "bytes"))],
        );
        builder.sample(&[], &[1, 2, 3], &[]);
        let profile = builder.finish();
        assert_eq!(profile.sample[0].value, [1, 0]);
        assert_eq!(profile.sample[1].value, [1, 2]);
        let [text, number] = profile.sample[0].label[..] else { panic!("two labels") };
        assert_eq!((profile.string(text.key), profile.string(text.str)), ("thread", "w"));
        assert_eq!((number.num, profile.string(number.num_unit), number.str), (3, "bytes", 0));
    }
}
