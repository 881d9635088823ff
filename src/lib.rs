//! rprof: pprof for any running process.
//!
//! A sample passes through the modules in this order: a [`sampler`] reads a [`process`]; [`unwind`]
//! turns registers and memory into a stack, with the tables of the language's [`runtime`];
//! [`capture`] counts stacks; [`symbolize`] names addresses; [`profile`] is the result; [`report`]
//! reads it; [`cli`] is the command line. `docs/ARCHITECTURE.md` is the map, and
//! `tests/architecture.rs` enforces it.

pub mod addr;
pub mod budget;
pub mod issue;
pub mod text;

pub mod arch;
pub mod sys;

pub mod elf;
pub mod process;

pub mod core_file;
pub mod disassemble;
pub mod heap;
pub mod sampler;
pub mod symbolize;
pub mod unwind;

pub mod runtime;

pub mod capture;
pub mod profile;
pub mod report;
pub mod spool;

pub mod web;

pub mod serve;
pub mod shell;
pub mod sidecar;

pub mod cli;
