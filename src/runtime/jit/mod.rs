//! Code that a program generates at run time, whatever language it is of.
//!
//! Such code is in executable memory that is no ELF file: anonymous, shared, memfd. If a runtime
//! that rprof reads owns the memory ([`super::Instance::claim`]), that runtime names and unwinds
//! the code. Otherwise, in this order:
//!
//! 1. *The GDB JIT interface* (`gdb`): a list of ELF images in the process's memory. They have
//!    symbols, lines and call-frame information, and are used like files (`object`).
//! 2. *jitdump* (`jitdump`): a file with a record for each function: its code, lines and
//!    call-frame information, each from the time of the record on.
//! 3. *Perf maps* (`perf_map`): names only, read when frames are named.
//!
//! Code that none of them describes keeps its address. It is unwound by its machine code and by
//! frame pointers, which are checked at each step, and the mapping's name says what kind of memory
//! it is and which program generated it (`recognize`). Sources 1 and 2 are read when a frame is
//! first met in such memory, and from then on at most every 10 ms.
//!
//! Limits: unwinding tables that are only registered with libgcc (`__register_frame`) are not
//! read; code that was freed is known only to source 1.

pub mod fuzz;
mod gdb;
mod jitdump;
mod language;
mod object;
mod perf_map;
mod recognize;
mod source;

pub use gdb::descriptor_in;
pub use jitdump::is_jitdump;
pub use perf_map::{PerfMap, PerfMapError, PerfMapNames, names_in as perf_map_names_in};
pub use recognize::{Generator, memory_name};
pub use source::{Generated, Piece, parts_in};
