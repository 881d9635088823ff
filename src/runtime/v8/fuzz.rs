//! Reads V8's structures from bytes that no V8 wrote, for fuzzing and tests.
//!
//! Not here: a live process.

use std::{ops::Range, sync::Arc};

use goblin::elf::header::EM_X86_64;

use super::{
    classes::Classes,
    frames::V8Code,
    heap::{Heap, Text},
    layouts::Layout,
    positions::{Positions, bytecode_of_baseline, expand},
    store::Store,
};
use crate::{
    addr::{ElfAddr, FrameAddr, RuntimeAddr},
    arch::{Registers, native},
    process::ProcessMemory,
    unwind::{Code, CodeAt, CopiedStack, MappedCode, Step},
};

/// Where the bytes are in the invented process.
pub const START: u64 = 0x10_0000;
/// How many places are read as each kind of object.
const MAX_PLACES: u64 = 64;
/// How many frames of a stack are walked.
const MAX_FRAMES: usize = 64;

/// The constants of V8 11.3 (Node.js 20) that are used.
const V8_11: &[(&str, i32)] = &[
    ("CodeKindBaseline", 11),
    ("CodeKindFieldMask", 15),
    ("FirstNonstringType", 128),
    ("class_BytecodeArray__data__uintptr_t", 54),
    ("class_Code__source_position_table__ByteArray", 24),
    ("class_InstructionStream__instruction_start__uintptr_t", 16),
    ("class_JSFunction__shared__SharedFunctionInfo", 24),
    ("class_Script__line_ends__Object", 56),
    ("class_Script__name__Object", 16),
    ("class_Script__source__Object", 8),
    ("class_SharedFunctionInfo__name_or_scope_info__Object", 16),
    ("class_SharedFunctionInfo__script_or_debug_info__HeapObject", 32),
    ("frametype_BuiltinExitFrame", 25),
    ("frametype_IrregexpFrame", 27),
    ("frametype_WasmFrame", 4),
    ("frametype_WasmToJsFrame", 5),
    ("scopeinfo_idx_first_vars", 3),
    ("type_ByteArray__BYTE_ARRAY_TYPE", 190),
    ("type_BytecodeArray__BYTECODE_ARRAY_TYPE", 191),
    ("type_Code__CODE_TYPE", 245),
    ("type_FixedArray__FIXED_ARRAY_TYPE", 175),
    ("type_InstructionStream__INSTRUCTION_STREAM_TYPE", 252),
    ("type_InterpreterData__INTERPRETER_DATA_TYPE", 159),
    ("type_JSFunction__JS_FUNCTION_TYPE", 2066),
    ("type_ScopeInfo__SCOPE_INFO_TYPE", 261),
    ("type_Script__SCRIPT_TYPE", 167),
    ("type_SharedFunctionInfo__SHARED_FUNCTION_INFO_TYPE", 262),
];

/// The constants of V8 14.6 (Node.js 26) that are used.
const V8_14: &[(&str, i32)] = &[
    ("CodeKindBaseline", 11),
    ("CodeKindFieldMask", 15),
    ("DeoptimizationDataInlinedFunctionCountIndex", 1),
    ("DeoptimizationDataInliningPositionsIndex", 8),
    ("DeoptimizationDataLiteralArrayIndex", 3),
    ("DeoptimizationDataWrappedSharedFunctionInfoIndex", 7),
    ("FirstJSFunctionType", 2066),
    ("FirstNonstringType", 128),
    ("LastJSFunctionType", 2082),
    ("class_BytecodeArray__data__uintptr_t", 64),
    ("class_BytecodeArray__wrapper__Tagged_BytecodeWrapper_", 16),
    ("class_Code__flags__uint32_t", 52),
    ("class_Code__instruction_size__int", 56),
    ("class_Code__instruction_start__Address", 40),
    ("class_InstructionStream__instruction_start__uintptr_t", 32),
    ("class_JSFunction__shared__SharedFunctionInfo", 32),
    ("class_Script__line_ends__Object", 56),
    ("class_Script__name__Object", 16),
    ("class_Script__source__Object", 8),
    ("class_SharedFunctionInfo__name_or_scope_info__Tagged_NameOrScopeInfoT_", 24),
    ("class_SharedFunctionInfo__raw_script__Tagged_Object_", 40),
    ("frametype_BuiltinExitFrame", 17),
    ("scopeinfo_idx_first_vars", 5),
    ("type_ByteArray__BYTE_ARRAY_TYPE", 218),
    ("type_BytecodeArray__BYTECODE_ARRAY_TYPE", 185),
    ("type_CodeWrapper__CODE_WRAPPER_TYPE", 152),
    ("type_Code__CODE_TYPE", 186),
    ("type_FixedArray__FIXED_ARRAY_TYPE", 205),
    ("type_InstructionStream__INSTRUCTION_STREAM_TYPE", 192),
    ("type_InterpreterData__INTERPRETER_DATA_TYPE", 187),
    ("type_JSFunction__JS_FUNCTION_TYPE", 2066),
    ("type_ProtectedFixedArray__PROTECTED_FIXED_ARRAY_TYPE", 193),
    ("type_ScopeInfo__SCOPE_INFO_TYPE", 286),
    ("type_Script__SCRIPT_TYPE", 166),
    ("type_SharedFunctionInfoWrapper__SHARED_FUNCTION_INFO_WRAPPER_TYPE", 195),
    ("type_SharedFunctionInfo__SHARED_FUNCTION_INFO_TYPE", 288),
    ("type_TrustedByteArray__TRUSTED_BYTE_ARRAY_TYPE", 196),
    ("type_TrustedFixedArray__TRUSTED_FIXED_ARRAY_TYPE", 197),
    ("type_WeakFixedArray__WEAK_FIXED_ARRAY_TYPE", 258),
];

