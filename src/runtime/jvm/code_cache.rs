//! The code cache: from an address to the piece of code that contains it (`CodeBlob`): a compiled
//! method, the interpreter, a stub.
//!
//! The cache consists of one to three heaps of segments. A map with a byte per segment leads to a
//! piece's first segment (src/hotspot/share/memory/heap.cpp). Not here: debug information.

use std::ops::Range;

use super::{
    layout::{Bounds, DeoptHandler, HeapLayout, Layout},
    memory::{Memory, u16_at, u32_at, u64_at},
    structs::VmStructs,
};

/// The most heaps; releases have 1 or 3.
const MAX_HEAPS: u32 = 16;
/// The most steps back in a segment map; a step passes up to 254 segments.
const MAX_HOPS: usize = 4096;
/// The largest piece of code.
const MAX_BLOB: u32 = 64 << 20;
/// The largest frame of compiled code in bytes.
const MAX_FRAME: u64 = 1 << 24;

/// A heap of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeHeap {
    /// Its memory, used or not.
    pub range: Range<u64>,
    segment_map: u64,
    log2_segment_size: u32,
}

impl CodeHeap {
    /// A heap with its map of segments.
    pub fn new(range: Range<u64>, segment_map: u64, log2_segment_size: u32) -> CodeHeap {
        CodeHeap { range, segment_map, log2_segment_size }
    }
}

/// What a piece of code is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlobKind {
    /// A method that C1 or C2 compiled, or the wrapper of a native method.
    Compiled,
    /// The interpreter.
    Interpreter,
    /// Adapters between interpreted and compiled code, and dispatch by tables: without a frame.
    Adapter,
    /// The stubs of continuations, on which virtual threads run.
    Continuation,
    /// Any other.
    Stub,
}

/// A piece of code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blob {
    /// Its address.
    pub address: u64,
    /// Its name as HotSpot states it.
    pub name: String,
    /// What it is.
    pub kind: BlobKind,
    /// Its instructions.
    pub code: Range<u64>,
    /// The size of its frame in bytes, with the return address.
    pub frame_bytes: u64,
    /// The offset in the code from which on the frame is complete.
    pub frame_complete: i64,
    /// Of compiled code: the method.
    pub method: u64,
    /// Of compiled code: the number of the compilation.
    pub compile_id: u32,
    /// Of compiled code: from the stack pointer to a replaced return address.
    pub orig_pc: Option<i32>,
    /// Of compiled code: what replaces return addresses.
    pub deopt: Vec<u64>,
}

/// The heaps of a process. `None`: they are not initialized, or damaged.
pub fn heaps(memory: &Memory, structs: &VmStructs, layout: &HeapLayout) -> Option<Vec<CodeHeap>> {
    let Some(heaps) = structs.address(&["CodeCache._heaps"]) else {
        let heap = memory.pointer(structs.address(&["CodeCache._heap"])?)?;
        return Some(vec![heap_at(memory, layout, heap)?]);
    };
    let array = memory.pointer(heaps)?;
    let length = structs.offset(&["GrowableArrayBase._len", "GenericGrowableArray._len"])?;
    let count = memory.u32(array + length).filter(|count| (1..=MAX_HEAPS).contains(count))?;
    let data = memory.pointer(array + structs.offset(&["GrowableArray<int>._data"])?)?;
    (0..u64::from(count)).map(|index| heap_at(memory, layout, memory.pointer(data + index * 8)?)).collect()
}

fn heap_at(memory: &Memory, layout: &HeapLayout, heap: u64) -> Option<CodeHeap> {
    let (space, map) = (heap.checked_add(layout.memory)?, heap.checked_add(layout.segment_map)?);
    let low = memory.pointer(space + layout.low)?;
    let high = memory.pointer(space + layout.high).filter(|high| low < *high && high - low <= 1 << 40)?;
    Some(CodeHeap {
        range: low..high,
        segment_map: memory.pointer(map + layout.low)?,
        log2_segment_size: memory
            .u32(heap + layout.log2_segment_size)
            .filter(|bits| (3..=20).contains(bits))?,
    })
}

