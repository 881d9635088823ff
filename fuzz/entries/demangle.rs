//! Any symbol name. The manglings of Rust and C++ are small recursive languages.

use rprof::symbolize::demangle;

/// See the module.
pub fn run(bytes: &[u8]) {
    let Ok(name) = std::str::from_utf8(bytes) else { return };
    let _ = demangle(name);
}
