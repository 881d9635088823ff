//! Tests that unwind real programs.
