//! The interactive prompt of `rprof pprof`.
//!
//! [`pprof`] is the session, `order` parses a line, `words` explains errors in plain words. On a
//! terminal, `editor` reads lines with completion (`complete`) and a persistent history
//! (`history`). `pipe` sends reports to other programs.
//!
//! Not here: the reports of the commands (`report`).

mod complete;
mod editor;
mod help;
mod history;
mod order;
mod pipe;
/// The session.
pub mod pprof;
mod words;
