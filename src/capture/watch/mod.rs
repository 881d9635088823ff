//! Watches processes: a running capture (`session`), its samplers (`source`) and the order of their
//! events (`merge`), the requested processes (`targets`), the state that events change (`world`),
//! the mappings and threads of each process (`space`), their files (`images`), code that was moved
//! from its file to anonymous memory (`moved_code`), code that it generates and describes
//! (`generated`), the language runtimes of each process (`languages`) with their frames (`frames`),
//! unwinding (`unwinding`), where a frame is (`place`), stacks that are read after the sample
//! (`late`), what was counted until a window ends (`window`), and how much memory all that takes
//! (`memory`).
//!
//! Not here: names (`super::name`), the content of a profile (`super::finish`).

pub mod frames;
mod generated;
pub mod images;
mod labels;
mod languages;
mod late;
pub mod memory;
mod merge;
mod moved_code;
pub mod place;
pub mod session;
pub mod source;
pub mod space;
mod targets;
mod unwinding;
pub mod window;
pub mod world;
