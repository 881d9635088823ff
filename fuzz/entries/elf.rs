//! Any bytes as an ELF file: headers, notes, symbols, sections compressed or not.

use rprof::{addr::FileOffset, elf::ElfFile};

/// See the module.
pub fn run(bytes: &[u8]) {
    let Ok(elf) = ElfFile::from_bytes(bytes.to_vec()) else { return };
    let _ = (elf.build_id(), elf.debug_link(), elf.debug_alt_link(), elf.entry(), elf.eh_frame_header());
    for segment in elf.segments() {
        let _ = (elf.bytes_from(segment.address), elf.address_of(segment.file_offset));
        let _ = elf.address_of(FileOffset(segment.file_offset.0.wrapping_add(segment.file_size)));
    }
    for section in elf.sections().iter().take(256) {
        let _ = (
            elf.section_bytes(section),
            elf.section_data_up_to(&String::from_utf8_lossy(elf.section_name(section)), 16 << 20),
        );
    }
    for table in elf.symbol_tables() {
        table.code_symbols().take(100_000).for_each(|symbol| {
            table.name(&symbol);
        });
    }
    let _ = elf.symbols().take(100_000).count();
}
