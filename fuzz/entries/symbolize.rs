//! Any bytes as a file from which names, lines and inlined frames are read.

use std::{sync::Arc, time::Duration};

use rprof::{
    addr::ElfAddr,
    elf::ElfFile,
    symbolize::{ModuleFiles, SymbolizeOptions, symbolize_module},
};

/// See the module.
pub fn run(bytes: &[u8]) {
    let Ok(elf) = ElfFile::from_bytes(bytes.to_vec()) else { return };
    let mut addresses: Vec<ElfAddr> =
        elf.symbols().take(64).map(|symbol| ElfAddr(symbol.address.0.wrapping_add(1))).collect();
    for segment in elf.segments().iter().take(8) {
        addresses.extend((0..16).map(|step| ElfAddr(segment.address.0.wrapping_add(step * 97))));
    }
    addresses.push(elf.entry());
    let module = ModuleFiles { file: Arc::new(elf), path: None, root: None };
    let options = SymbolizeOptions { time_limit: Duration::from_secs(2), ..SymbolizeOptions::default() };
    let named = symbolize_module(&module, &addresses, &options);
    assert_eq!(named.addresses.len(), addresses.len());
}
