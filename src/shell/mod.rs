//! The prompt of `rprof pprof`.
//!
//! [`pprof`] is the session, `order` understands a line, `words` says what went wrong in plain words.
//! On a terminal `editor` reads lines, with completion (`complete`) and a history kept between runs
//! (`history`); `pipe` brings reports to other programs.
//!
//! Not here: what its commands make (`report`).

mod complete;
mod editor;
mod help;
mod history;
mod order;
mod pipe;
pub mod pprof;
mod words;
