//! Java as HotSpot implements it (OpenJDK, Temurin and others), read from outside the process: no
//! agent, no attach socket, no safepoint, no option of the program.
//!
//! **Frames.** All are on the native stack. Native code calls Java by a stub; from there on
//! interpreted methods have a frame pointer with the method and its bytecode near it, and compiled
//! ones (C1, C2) a frame of a fixed size, a copy of which has all that changes. Which methods are
//! inlined at an instruction is in the debug information of the compiled code, which is read later
//! ([`debug_info`]). In its first and last instructions a compiled method has no frame: the machine
//! code there tells where its return address is ([`leaf`]). Native code that Java calls (libjvm.so,
//! libraries) has call-frame information as in any program.
//!
//! **Finding it.** libjvm.so exports tables that describe its structures, for HotSpot's own
//! serviceability agent ([`structs`]); offsets are never guessed ([`layout`]). The code cache is
//! found through them ([`code_cache`]), and names of methods and lines ([`methods`]), options
//! ([`flags`]), threads ([`threads`]) and their names ([`objects`]).
//!
//! **Reuse.** Code and classes may be unloaded, and their memory used again: what is cached is
//! checked by the number of the compilation and by the method's constant part ([`process`]).
//!
//! **Limits.** x86-64. Written for Java 8 to 25, tested with 17 and 25. Without
//! `-XX:+DebugNonSafepoints` HotSpot keeps debug information for calls and polls only: the leaf of
//! an inlined method without either is shown as its caller. The frames of a virtual thread that are
//! still in the heap are not read: the stack is marked as truncated. Not OpenJ9, not GraalVM native
//! images. Not here: sampling threads, profiles, printing.

mod code_cache;
mod compressed;
mod debug_info;
mod flags;
mod frames;
pub mod fuzz;
mod instance;
mod language;
mod layout;
mod leaf;
mod loaded;
mod memory;
mod methods;
mod objects;
mod parts;
mod process;
mod structs;
mod threads;
mod unwind;

pub use language::Java;
