//! Whether a file is a program or library: the first word behind the flags may name one.
//!
//! Not here: reading it.

use std::{fs::File, io::Read};

/// Beginnings of ELF, Mach-O (both orders, both sizes), PE, and Go's object archives.
const BEGINNINGS: [&[u8]; 7] = [
    b"\x7fELF",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"MZ",
    b"!<arch>\n",
];

/// Whether the file at `path` can be opened and is one.
pub(super) fn opens(path: &str) -> bool {
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(8).read_to_end(&mut start));
    read.is_ok() && BEGINNINGS.iter().any(|beginning| start.starts_with(beginning))
}
