//! rprof: pprof for any running process.
//!
//! The modules stand in the order in which a sample meets them: a [`sampler`] looks at a
//! [`process`], [`unwind`] turns registers and memory into a stack (helped by what a language's
//! [`runtime`] knows of its own), [`capture`] counts stacks and
//! asks [`symbolize`] for names, [`profile`] is what comes out, [`report`] reads it, [`cli`] talks
//! to the person. `docs/ARCHITECTURE.md` draws the map and `tests/architecture.rs` enforces it.

pub mod addr;
pub mod issue;
pub mod text;

pub mod arch;
pub mod sys;

pub mod elf;
pub mod process;

pub mod disassemble;
pub mod sampler;
pub mod symbolize;
pub mod unwind;

pub mod runtime;

pub mod capture;
pub mod profile;
pub mod report;

pub mod web;

pub mod serve;
pub mod shell;

pub mod cli;
