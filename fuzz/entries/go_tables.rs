//! Any bytes as a file with Go's tables: finds the tables and names addresses of the first
//! functions.

use std::sync::Arc;

use rprof::{
    addr::ElfAddr,
    elf::ElfFile,
    runtime::go::{BuildInfo, GoTables},
    unwind::RuntimeTables,
};

/// See the module.
pub fn run(bytes: &[u8]) {
    let Ok(elf) = ElfFile::from_bytes(bytes.to_vec()) else { return };
    let elf = Arc::new(elf);
    let _ = BuildInfo::read(&elf);
    let Some(tables) = GoTables::find(&elf) else { return };
    for function in tables.pclntab.functions().take(16) {
        for address in [function.entry, function.entry.wrapping_add(1), function.end.wrapping_sub(1)] {
            let _ = tables.name(ElfAddr(address));
            let _ = tables.frame(ElfAddr(address));
        }
    }
}
