//! CPython, read from outside the process: 3.8 and newer, stripped or not.
//!
//! **Frames.** CPython's frames are in heap memory, not on the native stack: each thread has a
//! thread state, which leads to its innermost frame, and each frame to the one that called it. They
//! change within microseconds, so they must be read at the moment of the sample: by a BPF program
//! ([`walker`]), of a stopped or sleeping thread, or by one read of all parts.
//!
//! Not here: sampling threads, profiles, printing.

pub mod walker;
