//! Two files of any bytes that belong together: a program with dwz's supplementary file, with a
//! `.dwo` file, or with a `.dwp` package. The first two bytes state the size of the second file in
//! units of 16 bytes.

use std::sync::Arc;

use rprof::{elf::ElfFile, symbolize::symbolize_any_pair};

/// See the module.
pub fn run(bytes: &[u8]) {
    let Some((head, rest)) = bytes.split_first_chunk::<2>() else { return };
    let size = usize::from(u16::from_le_bytes(*head)) * 16;
    let Some((main, other)) = rest.split_at_checked(rest.len().saturating_sub(size)) else { return };
    let Ok(main) = ElfFile::from_bytes(main.to_vec()) else { return };
    let Ok(other) = ElfFile::from_bytes(other.to_vec()) else { return };
    let mut addresses: Vec<u64> = main.symbols().take(32).map(|symbol| symbol.address.0).collect();
    for segment in main.segments().iter().take(4) {
        addresses.extend((0..16).map(|step| segment.address.0.wrapping_add(step * 97)));
    }
    addresses.sort_unstable();
    addresses.dedup();
    symbolize_any_pair(&main, Arc::new(other), &addresses);
}