/// The layout of one of two releases. `None`: its constants do not suffice, which a test excludes.
pub fn layout(choice: u8) -> Option<Layout> {
    let (constants, version) =
        if choice.is_multiple_of(2) { (V8_11, [11, 3, 244]) } else { (V8_14, [14, 6, 202]) };
    let sizes = (0..594u32).map(|index| (index % 7) as u8).collect();
    Layout::of(&constants.iter().copied().collect(), version, EM_X86_64, sizes).ok()
}

/// The objects of a process whose memory is `bytes`.
pub fn store(bytes: Vec<u8>, choice: u8) -> Option<Arc<Store>> {
    let memory = Arc::new(ProcessMemory::of_image(RuntimeAddr(START), bytes));
    Some(Arc::new(Store::new(Heap::new(memory, Arc::new(layout(choice)?)))))
}

/// Reads all that profiles read; returns the number of functions and pieces of code.
pub fn read_all(bytes: &[u8], choice: u8) -> (usize, usize) {
    let Some(store) = store(bytes.to_vec(), choice) else { return (0, 0) };
    let range = START..START + bytes.len() as u64;
    store.add_region(range.clone(), true);
    let (mut functions, mut codes) = (0, 0);
    for place in (range.start..range.end).step_by(16).take(MAX_PLACES as usize) {
        functions += usize::from(store.function(place + 1).is_some());
        let _ = (store.heap.string(place + 1, 1 << 16), store.heap.array(place + 1));
        if let Some(code) = store.code(place, &range) {
            codes += 1;
            assert!(code.range.contains(&place));
            let _ = code.bytecode_offset(&store.heap, place);
            for (literal, _) in
                code.positions.at(8).map(|at| expand(at, &code.inlining)).into_iter().flatten()
            {
                let function = literal.and_then(|index| code.literals.get(index));
                let _ = function.and_then(|function| store.function(*function));
            }
        }
    }
    for is_generated in [true, false] {
        walk(&V8Code { store: Arc::clone(&store), range: range.clone(), is_generated }, bytes);
    }
    (functions, codes)
}

/// A mapping without a file.
#[derive(Debug)]
struct NoFile;

impl MappedCode for NoFile {
    fn id(&self) -> u32 {
        0
    }

    fn elf_addr(&self, addr: RuntimeAddr) -> ElfAddr {
        ElfAddr(addr.0)
    }

    fn code_from(&self, _addr: RuntimeAddr) -> Option<&[u8]> {
        None
    }
}

/// Walks a stack that is the process's memory too.
fn walk(code: &V8Code, bytes: &[u8]) {
    let Range { start, end } = code.range;
    let mut registers = Registers::default();
    registers.set(native::PC, start + (end - start) / 2);
    registers.set(native::SP, start);
    registers.set(native::FP, (start + 64.min(end - start)) & !7);
    let mut stack = CopiedStack { start: RuntimeAddr(start), bytes, capped: false, has_holes: false };
    for index in 0..MAX_FRAMES {
        let Some(pc) = registers.get(native::PC).map(RuntimeAddr) else { return };
        let addr = if index == 0 { FrameAddr::Pc(pc) } else { FrameAddr::Return(pc) };
        if !code.range.contains(&addr.lookup().0) {
            return;
        }
        let mut key = None;
        match code.step(CodeAt { addr, module: &NoFile }, &registers, &mut stack, &mut key) {
            Step::Caller(caller) => registers = caller,
            _ => return,
        }
    }
}

