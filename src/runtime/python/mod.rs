//! CPython, read from outside the process: 3.8 and newer, stripped or not.
//!
//! **Frames.** CPython's frames are in heap memory, not on the native stack: each thread has a
//! thread state, which leads to its innermost frame, and each frame to the one that called it. They
//! change within microseconds, so they must be read at the moment of the sample: by a BPF program
//! ([`walker`]), of a stopped or sleeping thread, or by one read of all parts.
//!
//! Not here: sampling threads, profiles, printing.

mod code;
mod debug_offsets;
mod find;
mod frames;
mod layouts;
mod lines;
mod objects;
mod process;
mod reader;
mod splice;
mod tasks;
mod threads;
pub mod walker;

pub use code::Code;
pub use find::{PythonFile, find, release_of_paths};
pub use process::{Found, PythonError, PythonProcess, Release};
pub use tasks::{Coroutine, PythonTask, TaskLists, Waits};
pub use threads::{GilState, PythonThread};
