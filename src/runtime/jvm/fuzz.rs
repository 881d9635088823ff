//! Reads the structures of a virtual machine from bytes that none wrote, for fuzzing and tests.
//!
//! Not here: a live process.

use std::sync::Arc;

use super::{
    code_cache::CodeHeap,
    frames::Key,
    layout::{
        BlobLayout, Bounds, CompiledLayout, DeoptHandler, HeapLayout, InfoLayout, Layout, MetadataStart,
        MethodLayout, ScopesStart, SourceFileIndex,
    },
    leaf::LeafRule,
    memory::Memory,
    methods::decode_lines,
    process::Jvm,
    structs::{EXPORTS, Exports, VmStructs},
    unwind::JavaCode,
};
use crate::{
    addr::{ElfAddr, FrameAddr, RuntimeAddr},
    arch::{Registers, x86_64},
    process::ProcessMemory,
    unwind::{Code as _, CodeAt, MappedCode, ReadFailure, StackMemory, Step},
};

/// Where the bytes are in the invented process.
pub const START: u64 = 0x10_0000;
/// The bytes of its memory for code, which the memory begins with, and where the map of segments
/// is, from `START`.
const CODE_BYTES: u64 = 0x1000;
const SEGMENT_MAP: u64 = 0x1000;
/// The most frames that are walked.
const MAX_STEPS: usize = 64;

/// The offsets of 17 (`false`) and of 25 (`true`).
fn layout(is_25: bool) -> Layout {
    let info = match is_25 {
        true => InfoLayout::Immutable {
            data: 0x60,
            size: 0xa0,
            pcs: 0xc4,
            scopes: 0xc8,
            metadata: MetadataStart::Mutable(0x10, 0x30, 0x1c),
        },
        false => {
            InfoLayout::Inline { metadata: 0x104, scopes: ScopesStart::Pointer(0x78), pcs: 0x10c, end: 0x110 }
        }
    };
    let deopt = if is_25 { DeoptHandler::Offset(0xb0) } else { DeoptHandler::Pointer(0x80) };
    Layout {
        heap: HeapLayout {
            memory: 8,
            segment_map: 0x78,
            log2_segment_size: 0x100,
            low: 0,
            high: 8,
            header_size: 16,
            header_used: 8,
        },
        blob: BlobLayout {
            name: if is_25 { 8 } else { 0x60 },
            size: if is_25 { 0x18 } else { 0xc },
            frame_size: if is_25 { 0x2c } else { 0x1c },
            frame_complete: if is_25 { 0x36 } else { 0x14 },
            is_frame_complete_short: is_25,
            code: if is_25 { Bounds::Offsets(0x24, 0x28) } else { Bounds::Pointers(0x20, 0x28) },
            header_bytes: if is_25 { 224 } else { 352 },
        },
        compiled: CompiledLayout {
            method: if is_25 { 0x50 } else { 0x70 },
            compile_id: if is_25 { 0xd4 } else { 0x130 },
            orig_pc: Some(if is_25 { 0xd0 } else { 0x12c }),
            deopt: vec![deopt],
            info,
        },
        method: MethodLayout {
            const_method: 8,
            constants: 8,
            code_size: 0x20,
            name_index: 0x22,
            flags: 0x1c,
            has_lines: 1,
            const_method_size: 48,
            pool_size: 72,
            pool_holder: 0x18,
            source_file: SourceFileIndex::Pool(0x36),
            class_name: 0x18,
            symbol_length: 4,
            symbol_body: 6,
        },
        excluded: u8::from(is_25),
        frame_bcp: -64,
    }
}

/// An invented virtual machine whose memory is `bytes`.
pub fn jvm(bytes: Vec<u8>, is_25: bool) -> Jvm {
    let heap = CodeHeap::new(START..START + CODE_BYTES, START + SEGMENT_MAP, 7);
    let memory = Memory(Arc::new(ProcessMemory::of_image(RuntimeAddr(START), bytes)));
    Jvm::of_parts(memory, VmStructs::default(), layout(is_25), vec![heap])
}

