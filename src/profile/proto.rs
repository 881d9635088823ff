//! The messages of `profile.proto` (package `perftools.profiles`, repository google/pprof), field
//! by field, with the numbers that file gives them.
//!
//! Not here: invariants (see [`super::check`]); any bytes with the right structure decode to a
//! message.

/// A set of samples and the tables needed to read them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Profile {
    /// The type and unit of each value of a sample, in order: `samples/count`, `cpu/nanoseconds` …
    #[prost(message, repeated, tag = "1")]
    pub sample_type: Vec<ValueType>,
    /// The samples.
    #[prost(message, repeated, tag = "2")]
    pub sample: Vec<Sample>,
    /// Files mapped into the process; the first is the main binary.
    #[prost(message, repeated, tag = "3")]
    pub mapping: Vec<Mapping>,
    /// The locations that samples refer to.
    #[prost(message, repeated, tag = "4")]
    pub location: Vec<Location>,
    /// The functions that locations refer to.
    #[prost(message, repeated, tag = "5")]
    pub function: Vec<Function>,
    /// Every string of the profile; the first is empty. Fields that refer to a string hold its
    /// index.
    #[prost(string, repeated, tag = "6")]
    pub string_table: Vec<String>,
    /// Regular expression (string index): frames whose function matches are dropped, with their
    /// callees.
    #[prost(int64, tag = "7")]
    pub drop_frames: i64,
    /// Regular expression (string index): frames that are kept although `drop_frames` matches.
    #[prost(int64, tag = "8")]
    pub keep_frames: i64,
    /// Start of collection, in nanoseconds since 1970-01-01 UTC.
    #[prost(int64, tag = "9")]
    pub time_nanos: i64,
    /// Duration of collection, in nanoseconds.
    #[prost(int64, tag = "10")]
    pub duration_nanos: i64,
    /// Type and unit of the period: `cpu/nanoseconds` …
    #[prost(message, optional, tag = "11")]
    pub period_type: Option<ValueType>,
    /// Number of units between two samples.
    #[prost(int64, tag = "12")]
    pub period: i64,
    /// Comments: free text for the reader (string indexes).
    #[prost(int64, repeated, tag = "13")]
    pub comment: Vec<i64>,
    /// The sample type to show first (string index of its `type`); 0: the last one.
    #[prost(int64, tag = "14")]
    pub default_sample_type: i64,
    /// Documentation of this kind of profile (string index of a URL).
    #[prost(int64, tag = "15")]
    pub doc_url: i64,
}

/// The type and unit of a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct ValueType {
    /// String index: `cpu`, `samples`, `alloc_space` …
    #[prost(int64, tag = "1")]
    pub r#type: i64,
    /// String index: `nanoseconds`, `count`, `bytes` …
    #[prost(int64, tag = "2")]
    pub unit: i64,
}

/// A stack and the values measured with it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sample {
    /// [`Location::id`]s, leaf first.
    #[prost(uint64, repeated, tag = "1")]
    pub location_id: Vec<u64>,
    /// One for each [`Profile::sample_type`].
    #[prost(int64, repeated, tag = "2")]
    pub value: Vec<i64>,
    /// The labels, in any order.
    #[prost(message, repeated, tag = "3")]
    pub label: Vec<Label>,
}

/// A label of a sample: `thread = "worker 3"`, `bytes = 512`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Label {
    /// String index.
    #[prost(int64, tag = "1")]
    pub key: i64,
    /// String index of a text value; 0 when the value is a number.
    #[prost(int64, tag = "2")]
    pub str: i64,
    /// A number value.
    #[prost(int64, tag = "3")]
    pub num: i64,
    /// String index of the number's unit; 0 if not stated.
    #[prost(int64, tag = "4")]
    pub num_unit: i64,
}

