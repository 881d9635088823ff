//! Where CPython keeps what, one row per minor release.
//!
//! 3.8 to 3.12: `offsetof` of the release's own headers (Include/internal, x86-64 and aarch64 agree
//! because every field is a pointer, `int` or `char`). Offsets are stable within a minor release:
//! its ABI is. From 3.13 on the interpreter states most offsets itself (`_Py_DebugOffsets`, see
//! [`super::debug_offsets`]); the rows hold the rest. Offsets of `_asyncio.Task` were measured in
//! the release itself (`id()` of what a task refers to, found in the task).
//!
//! All offsets are in bytes; 0 is "the release has no such field" where the text says so.

use super::walker::{FORM_CFRAME, FORM_CURRENT, FORM_OBJECTS};

/// How the value stack of a suspended frame is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StackTop {
    /// A pointer at this offset of the frame (`f_stacktop`; `stackpointer`).
    Pointer(u32),
    /// A 4-byte count at the first offset, of words from the pointer at the second one
    /// (`f_stackdepth`, `f_valuestack`).
    Depth(u32, u32),
    /// A 4-byte count at this offset, of words from the frame's locals (`stacktop`).
    Index(u32),
}

/// Where the record of the interpreter lock is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gil {
    /// In the runtime: offset of `last_holder`.
    Runtime(u32),
    /// In the interpreter: offset of a pointer to the record; offset of `last_holder` in it.
    Interpreter(u32, u32),
}

/// How the line of an instruction is encoded in the code object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineFormat {
    /// `co_lnotab` (Objects/lnotab_notes.txt of 3.9): the instruction is a byte offset.
    Lnotab,
    /// `co_linetable` of 3.10 (PEP 626): the instruction is a count of 2-byte units.
    Linetable,
    /// The location table of 3.11 and newer (InternalDocs/code_objects.md): the instruction is an
    /// address.
    Locations,
}

/// The object `_asyncio.Task` of a release. It begins as `_asyncio.Future` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskLayout {
    /// The 4-byte (one bit field from 3.14 on: 1-byte) state: 0 pending.
    pub state: u32,
    /// What the task waits for, or 0.
    pub waiter: u32,
    /// The coroutine.
    pub coroutine: u32,
    /// The name, a string or a number.
    pub name: u32,
}

/// The layout of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout {
    /// The 12 of 3.12.
    pub minor: u32,
    /// The build has no interpreter lock (3.13 and newer).
    pub free_threaded: bool,
    /// How frames are linked: see [`super::walker`].
    pub form: u32,

    /// In the runtime: the first interpreter.
    pub interpreters: u32,
    /// In the runtime: the thread state that holds the interpreter lock; 0: none.
    pub current: u32,
    /// In an interpreter: the next one.
    pub interpreter_next: u32,
    /// In an interpreter: its number.
    pub interpreter_id: u32,
    /// In an interpreter: the first thread state.
    pub threads: u32,
    /// In an interpreter: the dictionary of modules.
    pub modules: u32,
    /// The interpreter lock.
    pub gil: Gil,

    /// In a thread state: the next one.
    pub thread_next: u32,
    /// In a thread state: its interpreter.
    pub thread_interpreter: u32,
    /// In a thread state: `pthread_self`.
    pub thread_id: u32,
    /// In a thread state: the thread ID in the process's PID namespace; 0: none.
    pub native_thread_id: u32,
    /// In a thread state: the frame, or the record that leads to it.
    pub thread_frame: u32,
    /// In a thread state: the newest chunk of the data stack; 0: none.
    pub chunk: u32,
    /// In that record: the frame.
    pub cframe_frame: u32,
    /// In that record: the record before.
    pub cframe_previous: u32,

    /// In a frame: the code object.
    pub frame_code: u32,
    /// In a frame: the one that called it.
    pub frame_previous: u32,
    /// In a frame: the instruction.
    pub frame_instr: u32,
    /// In a frame: the byte that says how it was entered; used if `entry_min` is at most 255.
    pub frame_entry: u32,
    /// The least entry byte of a frame that was entered from C.
    pub entry_min: u32,
    /// Whether a frame with that byte is one of the evaluator's own, without a function (3.12 and
    /// newer).
    pub has_shims: bool,
    /// In a frame: its first local variable.
    pub frame_locals: u32,
    /// In a frame: the top of its value stack.
    pub stack_top: StackTop,
    /// What of a frame's code word is the address.
    pub code_mask: u64,

    /// In a generator or coroutine: its frame, or a pointer to it.
    pub generator_frame: u32,
    /// `generator_frame` is a pointer.
    pub generator_points: bool,

    /// In a code object: the 4-byte first line.
    pub code_first_line: u32,
    /// In a code object: the file name.
    pub code_file: u32,
    /// In a code object: the name.
    pub code_name: u32,
    /// In a code object: the qualified name; the name where there is none.
    pub code_qualified_name: u32,
    /// In a code object: the table of lines.
    pub code_lines: u32,
    /// In a code object: the instructions, where `lines` is [`LineFormat::Locations`].
    pub code_instructions: u32,
    /// In a code object: the per-thread copies of the instructions; 0: none.
    pub code_copies: u32,
    /// In a code object: the tuple of the names of its local variables.
    pub code_local_names: u32,
    /// The encoding of the table of lines.
    pub lines: LineFormat,

    /// In an object: its type.
    pub object_type: u32,
    /// In a string: the 4-byte state.
    pub string_state: u32,
    /// In the state of a string: the bit where its kind begins (3 bits; then compact, then ASCII).
    pub string_kind_bit: u32,
    /// In a string: the length in characters.
    pub string_length: u32,
    /// Bytes before the characters of an ASCII string.
    pub string_ascii_bytes: u32,
    /// Bytes before the characters of another compact string.
    pub string_compact_bytes: u32,
    /// In an object of variable size (tuple, bytes): the size.
    pub size: u32,
    /// In a `bytes` object: the bytes.
    pub bytes_data: u32,
    /// In a tuple: the items.
    pub tuple_items: u32,
    /// In a list: the pointer to the items.
    pub list_items: u32,
    /// In a type: the name, a C string.
    pub type_name: u32,
    /// In a type: the flags.
    pub type_flags: u32,
    /// In a type: the size of an instance.
    pub type_basic_size: u32,
    /// In a type: where an instance has its dictionary.
    pub type_dict_offset: u32,
    /// In a class: the keys of its instances' attributes.
    pub cached_keys: u32,
    /// In a dictionary: the keys.
    pub dict_keys: u32,
    /// In a dictionary: the values, if they are apart from the keys.
    pub dict_values: u32,
    /// From a dictionary's (or an object's) values to the first one.
    pub values_header: u32,
    /// In a module: its dictionary.
    pub module_dict: u32,
    /// In a set: the mask (number of entries - 1).
    pub set_mask: u32,
    /// In a set: the pointer to the entries.
    pub set_table: u32,
    /// In a weak reference: the object.
    pub weak_object: u32,
    /// In an integer: the size (3.8–3.11) or tag (3.12 and newer).
    pub int_size: u32,
    /// In an integer: the digits, of 30 bits.
    pub int_digits: u32,
    /// In a float: the value.
    pub float_value: u32,
    /// In the object that awaits a future (`FutureIter`): the future.
    pub future_iterator: u32,
    /// `_asyncio.Task`.
    pub task: TaskLayout,
}

