//! `_Py_DebugOffsets`: the offsets that the interpreter states about itself, from 3.13 on
//! (Include/internal/pycore_debug_offsets.h). They are at the beginning of `_PyRuntime`: a cookie,
//! the version, whether the build is free-threaded, and then blocks of 8-byte offsets, most of
//! which begin with the size of the structure that they describe.
//!
//! Which fields a block has depends on the minor release; [`BLOCKS`] lists them. A release that is
//! newer than the list is read with the newest list. What it states is used only if it passes the
//! checks: every offset lies within its structure, and every structure has a plausible size.

use super::layouts::{Gil, Layout, NEWEST, StackTop, WITH_DEBUG_OFFSETS};

/// The first 8 bytes.
pub const COOKIE: &[u8; 8] = b"xdebugpy";
/// Bytes to read: more than any known release has.
pub const MAX_BYTES: usize = 1024;

/// A block: its name, and its fields in order.
type Block = (&'static str, &'static [&'static str]);

/// 3.13 (72 words without the cookie).
const V3_13: &[Block] = &[
    ("runtime", &["size", "finalizing", "interpreters"]),
    (
        "interpreter",
        &[
            "size",
            "id",
            "next",
            "threads",
            "gc",
            "modules",
            "sysdict",
            "builtins",
            "gil",
            "own_gil",
            "gil_enabled",
            "gil_locked",
            "gil_holder",
        ],
    ),
    ("thread", &["size", "prev", "next", "interpreter", "frame", "id", "native_id", "chunk", "status"]),
    ("frame", &["size", "previous", "code", "instr", "locals", "owner"]),
    (
        "code",
        &[
            "size",
            "file",
            "name",
            "qualified_name",
            "lines",
            "first_line",
            "argcount",
            "local_names",
            "local_kinds",
            "instructions",
        ],
    ),
    ("object", &["size", "type"]),
    ("type", &["size", "name", "repr", "flags"]),
    ("tuple", &["size", "items", "length"]),
    ("list", &["size", "items", "length"]),
    ("dict", &["size", "keys", "values"]),
    ("float", &["size", "value"]),
    ("int", &["size", "tag", "digits"]),
    ("bytes", &["size", "length", "data"]),
    ("string", &["size", "state", "length", "ascii_bytes"]),
    ("gc", &["size", "collecting"]),
];

/// 3.14 (94 words).
const V3_14: &[Block] = &[
    ("runtime", &["size", "finalizing", "interpreters"]),
    ("interpreter", INTERPRETER),
    ("thread", &["size", "prev", "next", "interpreter", "frame", "id", "native_id", "chunk", "status"]),
    ("frame", FRAME),
    ("code", CODE),
    ("object", &["size", "type"]),
    ("type", &["size", "name", "repr", "flags"]),
    ("tuple", &["size", "items", "length"]),
    ("list", &["size", "items", "length"]),
    ("set", &["size", "used", "table", "mask"]),
    ("dict", &["size", "keys", "values"]),
    ("float", &["size", "value"]),
    ("int", &["size", "tag", "digits"]),
    ("bytes", &["size", "length", "data"]),
    ("string", &["size", "state", "length", "ascii_bytes"]),
    ("gc", &["size", "collecting"]),
    ("generator", &["size", "name", "frame", "frame_state"]),
];

/// 3.15 (110 words).
const V3_15: &[Block] = &[
    ("runtime", &["size", "finalizing", "interpreters"]),
    ("interpreter", INTERPRETER),
    (
        "thread",
        &[
            "size",
            "prev",
            "next",
            "interpreter",
            "frame",
            "base_frame",
            "last_profiled",
            "last_profiled_number",
            "id",
            "native_id",
            "chunk",
            "status",
            "holds_gil",
            "gil_requested",
            "exception",
            "exc_state",
        ],
    ),
    ("exception", &["value"]),
    ("frame", FRAME),
    ("code", CODE),
    ("object", &["size", "type"]),
    ("type", &["size", "name", "repr", "flags", "basic_size", "dict_offset"]),
    ("class", &["size", "cached_keys"]),
    ("tuple", &["size", "items", "length"]),
    ("list", &["size", "items", "length"]),
    ("set", &["size", "used", "table", "mask"]),
    ("dict", &["size", "keys", "values"]),
    ("float", &["size", "value"]),
    ("int", &["size", "tag", "digits"]),
    ("bytes", &["size", "length", "data"]),
    ("string", &["size", "state", "length", "ascii_bytes", "compact_bytes"]),
    ("gc", &["size", "collecting", "frame", "statistics_size", "statistics"]),
    ("generator", &["size", "name", "frame", "frame_state"]),
];

const INTERPRETER: &[&str] = &[
    "size",
    "id",
    "next",
    "threads",
    "main_thread",
    "gc",
    "modules",
    "sysdict",
    "builtins",
    "gil",
    "own_gil",
    "gil_enabled",
    "gil_locked",
    "gil_holder",
    "code_generation",
    "copies_generation",
];
const FRAME: &[&str] =
    &["size", "previous", "code", "instr", "locals", "owner", "stack_pointer", "copy_index"];
const CODE: &[&str] = &[
    "size",
    "file",
    "name",
    "qualified_name",
    "lines",
    "first_line",
    "argcount",
    "local_names",
    "local_kinds",
    "instructions",
    "copies",
];

/// One list per minor release, from 3.13 on.
const BLOCKS: [&[Block]; 3] = [V3_13, V3_14, V3_15];

/// The largest plausible structure (a free-threaded interpreter has about 300 KiB).
const MAX_STRUCTURE: u64 = 16 << 20;
/// The largest plausible offset of what is read with each sample.
const MAX_FRAME_FIELD: u64 = 112;

/// Why debug offsets are not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffsetsError {
    /// They do not begin with the cookie.
    #[error("the interpreter does not state its offsets (no cookie)")]
    NoCookie,
    /// They are shorter than their release's.
    #[error("the interpreter's offsets end early")]
    Short,
    /// A field fails the check.
    #[error("the interpreter states an implausible offset: {0}.{1} is {2}")]
    Implausible(&'static str, &'static str, u64),
}

/// The offsets as stated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugOffsets {
    /// `PY_VERSION_HEX`: 0x030d00f0 is 3.13.0.
    pub version: u64,
    /// The build has no interpreter lock.
    pub free_threaded: bool,
    fields: Vec<(&'static str, &'static str, u64)>,
}

