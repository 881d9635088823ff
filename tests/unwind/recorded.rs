//! Recorded stacks.