const V3_8: Layout = Layout {
    minor: 8,
    free_threaded: false,
    form: FORM_OBJECTS,
    interpreters: 32,
    current: 1368,
    interpreter_next: 0,
    interpreter_id: 16,
    threads: 8,
    modules: 56,
    gil: Gil::Runtime(1160),
    thread_next: 8,
    thread_interpreter: 16,
    thread_id: 176,
    native_thread_id: 0,
    thread_frame: 24,
    chunk: 0,
    cframe_frame: 0,
    cframe_previous: 0,
    frame_code: 32,
    frame_previous: 24,
    frame_instr: 104,
    frame_entry: 0,
    entry_min: 256,
    has_shims: false,
    frame_locals: 360,
    stack_top: StackTop::Pointer(72),
    code_mask: u64::MAX,
    generator_frame: 16,
    generator_points: true,
    code_first_line: 40,
    code_file: 104,
    code_name: 112,
    code_qualified_name: 112,
    code_lines: 120,
    code_instructions: 0,
    code_copies: 0,
    code_local_names: 72,
    lines: LineFormat::Lnotab,
    object_type: 8,
    string_state: 32,
    string_kind_bit: 2,
    string_length: 16,
    string_ascii_bytes: 48,
    string_compact_bytes: 72,
    size: 16,
    bytes_data: 32,
    tuple_items: 24,
    list_items: 24,
    type_name: 24,
    type_flags: 168,
    type_basic_size: 32,
    type_dict_offset: 288,
    cached_keys: 872,
    dict_keys: 32,
    dict_values: 40,
    values_header: 0,
    module_dict: 16,
    set_mask: 32,
    set_table: 40,
    weak_object: 16,
    int_size: 16,
    int_digits: 24,
    float_value: 16,
    future_iterator: 16,
    task: TaskLayout { state: 72, waiter: 104, coroutine: 112, name: 120 },
};

const V3_9: Layout = Layout {
    minor: 9,
    current: 568,
    interpreter_id: 24,
    modules: 856,
    gil: Gil::Runtime(360),
    cached_keys: 864,
    task: TaskLayout { state: 80, waiter: 144, coroutine: 152, name: 160 },
    ..V3_8
};

const V3_10: Layout = Layout {
    minor: 10,
    frame_instr: 96,
    frame_locals: 352,
    stack_top: StackTop::Depth(80, 64),
    lines: LineFormat::Linetable,
    cached_keys: 872,
    task: TaskLayout { state: 88, waiter: 152, coroutine: 160, name: 168 },
    ..V3_9
};

