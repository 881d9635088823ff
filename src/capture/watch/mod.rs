//! Watches processes: a running capture (`session`), the state that its events change (`world`),
//! the mappings and threads of each process (`space`), their files (`images`), the language
//! runtimes of each process (`languages`) with their frames (`frames`), and stacks that are read
//! after the sample (`late`).
//!
//! Not here: names (`super::name`), the content of a profile (`super::finish`).

mod frames;
pub mod images;
mod languages;
mod late;
pub mod session;
mod space;
pub mod world;
