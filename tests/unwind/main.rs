//! Stacks of real programs, stopped and unwound, against what the programs are known to do.
//!
//! Not here: sampling; each program is held by ptrace while it is looked at.

mod crafted;
mod live;
mod measure;
mod recorded;
mod target;
