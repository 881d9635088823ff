//! Machine code that V8 generated: which `Code` an address is in, and what that knows of its
//! functions.
//!
//! Machine code lies in an object whose header refers to its `Code`; the header is found by walking
//! back from the address. That holds for every compiler, for code that replaced a running loop, and
//! for code that was replaced itself. Not here: frames.

use std::ops::Range;

use super::{
    functions::bytecode,
    heap::{Heap, is_object, small_integer},
    positions::Positions,
};

/// How far the header may be before an address, in bytes.
const MAX_BACK: u64 = 512 << 10;
/// How much is read at once, in bytes.
const CHUNK: u64 = 16 << 10;
/// The largest machine code of a function, in bytes.
const MAX_CODE: u64 = 64 << 20;

/// The compiler that made code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiler {
    /// Sparkplug: machine code of each bytecode.
    Baseline,
    /// Maglev or TurboFan: with inlined functions.
    Optimizing,
    /// None: a stub, a regular expression, a wrapper of WebAssembly.
    Other,
}

/// Generated code.
#[derive(Debug)]
pub struct MachineCode {
    /// The `Code` object.
    pub code: u64,
    /// Its machine code.
    pub range: Range<u64>,
    /// What made it.
    pub compiler: Compiler,
    /// Positions of optimized code.
    pub positions: Positions,
    /// The function that was compiled: optimized code states it.
    pub function: Option<u64>,
    /// Inlining positions.
    pub inlining: Vec<u8>,
    /// The functions that inlining positions number.
    pub literals: Vec<u64>,
    /// The bytecode of baseline code, and the lengths of its machine code.
    pub bytecode: Option<u64>,
    offsets: Vec<u8>,
    cookie: u64,
}

/// What identifies code at an address.
pub fn generation(heap: &Heap, code: u64) -> Option<u64> {
    let at = &heap.layout.at;
    if at.stream_is_code {
        let [map, data, flags] = [0, at.code_data, at.code_flags & !7].map(|offset| heap.word(code, offset));
        return Some(map? ^ data?.rotate_left(17) ^ flags?.rotate_left(31));
    }
    let words: [u64; 8] = heap.words(code, 0)?;
    let word = |offset: u64| words.get(usize::try_from(offset / 8).ok()?).copied();
    Some(word(0)? ^ word(at.code_start)?.rotate_left(17) ^ word(at.code_data)?.rotate_left(31))
}

impl MachineCode {
    /// Whether the code is still what was read.
    pub fn is_current(&self, heap: &Heap) -> bool {
        generation(heap, self.code) == Some(self.cookie)
    }

    /// Finds the code that contains `pc`. `region`: the mapping. `None`: it is not in V8's code.
    pub fn find(heap: &Heap, pc: u64, region: &Range<u64>) -> Option<MachineCode> {
        let lowest = region.start.max((pc & !0xfff).saturating_sub(MAX_BACK));
        let mut end = pc.checked_add(8)? & !7;
        while end > lowest {
            let start = lowest.max(end.saturating_sub(CHUNK));
            let bytes = heap.raw(start, end - start)?;
            for (index, word) in bytes.as_chunks::<8>().0.iter().enumerate().rev() {
                let header = start + index as u64 * 8;
                if let Some(found) = Self::at_header(heap, header, u64::from_le_bytes(*word), pc) {
                    return Some(found);
                }
            }
            end = start;
        }
        None
    }

    /// The code whose object begins at `header` with the word `map`, if it contains `pc`.
    fn at_header(heap: &Heap, header: u64, map: u64, pc: u64) -> Option<MachineCode> {
        let (at, types) = (&heap.layout.at, &heap.layout.types);
        let start = header.checked_add(at.stream_start)?;
        let may_be = start.is_multiple_of(32) && is_object(map);
        if !may_be || heap.type_of_map(map) != Some(types.stream) {
            return None;
        }
        let refers = match at.stream_is_code {
            true => [header + 1, 0, 0],
            false => heap.words(header + 1, 8)?,
        };
        let code = refers.into_iter().find(|code| heap.is(*code, types.code))?;
        let found = Self::read(heap, code, start)?;
        found.range.contains(&pc).then_some(found)
    }

    fn read(heap: &Heap, code: u64, start: u64) -> Option<MachineCode> {
        let (at, layout) = (&heap.layout.at, &heap.layout);
        let cookie = generation(heap, code)?;
        if !at.stream_is_code && heap.word(code, at.code_start)? != start {
            return None;
        }
        let number = |offset: u64| heap.memory.read_u32(crate::addr::RuntimeAddr(code - 1 + offset));
        let size = u64::from(number(at.code_size)?);
        if size > MAX_CODE {
            return None;
        }
        let (mask, baseline) = layout.code_kind;
        let kind = number(at.code_flags)? & mask;
        let compiler = match kind {
            kind if kind == baseline => Compiler::Baseline,
            kind if kind > baseline => Compiler::Optimizing,
            _ => Compiler::Other,
        };
        let mut found = MachineCode {
            code,
            range: start..start.checked_add(size)?,
            compiler,
            positions: Positions::default(),
            function: None,
            inlining: Vec::new(),
            literals: Vec::new(),
            bytecode: None,
            offsets: Vec::new(),
            cookie,
        };
        let table = || heap.bytes(heap.word(code, at.code_positions)?);
        match compiler {
            Compiler::Baseline => {
                found.bytecode = bytecode(heap, heap.word(code, at.code_data)?, 4);
                found.offsets = table().unwrap_or_default();
            }
            Compiler::Optimizing => {
                let table = table().unwrap_or_default();
                found.positions = Positions::decode(&table, size, layout.unsigned_positions);
                found.read_inlined(heap);
            }
            Compiler::Other => {}
        }
        Some(found)
    }

    /// Reads the deoptimization data: the function, and those inlined into it.
    fn read_inlined(&mut self, heap: &Heap) -> Option<()> {
        let (at, types) = (&heap.layout.at, &heap.layout.types);
        let data = heap.array(heap.word(self.code, at.code_data)?)?;
        let [literals, inlining, count, function] = at.deopt.map(|index| data.get(index).copied());
        let function = function?;
        self.function = match heap.is(function, types.function_wrapper) {
            true => heap.word(function, 8),
            false => Some(function),
        };
        let count = usize::try_from(small_integer(count?)?).ok().filter(|count| *count > 0)?;
        // References in the list may be weak.
        let all = heap.array(literals?)?;
        self.literals = all.into_iter().take(count).map(|word| word & !2).collect();
        self.inlining = heap.bytes(inlining?)?;
        Some(())
    }

    /// The offset of the bytecode that baseline code executes at `pc`, in bytes.
    pub fn bytecode_offset(&self, heap: &Heap, pc: u64) -> Option<u64> {
        let array = self.bytecode?;
        let length = heap.length(array)?.min(1 << 20);
        let bytecodes = heap.raw(array - 1 + heap.layout.at.bytecode_data, length)?;
        let distance = pc.checked_sub(self.range.start)?;
        super::positions::bytecode_of_baseline(
            &self.offsets,
            &bytecodes,
            &heap.layout.bytecode_sizes,
            distance,
        )
    }
}
