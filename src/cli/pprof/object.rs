//! Whether a file is a program or library: the first argument after the flags may be one.

use std::{fs::File, io::Read, os::unix::fs::FileExt, path::Path};

use crate::process::files::open_plain;

/// Magic numbers of ELF, Mach-O (both byte orders and sizes), PE, and Go's object archives.
const BEGINNINGS: [&[u8]; 7] = [
    b"\x7fELF",
    b"\xfe\xed\xfa\xce",
    b"\xfe\xed\xfa\xcf",
    b"\xce\xfa\xed\xfe",
    b"\xcf\xfa\xed\xfe",
    b"MZ",
    b"!<arch>\n",
];

/// Whether the file at `path` can be opened and is a program or library.
pub(super) fn opens(path: &str) -> bool {
    let Some((start, file)) = beginning(path) else { return false };
    BEGINNINGS.iter().any(|beginning| start.starts_with(beginning)) || is_bare_coff(&start, &file)
}

/// Whether Go takes it for an empty object file (see [`is_bare_coff`]).
pub(super) fn is_empty(path: &str) -> bool {
    beginning(path).is_some_and(|(start, file)| is_bare_coff(&start, &file))
}

fn beginning(path: &str) -> Option<(Vec<u8>, File)> {
    let mut start = Vec::new();
    let file = open_plain(Path::new(path)).ok()?;
    (&file).take(20).read_to_end(&mut start).ok()?;
    Some((start, file))
}

/// Whether it looks like a COFF object for an unknown machine without sections. Go's `debug/pe`
/// accepts gperftools' CPU profiles, which start with zeros, as such an object.
fn is_bare_coff(header: &[u8], file: &File) -> bool {
    let number = |at: usize, size: usize| {
        let bytes = header.get(at..at + size)?;
        Some(bytes.iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte)))
    };
    let (machine, sections, optional_size) = (number(0, 2), number(2, 2), number(16, 2));
    if [machine, sections, optional_size] != [Some(0); 3] {
        return false;
    }
    let (Some(symbols_at), Some(symbols)) = (number(8, 4), number(12, 4)) else { return false };
    if symbols_at == 0 {
        return true;
    }
    let mut length = [0; 4];
    let strings_at = symbols_at + 18 * symbols;
    if file.read_exact_at(&mut length, strings_at).is_err() {
        return false;
    }
    let end = strings_at + u64::from(u32::from_le_bytes(length)).max(4);
    file.metadata().is_ok_and(|metadata| metadata.len() >= end)
}