/// Gives any bytes to the readers of single structures.
pub fn read_pieces(bytes: &[u8]) {
    for is_unsigned in [true, false] {
        let positions = Positions::decode(bytes, bytes.len() as u64, is_unsigned);
        for offset in [0, 7, u64::MAX] {
            let _ = positions.at(offset).map(|at| expand(at, bytes));
        }
    }
    let half = bytes.len() / 2;
    for distance in [0, 100, u64::MAX] {
        let found = bytecode_of_baseline(bytes, &bytes[..half], bytes, distance);
        assert!(found.is_none_or(|offset| offset < half as u64));
    }
    Classes::of(&Text::OneByte(bytes.to_vec()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image of words, by their addresses.
    fn image(words: &[(u64, u64)]) -> Vec<u8> {
        let mut all = vec![0u64; 512];
        for (address, word) in words {
            all[((address - START) / 8) as usize] = *word;
        }
        all.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    const SMALL: u32 = 32;

    /// Maps of the types of 11.3: string, function, scope, script, array, stream, code.
    fn maps() -> Vec<(u64, u64)> {
        let types =
            [(0x100, 8), (0x120, 262), (0x140, 261), (0x160, 167), (0x180, 175), (0x1a0, 252), (0x1c0, 245)];
        types.iter().map(|(at, found)| (START + at + 8, found << 32)).collect()
    }

    fn text(at: u64, text: &[u8; 8], length: u64) -> Vec<(u64, u64)> {
        vec![(at, START + 0x101), (at + 8, length << 32), (at + 16, u64::from_le_bytes(*text))]
    }

    /// A function `run` at offset 5 of a script `/a.js` whose first line ends at 3.
    fn program() -> Vec<(u64, u64)> {
        let (function, scope, script, ends) = (START + 0x400, START + 0x480, START + 0x500, START + 0x580);
        let mut words = maps();
        words.extend([(function, START + 0x121), (function + 16, scope + 1), (function + 32, script + 1)]);
        words.extend([(scope, START + 0x141), (scope + 32, START + 0x601)]);
        words.extend([(scope + 40, 5 << SMALL), (scope + 48, 9 << SMALL)]);
        words.extend([(script, START + 0x161), (script + 16, START + 0x641), (script + 56, ends + 1)]);
        words.extend([
            (ends, START + 0x181),
            (ends + 8, 2 << SMALL),
            (ends + 16, 3 << SMALL),
            (ends + 24, 20 << SMALL),
        ]);
        words.extend(text(START + 0x600, b"run\0\0\0\0\0", 3));
        words.extend(text(START + 0x640, b"/a.js\0\0\0", 5));
        words
    }

    #[test]
    fn both_layouts_are_complete() {
        assert!(layout(0).is_some() && layout(1).is_some());
    }

    #[test]
    fn a_function_has_name_file_and_line() {
        let store = store(image(&program()), 0).expect("a layout");
        let function = store.function(START + 0x401).expect("a function");
        let script = function.script.as_ref().expect("a script");
        assert_eq!((function.name.as_str(), script.name.as_str(), function.line), ("run", "/a.js", 2));
    }

    #[test]
    fn a_function_with_a_word_of_another_type_is_refused() {
        let mut words = program();
        words.push((START + 0x400, START + 0x141));
        assert!(store(image(&words), 0).expect("a layout").function(START + 0x401).is_none());
    }

    #[test]
    fn a_string_of_itself_and_a_long_one_end() {
        let mut words = maps();
        // A cons string (type 1 + 8) whose halves are itself.
        words.extend([
            (START + 0x1e8, 9 << SMALL),
            (START + 0x700, START + 0x1e1),
            (START + 0x708, 100 << SMALL),
        ]);
        words.extend([(START + 0x710, START + 0x701), (START + 0x718, START + 0x701)]);
        words.extend(text(START + 0x740, b"abcdefgh", u64::from(u32::MAX)));
        let store = store(image(&words), 0).expect("a layout");
        assert_eq!(store.heap.string(START + 0x701, 1 << 20), None);
        assert_eq!(store.heap.string(START + 0x741, 1 << 20), None);
    }

    #[test]
    fn generated_code_is_found_by_its_header_and_only_within_its_size() {
        let (stream, code) = (START + 0x810, START + 0x480);
        let mut words = maps();
        words.extend([(stream, START + 0x1a1), (stream + 8, code + 1), (code, START + 0x1c1)]);
        words.extend([(code + 40, stream + 16), (code + 48, 11), (code + 56, 64)]);
        let store = store(image(&words), 0).expect("a layout");
        let region = START..START + 4096;
        let found = store.code(stream + 16 + 63, &region).expect("code");
        assert_eq!(found.range, stream + 16..stream + 80);
        assert!(store.code(stream + 80, &region).is_none());
        assert!(store.code(stream, &region).is_none());
    }

    #[test]
    fn damaged_images_are_read_to_their_end() {
        let bytes = image(&program());
        for choice in [0, 1] {
            read_all(&bytes, choice);
            for step in [1, 3, 7, 61] {
                let mut damaged = bytes.clone();
                damaged.iter_mut().step_by(step).for_each(|byte| *byte ^= 0x55);
                read_all(&damaged, choice);
                read_pieces(&damaged);
            }
        }
        read_all(&[], 0);
    }
}