impl DebugOffsets {
    /// Reads and checks the bytes at the beginning of the runtime.
    pub fn parse(bytes: &[u8]) -> Result<DebugOffsets, OffsetsError> {
        if bytes.get(..8) != Some(COOKIE) {
            return Err(OffsetsError::NoCookie);
        }
        let mut words = bytes[8..].as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        let mut next = || words.next().ok_or(OffsetsError::Short);
        let (version, free_threaded) = (next()?, next()? != 0);
        let minor = (version >> 16 & 0xff) as u32;
        if version >> 24 != 3 || minor < WITH_DEBUG_OFFSETS {
            return Err(OffsetsError::Implausible("", "version", version));
        }
        let blocks = BLOCKS[(minor.min(NEWEST) - WITH_DEBUG_OFFSETS) as usize];
        let mut fields = Vec::new();
        for (block, names) in blocks {
            for name in *names {
                fields.push((*block, *name, next()?));
            }
        }
        let offsets = DebugOffsets { version, free_threaded, fields };
        offsets.check()?;
        Ok(offsets)
    }

    /// The stated offset of a field; `None` if the release has none.
    pub fn get(&self, block: &str, name: &str) -> Option<u32> {
        let found = self.fields.iter().find(|field| (field.0, field.1) == (block, name));
        found.and_then(|field| u32::try_from(field.2).ok())
    }

    /// Every field lies in its structure. The interpreter's `own_gil` may be any.
    fn check(&self) -> Result<(), OffsetsError> {
        let mut size = 0;
        for (block, name, value) in self.fields.iter().copied() {
            if name == "size" {
                size = value;
            }
            let limit = if name == "size" { MAX_STRUCTURE } else { size };
            // Not offsets in the structure of their block.
            let is_sized = block != "exception" && name != "statistics_size";
            if is_sized && value > limit || (name == "size" && value < 8) {
                return Err(OffsetsError::Implausible(block, name, value));
            }
            let is_hot = block == "frame" && matches!(name, "code" | "previous" | "instr" | "owner");
            let is_aligned = name == "owner" || value.is_multiple_of(8);
            if is_hot && (value > MAX_FRAME_FIELD || !is_aligned) {
                return Err(OffsetsError::Implausible(block, name, value));
            }
        }
        Ok(())
    }

