//! Stacks of real, stopped programs, compared with the programs' known behaviour.
//!
//! Not here: sampling; each program is held by ptrace while it is read.

mod crafted;
mod live;
mod measure;
mod recorded;
mod target;