/// The address of the piece of code that contains `pc`; `None`: none does.
pub fn blob_address(memory: &Memory, heaps: &[CodeHeap], layout: &HeapLayout, pc: u64) -> Option<u64> {
    let heap = heaps.iter().find(|heap| heap.range.contains(&pc))?;
    let mut segment = (pc - heap.range.start) >> heap.log2_segment_size;
    for _ in 0..MAX_HOPS {
        match memory.u8(heap.segment_map.checked_add(segment)?)? {
            0xff => return None,
            0 => {
                let header = heap.range.start + (segment << heap.log2_segment_size);
                let is_used = memory.u8(header + layout.header_used)? != 0;
                return is_used.then_some(header + layout.header_size);
            }
            back => segment = segment.checked_sub(u64::from(back))?,
        }
    }
    None
}

/// Reads a piece of code's header. `None`: it is none, or it has been freed.
pub fn read_blob(memory: &Memory, layout: &Layout, address: u64) -> Option<Blob> {
    let header = memory.some_bytes(address, layout.blob.header_bytes);
    let name = memory.text(u64_at(&header, layout.blob.name)?)?;
    decode_blob(&header, layout, address, name)
}

fn decode_blob(header: &[u8], layout: &Layout, address: u64, name: String) -> Option<Blob> {
    let (fields, kind) = (&layout.blob, kind_of(&name));
    let size = u32_at(header, fields.size).filter(|size| (1..=MAX_BLOB).contains(size))?;
    let whole = address..address.checked_add(u64::from(size))?;
    let code = match fields.code {
        Bounds::Pointers(begin, end) => u64_at(header, begin)?..u64_at(header, end)?,
        Bounds::Offsets(begin, end) => {
            let at = |field| Some(address + u64::from(u32_at(header, field)?));
            at(begin)?..at(end)?
        }
    };
    if !(whole.start <= code.start && code.start <= code.end && code.end <= whole.end) {
        return None;
    }
    let frame_complete = match fields.is_frame_complete_short {
        true => i64::from(u16_at(header, fields.frame_complete)? as i16),
        false => i64::from(u32_at(header, fields.frame_complete)? as i32),
    };
    let frame_bytes = u64::from(u32_at(header, fields.frame_size)?).checked_mul(8)?;
    if frame_bytes > MAX_FRAME {
        return None;
    }
    let mut blob = Blob {
        address,
        name,
        kind,
        code,
        frame_bytes,
        frame_complete,
        method: 0,
        compile_id: 0,
        orig_pc: None,
        deopt: Vec::new(),
    };
    if kind == BlobKind::Compiled {
        let compiled = &layout.compiled;
        blob.method = u64_at(header, compiled.method)?;
        blob.compile_id = u32_at(header, compiled.compile_id)?;
        blob.orig_pc = compiled.orig_pc.and_then(|field| u32_at(header, field)).map(|offset| offset as i32);
        let handler = |handler: &DeoptHandler| match *handler {
            DeoptHandler::Pointer(field) => u64_at(header, field),
            DeoptHandler::Offset(field) => {
                u32_at(header, field).map(|offset| address.wrapping_add_signed(i64::from(offset as i32)))
            }
        };
        blob.deopt = compiled.deopt.iter().filter_map(handler).collect();
    }
    Some(blob)
}

fn kind_of(name: &str) -> BlobKind {
    match name {
        "nmethod" | "native nmethod" => BlobKind::Compiled,
        "Interpreter" => BlobKind::Interpreter,
        name if name.contains("ontinuation") => BlobKind::Continuation,
        name if name.starts_with("I2C/C2I") || name.starts_with("vtable") => BlobKind::Adapter,
        _ => BlobKind::Stub,
    }
}