/// Memory of a stack: the same bytes.
struct Stack<'m>(&'m Memory);

impl StackMemory for Stack<'_> {
    fn read_u64(&mut self, address: RuntimeAddr) -> Result<u64, ReadFailure> {
        self.0.u64(address.0).ok_or(ReadFailure::Unreadable)
    }
}

/// A mapping without a file.
#[derive(Debug)]
struct NoFile;

impl MappedCode for NoFile {
    fn id(&self) -> u32 {
        0
    }

    fn elf_addr(&self, address: RuntimeAddr) -> ElfAddr {
        ElfAddr(address.0)
    }

    fn code_from(&self, _address: RuntimeAddr) -> Option<&[u8]> {
        None
    }
}

/// The names of the functions of a stack, leaf first, from a pc, stack and frame pointer on.
pub fn walk(jvm: &Arc<Jvm>, [pc, sp, fp]: [u64; 3]) -> Vec<String> {
    let code = JavaCode(Arc::clone(jvm));
    let mut registers = Registers::default();
    let numbers = [(x86_64::PC, pc), (x86_64::SP, sp), (x86_64::FP, fp), (0, pc), (3, fp), (13, sp)];
    numbers.into_iter().for_each(|(register, value)| registers.set(register, value));
    let (mut names, mut exact) = (Vec::new(), true);
    for _ in 0..MAX_STEPS {
        let Some(pc) = registers.get(x86_64::PC).map(RuntimeAddr) else { break };
        let addr = if exact { FrameAddr::Pc(pc) } else { FrameAddr::Return(pc) };
        if !jvm.is_code(addr.lookup().0) {
            break;
        }
        let (mut key, mut stack) = (None, Stack(&jvm.memory));
        let step = code.step(CodeAt { addr, module: &NoFile }, &registers, &mut stack, &mut key);
        let key = key.and_then(Key::decode);
        let frame = key.and_then(|key| jvm.generation(key).and(jvm.load(key)));
        let lines = frame.map(|frame| frame.lines()).unwrap_or_default();
        names.extend(lines.into_iter().map(|line| line.function));
        let Step::Caller(caller) = step else { break };
        if caller.get(x86_64::SP) <= registers.get(x86_64::SP) {
            break;
        }
        (registers, exact) = (caller, false);
    }
    names
}

