//! The native allocators that rprof reads, the only place that lists them.

use super::{Allocator, glibc::Glibc, jemalloc::Jemalloc};

/// All native allocators, in the order in which they are tried. A process may use several.
pub static ALL: &[&dyn Allocator] = &[&Glibc, &Jemalloc];
