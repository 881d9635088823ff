//! V8 (Node.js), read from outside the process: 10.2 to 14.6 (Node.js 18 to 26), without flags.
//!
//! **Frames.** All frames of V8 are on the native stack and keep frame pointers. The word below the
//! frame pointer is a context, or the type of the frame (entry, exit, stub). A frame of JavaScript
//! then has its closure; an interpreted one also its bytecode and the offset in it. Interpreted
//! functions run in builtins, which are code of the file without unwinding tables, often mapped a
//! second time near generated code. Sparkplug, Maglev and TurboFan generate code in anonymous
//! memory; its header refers to a `Code` object, which has tables of positions and, of optimized
//! code, the functions inlined into it.
//!
//! **When.** What changes fast is in the copied stack. Functions (`SharedFunctionInfo`), scripts
//! and `Code` objects live long; they are read when a frame is first met, and checked, because the
//! collector moves objects and memory is used again.
//!
//! **Modules.** [`find`] recognizes files and reads the constants that V8 exports for debuggers;
//! [`layouts`] makes offsets of them. [`heap`] reads strings and arrays, [`functions`] functions
//! and scripts, [`classes`] the classes
//! of methods, [`machine_code`] generated code, [`positions`] its tables; [`store`] keeps what was
//! read. [`frames`] unwinds; [`language`] and [`instance`] implement the interfaces of all
//! languages.
//!
//! **Limits.** Only builds that export the constants and do not compress pointers: Node.js and
//! Debian's libnode, not Chromium, Electron or Deno. Functions of WebAssembly have no names. Lines
//! of Sparkplug code need a table that stripped files of V8 13 and newer do not have: such frames
//! have the line of their function. arm64 is implemented and untested. Not here: sampling threads,
//! profiles, printing.

mod classes;
mod find;
mod frames;
mod functions;
pub mod fuzz;
mod heap;
mod instance;
mod language;
mod layouts;
mod loaded;
mod machine_code;
mod names;
mod pages;
mod positions;
mod store;

pub use language::JavaScript;
