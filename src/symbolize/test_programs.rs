//! Programs that tests compile.