/// A range of a file (or of an image such as the vDSO) in the memory of the process.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Mapping {
    /// Unique, not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// First address.
    #[prost(uint64, tag = "2")]
    pub memory_start: u64,
    /// Address after the last byte.
    #[prost(uint64, tag = "3")]
    pub memory_limit: u64,
    /// Offset in the file of the byte at `memory_start`.
    #[prost(uint64, tag = "4")]
    pub file_offset: u64,
    /// String index of the path, or of a name like `[vdso]`.
    #[prost(int64, tag = "5")]
    pub filename: i64,
    /// String index of the build ID in lower-case hexadecimal.
    #[prost(int64, tag = "6")]
    pub build_id: i64,
    /// Functions of this mapping have been named. Tools search for names only if none of these four
    /// flags is set.
    #[prost(bool, tag = "7")]
    pub has_functions: bool,
    /// Source files are known.
    #[prost(bool, tag = "8")]
    pub has_filenames: bool,
    /// Line numbers are known.
    #[prost(bool, tag = "9")]
    pub has_line_numbers: bool,
    /// Inlined functions are known.
    #[prost(bool, tag = "10")]
    pub has_inline_frames: bool,
}

/// A location in the program.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Location {
    /// Unique, not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// [`Mapping::id`]; 0 if none.
    #[prost(uint64, tag = "2")]
    pub mapping_id: u64,
    /// The instruction's run-time address; for a caller, an address inside the call instruction.
    #[prost(uint64, tag = "3")]
    pub address: u64,
    /// Functions at the location. If functions were inlined there are several, the innermost first
    /// and the function that owns the machine code last. Empty if unnamed.
    #[prost(message, repeated, tag = "4")]
    pub line: Vec<Line>,
    /// The linker merged several identical functions here (identical code folding).
    #[prost(bool, tag = "5")]
    pub is_folded: bool,
}

/// A function and a position in its source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Line {
    /// [`Function::id`].
    #[prost(uint64, tag = "1")]
    pub function_id: u64,
    /// From 1; 0 if unknown.
    #[prost(int64, tag = "2")]
    pub line: i64,
    /// From 1; 0 if unknown.
    #[prost(int64, tag = "3")]
    pub column: i64,
}

/// A function of the source.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct Function {
    /// Unique, not 0.
    #[prost(uint64, tag = "1")]
    pub id: u64,
    /// String index of the name to show (demangled).
    #[prost(int64, tag = "2")]
    pub name: i64,
    /// String index of the linkage name (mangled).
    #[prost(int64, tag = "3")]
    pub system_name: i64,
    /// String index of the source file.
    #[prost(int64, tag = "4")]
    pub filename: i64,
    /// First line of the function; 0 if unknown.
    #[prost(int64, tag = "5")]
    pub start_line: i64,
}

impl Profile {
    /// The string at `index`; empty if the index is out of range (in a profile that was not
    /// checked).
    pub fn string(&self, index: i64) -> &str {
        usize::try_from(index).ok().and_then(|i| self.string_table.get(i)).map_or("", String::as_str)
    }

    /// The texts of all comments.
    pub fn comments(&self) -> impl Iterator<Item = &str> {
        self.comment.iter().map(|index| self.string(*index))
    }

    /// The position in [`Sample::value`] of the sample type named `name`.
    pub fn sample_type_index(&self, name: &str) -> Option<usize> {
        self.sample_type.iter().position(|kind| self.string(kind.r#type) == name)
    }

    /// The position of the value shown by default: `default_sample_type`, or else the last, as in
    /// pprof. `None`: the profile has no sample types.
    pub fn default_value_index(&self) -> Option<usize> {
        let named = self.string(self.default_sample_type);
        let named = (!named.is_empty()).then(|| self.sample_type_index(named)).flatten();
        named.or(self.sample_type.len().checked_sub(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_value_is_the_named_one_or_the_last() {
        let mut profile = Profile {
            string_table: ["", "samples", "count", "cpu"].map(String::from).to_vec(),
            sample_type: vec![ValueType { r#type: 1, unit: 2 }, ValueType { r#type: 3, unit: 2 }],
            ..Profile::default()
        };
        assert_eq!(profile.default_value_index(), Some(1));
        profile.default_sample_type = 1;
        assert_eq!(profile.default_value_index(), Some(0));
        profile.default_sample_type = 77;
        assert_eq!(profile.default_value_index(), Some(1));
        assert_eq!(Profile::default().default_value_index(), None);
    }

    #[test]
    fn an_index_out_of_range_is_the_empty_string() {
        let profile = Profile { string_table: vec!["".into(), "a".into()], ..Profile::default() };
        assert_eq!(
            [profile.string(-1), profile.string(1), profile.string(2), profile.string(i64::MAX)],
            ["", "a", "", ""]
        );
    }
}