const V3_11: Layout = Layout {
    minor: 11,
    form: FORM_CFRAME,
    interpreters: 40,
    current: 576,
    interpreter_id: 48,
    threads: 16,
    modules: 888,
    gil: Gil::Runtime(368),
    thread_id: 152,
    native_thread_id: 160,
    thread_frame: 56,
    chunk: 296,
    cframe_frame: 8,
    cframe_previous: 16,
    frame_code: 32,
    frame_previous: 48,
    frame_instr: 56,
    frame_entry: 68,
    entry_min: 1,
    frame_locals: 72,
    stack_top: StackTop::Index(64),
    generator_frame: 80,
    generator_points: false,
    code_first_line: 72,
    code_file: 112,
    code_name: 120,
    code_qualified_name: 128,
    code_lines: 136,
    code_instructions: 184,
    code_local_names: 96,
    lines: LineFormat::Locations,
    task: TaskLayout { state: 88, waiter: 128, coroutine: 136, name: 144 },
    ..V3_10
};

const V3_12: Layout = Layout {
    minor: 12,
    current: 0,
    interpreter_id: 8,
    threads: 72,
    modules: 944,
    gil: Gil::Interpreter(384, 8),
    thread_id: 136,
    native_thread_id: 144,
    chunk: 232,
    cframe_frame: 0,
    cframe_previous: 8,
    frame_code: 0,
    frame_previous: 8,
    frame_entry: 70,
    entry_min: 3,
    has_shims: true,
    generator_frame: 72,
    code_first_line: 68,
    code_instructions: 192,
    string_ascii_bytes: 40,
    string_compact_bytes: 56,
    cached_keys: 880,
    ..V3_11
};

/// Checked against the debug offsets of 3.13.0.
const V3_13: Layout = Layout {
    minor: 13,
    form: FORM_CURRENT,
    interpreters: 632,
    interpreter_next: 7264,
    interpreter_id: 7272,
    threads: 7344,
    modules: 7656,
    gil: Gil::Interpreter(16, 8),
    thread_id: 152,
    native_thread_id: 160,
    thread_frame: 72,
    chunk: 232,
    code_instructions: 200,
    values_header: 8,
    task: TaskLayout { state: 96, waiter: 112, coroutine: 120, name: 128 },
    ..V3_12
};

const V3_14: Layout = Layout {
    minor: 14,
    frame_entry: 74,
    code_mask: !7,
    frame_locals: 80,
    stack_top: StackTop::Pointer(64),
    task: TaskLayout { state: 104, waiter: 120, coroutine: 128, name: 136 },
    ..V3_13
};

const V3_15: Layout = Layout { minor: 15, ..V3_14 };

const ROWS: [Layout; 8] = [V3_8, V3_9, V3_10, V3_11, V3_12, V3_13, V3_14, V3_15];

/// The oldest release that is supported.
pub const OLDEST: u32 = 8;
/// The newest release with a row of its own.
pub const NEWEST: u32 = 15;
/// From this release on, the interpreter states its offsets itself.
pub const WITH_DEBUG_OFFSETS: u32 = 13;

impl Layout {
    /// The row of the release 3.`minor`; the newest one's for newer releases. `None`: too old.
    pub fn of(minor: u32) -> Option<Layout> {
        let index = minor.min(NEWEST).checked_sub(OLDEST)?;
        Some(Layout { minor, ..*ROWS.get(index as usize)? })
    }

    /// Bytes of a frame that hold all of its fields that are read for a stack.
    pub fn frame_bytes(&self) -> u32 {
        let entry = if self.entry_min < 256 { self.frame_entry } else { 0 };
        let last = self.frame_code.max(self.frame_previous).max(self.frame_instr).max(entry & !7);
        last + 8
    }

    /// Whether a frame with this entry byte is one of the evaluator's own.
    pub fn is_shim(&self, entry: u8) -> bool {
        self.has_shims && u32::from(entry) >= self.entry_min
    }

    /// Whether a frame with this entry byte was entered from C.
    pub fn is_entry(&self, entry: u8) -> bool {
        u32::from(entry) >= self.entry_min
    }

    /// What of a frame's instruction word counts.
    pub fn instr_mask(&self) -> u64 {
        if self.lines == LineFormat::Locations { u64::MAX } else { u64::from(u32::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_release_has_a_row_and_older_ones_have_none() {
        assert!((OLDEST..=NEWEST).all(|minor| Layout::of(minor).is_some_and(|row| row.minor == minor)));
        assert_eq!(Layout::of(7), None);
        assert_eq!(Layout::of(40).map(|row| (row.minor, row.form)), Some((40, FORM_CURRENT)));
    }

    #[test]
    fn a_frame_is_read_in_one_piece_that_the_walker_can_hold() {
        for row in ROWS {
            assert!(row.frame_bytes() <= 120 && row.frame_bytes().is_multiple_of(8), "{row:?}");
        }
        assert_eq!((V3_8.frame_bytes(), V3_12.frame_bytes(), V3_14.frame_bytes()), (112, 72, 80));
    }
}