    /// The release's row with what the interpreter states.
    pub fn layout(&self) -> Option<Layout> {
        let row = Layout::of((self.version >> 16 & 0xff) as u32)?;
        let get = |block, name, fallback| self.get(block, name).unwrap_or(fallback);
        let holder = get("interpreter", "gil_holder", 0).wrapping_sub(get("interpreter", "own_gil", 0));
        let object = get("object", "size", 16);
        Some(Layout {
            free_threaded: self.free_threaded,
            interpreters: get("runtime", "interpreters", row.interpreters),
            interpreter_next: get("interpreter", "next", row.interpreter_next),
            interpreter_id: get("interpreter", "id", row.interpreter_id),
            threads: get("interpreter", "threads", row.threads),
            modules: get("interpreter", "modules", row.modules),
            gil: Gil::Interpreter(get("interpreter", "gil", 0), holder),
            thread_next: get("thread", "next", row.thread_next),
            thread_interpreter: get("thread", "interpreter", row.thread_interpreter),
            thread_id: get("thread", "id", row.thread_id),
            native_thread_id: get("thread", "native_id", row.native_thread_id),
            thread_frame: get("thread", "frame", row.thread_frame),
            chunk: get("thread", "chunk", row.chunk),
            frame_code: get("frame", "code", row.frame_code),
            frame_previous: get("frame", "previous", row.frame_previous),
            frame_instr: get("frame", "instr", row.frame_instr),
            frame_entry: get("frame", "owner", row.frame_entry),
            frame_locals: get("frame", "locals", row.frame_locals),
            stack_top: self.get("frame", "stack_pointer").map_or(row.stack_top, StackTop::Pointer),
            generator_frame: get("generator", "frame", row.generator_frame),
            code_first_line: get("code", "first_line", row.code_first_line),
            code_file: get("code", "file", row.code_file),
            code_name: get("code", "name", row.code_name),
            code_qualified_name: get("code", "qualified_name", row.code_qualified_name),
            code_lines: get("code", "lines", row.code_lines),
            code_instructions: get("code", "instructions", row.code_instructions),
            code_copies: get("code", "copies", 0),
            code_local_names: get("code", "local_names", row.code_local_names),
            object_type: get("object", "type", row.object_type),
            string_state: get("string", "state", row.string_state),
            string_kind_bit: if self.free_threaded && row.minor >= 14 { 8 } else { 2 },
            string_length: get("string", "length", row.string_length),
            string_ascii_bytes: get("string", "ascii_bytes", row.string_ascii_bytes),
            string_compact_bytes: get(
                "string",
                "compact_bytes",
                get("string", "ascii_bytes", row.string_ascii_bytes) + 16,
            ),
            size: get("tuple", "length", row.size),
            bytes_data: get("bytes", "data", row.bytes_data),
            tuple_items: get("tuple", "items", row.tuple_items),
            list_items: get("list", "items", row.list_items),
            type_name: get("type", "name", row.type_name),
            type_flags: get("type", "flags", row.type_flags),
            type_basic_size: get("type", "basic_size", row.type_basic_size + object - 16),
            type_dict_offset: get("type", "dict_offset", row.type_dict_offset + object - 16),
            cached_keys: get("class", "cached_keys", row.cached_keys),
            dict_keys: get("dict", "keys", row.dict_keys),
            dict_values: get("dict", "values", row.dict_values),
            module_dict: object,
            set_mask: get("set", "mask", row.set_mask),
            set_table: get("set", "table", row.set_table),
            weak_object: object,
            int_size: get("int", "tag", row.int_size),
            int_digits: get("int", "digits", row.int_digits),
            float_value: get("float", "value", row.float_value),
            ..row
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the interpreter states, as it was read from running ones.
    const RECORDED: [(&str, &[u8]); 3] = [
        ("3.13.0", include_bytes!("recorded/offsets-3.13.0")),
        ("3.14.10", include_bytes!("recorded/offsets-3.14.10")),
        ("3.15.2", include_bytes!("recorded/offsets-3.15.2")),
    ];

    #[test]
    fn the_offsets_of_running_interpreters_are_read() {
        for (version, bytes) in RECORDED {
            let offsets = DebugOffsets::parse(bytes).unwrap_or_else(|error| panic!("{version}: {error}"));
            let layout = offsets.layout().expect("a layout");
            let minor: u32 = version.split('.').nth(1).and_then(|text| text.parse().ok()).expect("a number");
            assert_eq!((layout.minor, layout.free_threaded), (minor, false));
            let frame = (layout.frame_code, layout.frame_previous, layout.frame_instr);
            assert_eq!(frame, (0, 8, 56), "{version}");
            assert_eq!(layout.frame_entry, if minor == 13 { 70 } else { 74 });
            assert_eq!(layout.code_qualified_name, 128, "{version}");
        }
    }

    #[test]
    fn the_row_of_3_13_is_what_3_13_0_states() {
        let stated = DebugOffsets::parse(RECORDED[0].1).ok().and_then(|offsets| offsets.layout());
        assert_eq!(stated, Layout::of(13));
    }

    #[test]
    fn hostile_offsets_are_refused() {
        let valid = RECORDED[1].1;
        let with = |word: usize, value: u64| {
            let mut bytes = valid.to_vec();
            bytes[word * 8..word * 8 + 8].copy_from_slice(&value.to_le_bytes());
            DebugOffsets::parse(&bytes)
        };
        assert!(with(5, 1 << 40).is_err(), "the list of interpreters is outside of the runtime");
        assert!(with(1, 0x0307_00f0).is_err(), "3.7 states none");
        assert!(with(0, 0).is_err(), "no cookie");
        // Frame: size, previous, code, instr.
        let frame = 3 + 3 + 16 + 9;
        assert!(with(frame + 1, 1 << 20).is_err() && with(frame + 1, 9).is_err());
        assert!(DebugOffsets::parse(&valid[..200]).is_err());
    }

    #[test]
    fn a_newer_release_is_read_with_the_newest_list() {
        let mut bytes = RECORDED[2].1.to_vec();
        bytes[8..16].copy_from_slice(&0x0310_00a1_u64.to_le_bytes());
        let layout = DebugOffsets::parse(&bytes).ok().and_then(|offsets| offsets.layout());
        assert_eq!(layout.map(|layout| layout.minor), Some(16));
    }
}
