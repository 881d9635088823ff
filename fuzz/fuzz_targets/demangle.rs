//! Any symbol name. The manglings of Rust and C++ are small recursive languages.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rprof::symbolize::demangle;

fuzz_target!(|bytes: &[u8]| {
    let Ok(name) = std::str::from_utf8(bytes) else { return };
    let _ = demangle(name);
});
