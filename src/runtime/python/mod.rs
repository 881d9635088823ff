//! CPython, read from outside the process: 3.8 and newer, stripped or not, with or without an
//! interpreter lock.
//!
//! **Frames.** CPython's frames are in heap memory, not on the native stack. A thread has a thread
//! state, which leads to its innermost frame, and each frame to the one that called it. A frame has
//! a code object (name, file, table of lines) and the current instruction. Frames change within
//! microseconds, so they are read at the moment of the sample by a BPF program ([`walker`]), or of
//! a thread that sleeps or is stopped ([`frames`]). Reading a running thread tears 1 to 3 % of the
//! stacks; such readings are marked and never combined with native frames. What a code object
//! stands for is read later ([`code`], [`lines`]) and checked, because its memory may be used
//! again.
//!
//! **Native frames.** One run of the evaluator, a C function, executes one Python function or a
//! group of them. [`splice`] puts the Python frames in the place of the evaluator's native frame.
//! Native frames of extension modules and libraries stay.
//!
//! **Modules.** [`find`] recognizes files with an interpreter, [`process`] the interpreter of a
//! process; [`layouts`] has the offsets, one row per release, [`debug_offsets`] what newer
//! interpreters state themselves. [`objects`] reads strings, dictionaries and the like.
//! [`locals`] makes text of local variables. [`threads`] finds the thread states of threads, their
//! names and the holder of the interpreter lock; [`reader`] keeps them. [`tasks`] reads asyncio's
//! tasks, [`task_dump`] prints them. [`language`] and [`instance`] implement the interfaces of all
//! languages.
//!
//! **Limits.** Releases 3.8 to 3.15; newer ones if what they state passes the checks. Older ones
//! are named and refused. Frames of an outer interpreter are not shown while a sub-interpreter
//! runs. Parked greenlets have no registry and are not shown. Not PyPy, GraalPy or MicroPython.
//! arm64 is implemented and untested. Not here: sampling threads, profiles, printing.

mod census;
mod code;
mod debug_offsets;
mod find;
mod frames;
pub mod fuzz;
mod instance;
mod language;
mod layouts;
mod lines;
#[cfg(test)]
mod live_tests;
mod loaded;
mod locals;
mod objects;
mod pools;
mod process;
pub mod program;
mod reader;
mod splice;
mod task_dump;
mod tasks;
mod threads;
pub mod walker;

pub use code::Code;
pub use find::{PythonFile, find, release_of_paths};
pub use language::Python;
pub use process::{Found, PythonError, PythonProcess, Release};
pub use tasks::{Coroutine, PythonTask, TaskLists, Waits};
pub use threads::{GilState, PythonThread};
