//! Reads an interpreter's structures from bytes that no interpreter wrote, for fuzzing and tests.
//!
//! Not here: a live process.

use std::sync::Arc;

use super::{
    debug_offsets::DebugOffsets,
    layouts::{Layout, LineFormat, NEWEST, OLDEST},
    lines,
    process::{PythonProcess, Release},
    splice::{self, NativeFrame},
    tasks::TaskLists,
    walker::Section,
};
use crate::{addr::RuntimeAddr, process::ProcessMemory};

/// Where the bytes are in the invented process: `_PyRuntime` is at their beginning.
pub const START: u64 = 0x10_0000;

/// An invented interpreter whose memory is `bytes`; `choice` selects the release.
pub fn process(bytes: Vec<u8>, choice: u8) -> PythonProcess {
    let minor = OLDEST + u32::from(choice) % (NEWEST - OLDEST + 1);
    let stated = DebugOffsets::parse(&bytes).ok().and_then(|offsets| offsets.layout());
    let layout = stated.or_else(|| Layout::of(minor)).unwrap_or_else(|| unreachable!("a known release"));
    PythonProcess {
        pid: 0,
        memory: Arc::new(ProcessMemory::of_image(RuntimeAddr(START), bytes)),
        release: Release { major: 3, minor: layout.minor, micro: None },
        layout,
        runtime: START,
        evaluator: Vec::new(),
        ended: None,
    }
}

/// Reads all that profiles and dumps read; returns the number of frames and tasks.
pub fn read_all(process: &PythonProcess) -> (usize, usize) {
    let (mut frames, mut tasks) = (0, 0);
    let threads = process.threads();
    let _ = process.slot(&threads);
    for thread in threads.iter().take(16) {
        let section = process.frames(thread.state);
        frames += section.frames.len();
        for frame in section.frames.iter().take(16) {
            if let Some(code) = process.code(frame.code) {
                let _ = code.line(frame.instr);
            }
        }
        let variables = process.variables(&section);
        assert!(variables.iter().all(|(index, _)| *index < section.frames.len()));
        combine_any(process, &section);
    }
    for interpreter in process.interpreters().into_iter().take(16) {
        let _ = (process.gil(interpreter), process.thread_names(interpreter));
        tasks += process.tasks(interpreter, None).map_or(0, |tasks| tasks.len());
    }
    (frames, tasks)
}

/// Gives any bytes to the readers of single structures.
pub fn read_pieces(bytes: &[u8]) {
    for format in [LineFormat::Lnotab, LineFormat::Linetable, LineFormat::Locations] {
        let _ = lines::line_at(format, bytes, 1, bytes.len() as u64);
    }
    let _ = (TaskLists::parse(bytes), DebugOffsets::parse(bytes));
    if let Some(section) = Section::decode(bytes) {
        assert_eq!(Section::decode(&section.encode()).as_ref(), Some(&section));
        for minor in OLDEST..=NEWEST {
            combine_any(&process(Vec::new(), (minor - OLDEST) as u8), &section);
        }
    }
}

/// No frame is lost or repeated, whatever the native stack is.
fn combine_any(process: &PythonProcess, section: &Section) {
    let native: Vec<NativeFrame> = (0..32)
        .map(|index| NativeFrame {
            bounds: (index % 5 != 4).then(|| (START + index * 64, START + (index + 1) * 64)),
            is_evaluator: index % 2 == 0,
        })
        .collect();
    for is_whole in [true, false] {
        let (parts, _) = splice::combine(&process.layout, section, &native, is_whole);
        let python: Vec<usize> = parts.iter().filter_map(splice::Part::python).collect();
        let real = |index: &usize| !process.layout.is_shim(section.frames[*index].entry());
        let expected: Vec<usize> = (0..section.frames.len()).filter(real).collect();
        assert!(python.is_sorted() || !process.layout.has_shims, "{python:?}");
        let mut sorted = python;
        sorted.sort_unstable();
        assert_eq!(sorted, expected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::python::walker::{COMPLETE, CUT, MAX_FRAMES, UNREADABLE};

    /// An interpreter of 3.12 with one thread whose frames are at `frames`: (address, previous,
    /// entry).
    fn image(first: u64, frames: &[(u64, u64, u8)]) -> Vec<u8> {
        let mut words = vec![0u64; 512];
        let at = |address: u64| ((address - START) / 8) as usize;
        let (interpreter, thread, anchor) = (START + 0x100, START + 0x400, START + 0x700);
        words[at(START + 40)] = interpreter;
        words[at(interpreter + 72)] = thread;
        words[at(thread + 16)] = interpreter;
        words[at(thread + 56)] = anchor;
        words[at(anchor)] = first;
        for (address, previous, entry) in frames {
            words[at(*address)] = START + 0xf00;
            words[at(address + 8)] = *previous;
            words[at(address + 64)] = u64::from(*entry) << 48;
        }
        words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    fn section(bytes: Vec<u8>) -> Section {
        let process = process(bytes, 12 - 8);
        let threads = process.threads();
        assert_eq!(threads.len(), 1);
        process.frames(threads[0].state)
    }

    const A: u64 = START + 0x800;
    const B: u64 = START + 0x900;

    #[test]
    fn a_chain_that_ends_at_a_shim_is_complete() {
        let found = section(image(A, &[(A, B, 0), (B, 0, 3)]));
        assert_eq!((found.frames.len(), found.head.flags & COMPLETE), (2, COMPLETE));
    }

    #[test]
    fn a_circular_chain_ends_at_the_limit_and_is_noticed() {
        let found = section(image(A, &[(A, B, 0), (B, A, 0)]));
        assert_eq!((found.frames.len(), found.head.flags & CUT), (MAX_FRAMES, CUT));
        assert!(found.is_circular());
    }

    #[test]
    fn a_frame_that_points_nowhere_ends_the_chain() {
        let found = section(image(A, &[(A, 0x7fff_0000_0000, 0)]));
        assert_eq!((found.frames.len(), found.head.flags), (1, UNREADABLE | found.head.flags));
    }

    #[test]
    fn lists_that_point_to_themselves_are_read_once() {
        let mut bytes = image(A, &[(A, B, 0), (B, 0, 3)]);
        // The next interpreter and the next thread are the same ones.
        for (at, to) in [(0x100, START + 0x100), (0x408, START + 0x400)] {
            bytes[at..at + 8].copy_from_slice(&u64::to_le_bytes(to));
        }
        let process = process(bytes, 12 - 8);
        assert_eq!((process.interpreters().len(), process.threads().len()), (1, 1));
        assert_eq!(read_all(&process), (2, 0));
    }
}