/// Walks from several places, and reads single structures.
pub fn read_all(bytes: &[u8]) {
    for is_25 in [false, true] {
        let jvm = Arc::new(jvm(bytes.to_vec(), is_25));
        for pc in (START..START + CODE_BYTES).step_by(0x1c8) {
            for (sp, fp) in [(START + 0x1800, START + 0x1880), (pc, pc), (u64::MAX - 8, u64::MAX)] {
                walk(&jvm, [pc, sp, fp]);
            }
        }
    }
    let memory = Memory(Arc::new(ProcessMemory::of_image(RuntimeAddr(START), bytes.to_vec())));
    let exports: Exports = EXPORTS.iter().zip(0..).map(|(name, at)| (*name, START + at * 8)).collect();
    if let Some(structs) = VmStructs::read(&memory, &exports) {
        let _ = Layout::of(&structs);
    }
    let (before, after) = bytes.split_at(bytes.len() / 2);
    let _ = (LeafRule::of(before, after, true), LeafRule::of(before, after, false));
    let _ = (decode_lines(bytes, 0), decode_lines(bytes, 1));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image with one compiled method, `A.b` of A.java, which calls itself; of 17.
    struct Image(Vec<u8>);

    const BLOB: u64 = START + 0x80 + 16;
    const CODE: u64 = START + 0x200;
    const STACK: u64 = START + 0x1800;

    impl Image {
        fn new() -> Image {
            let mut image = Image(vec![0; 0x2000]);
            // Segment 0 is free; 1 and its followers are one piece of code.
            image.bytes(START + SEGMENT_MAP, &[0xff, 0, 1, 2, 3, 4, 5, 6, 0xff]);
            image.number(START + 0x88, 1);
            let (name, method, constant) = (START + 0x1400, START + 0x1440, START + 0x1480);
            image.bytes(name, b"nmethod\0");
            for (at, value) in [
                (0x60, name),
                (0x20, CODE),
                (0x28, CODE + 0x80),
                (0x70, method),
                (0x78, BLOB + 0x188),
                (0x80, CODE + 0x78),
            ] {
                image.number(BLOB + at, value);
            }
            for (at, value) in
                [(0xc, 0x300), (0x1c, 4), (0x14, 8), (0x104, 0x180), (0x10c, 0x190), (0x110, 0x1b0)]
            {
                image.word(BLOB + at, value);
            }
            // Metadata, a scope at 1, and two descriptions of pcs.
            image.number(BLOB + 0x180, method);
            image.bytes(BLOB + 0x188, &[0, 0, 1, 5]);
            for (at, (pc, scope)) in [(0x190, (u32::MAX, 0)), (0x1a0, (0x40, 1))] {
                image.word(BLOB + at, pc);
                image.word(BLOB + at + 4, scope);
            }
            image.method(method, constant);
            // Two frames of 32 bytes; the second one returns to nothing.
            image.number(STACK + 24, CODE + 0x40);
            image
        }

        fn method(&mut self, method: u64, constant: u64) {
            let (pool, class, symbols) = (START + 0x1500, START + 0x1600, START + 0x1700);
            self.number(method + 8, constant);
            self.number(constant + 8, pool);
            self.bytes(constant + 0x1c, &[1, 0, 0, 0, 8, 0, 1, 0]);
            // Lines: bytecode 0 is line 3, bytecode 4 line 5.
            self.bytes(constant + 48 + 8, &[0x03, 4 << 3 | 2, 0]);
            self.number(pool + 0x18, class);
            self.bytes(pool + 0x36, &[2, 0]);
            for (index, text) in [(1, "b"), (2, "A.java"), (3, "A")] {
                let at = symbols + index * 32;
                self.number(pool + 72 + index * 8, at);
                self.bytes(at + 4, &[text.len() as u8, 0]);
                self.bytes(at + 6, text.as_bytes());
            }
            self.number(class + 0x18, symbols + 3 * 32);
        }

        fn bytes(&mut self, at: u64, bytes: &[u8]) {
            let at = (at - START) as usize;
            self.0[at..at + bytes.len()].copy_from_slice(bytes);
        }

        fn number(&mut self, at: u64, value: u64) {
            self.bytes(at, &value.to_le_bytes());
        }

        fn word(&mut self, at: u64, value: u32) {
            self.bytes(at, &value.to_le_bytes());
        }
    }

    #[test]
    fn a_compiled_method_is_walked_and_named_with_its_line() {
        let jvm = Arc::new(jvm(Image::new().0, false));
        assert_eq!(walk(&jvm, [CODE + 0x20, STACK, 0]), ["A.b", "A.b"]);
        let key = Key::Compiled { blob: BLOB, offset: 0x20 };
        let lines = jvm.load(key).expect("a method").lines();
        assert_eq!((lines[0].line, lines[0].start_line), (5, 3));
        assert_eq!(lines[0].file.as_deref(), Some("A.java"));
    }

    #[test]
    fn damaged_images_are_read_without_a_panic() {
        let image = Image::new().0;
        for at in (0..image.len()).filter(|at| image[*at] != 0) {
            for value in [0, 0x7f, 0xff] {
                let mut damaged = image.clone();
                damaged[at] = value;
                let jvm = Arc::new(jvm(damaged, at % 2 == 0));
                assert!(walk(&jvm, [CODE + 0x20, STACK, 0]).len() <= MAX_STEPS * 128);
            }
        }
    }

    #[test]
    fn random_bytes_are_read_without_a_panic() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..50 {
            let mut byte = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // Addresses inside the image are frequent.
                if state & 3 == 0 { 0x10 } else { (state >> 32) as u8 }
            };
            read_all(&(0..0x2000).map(|_| byte()).collect::<Vec<u8>>());
        }
        read_all(&[]);
    }
}
