//! Finds the file of a mapping in a profile made on another machine: by build ID, at its path, in
//! the debug directories, or from a debuginfod server.
//!
//! Not here: naming addresses (see `module`), profiles.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{ModuleFiles, SymbolIssue, SymbolizeOptions, debug_files};
use crate::{
    addr::{ElfAddr, FileOffset},
    elf::ElfFile,
    process::files::open_plain,
};

/// A mapping as a profile describes it.
#[derive(Clone, Debug)]
pub struct StoredMapping<'a> {
    /// Path on the machine that recorded the profile.
    pub path: &'a Path,
    /// Build ID; empty if the file had none. Then nothing is searched, because a path alone proves
    /// nothing.
    pub build_id: &'a [u8],
    /// Run-time address of the mapping's first byte.
    pub start: u64,
    /// Run-time address after the mapping's last byte.
    pub limit: u64,
    /// Offset in the file of the byte at `start`.
    pub file_offset: u64,
}

/// Finds the file of a mapping: the program or library itself if it is on this machine, else its
/// debug file. `None` if no file with that build ID is found. Errors: a debuginfod server failed.
pub fn find_stored(
    mapping: &StoredMapping<'_>,
    options: &SymbolizeOptions,
) -> Result<Option<ModuleFiles>, SymbolIssue> {
    if mapping.build_id.is_empty() {
        return Ok(None);
    }
    let fits = |elf: &ElfFile| elf.build_id() == Some(mapping.build_id);
    let open = |path: &Path| ElfFile::open_within(&open_plain(path).ok()?, &options.budget).ok().filter(fits);
    let paths = std::iter::once(mapping.path.to_owned())
        .chain(debug_files::build_id_paths(mapping.build_id, options))
        .chain(by_name(mapping, options));
    let found = paths.map(|path| (open(&path), path)).find_map(|(elf, path)| Some((elf?, path)));
    let (elf, path) = match found {
        Some((elf, path)) => (elf, Some(path)),
        None => {
            let Some(server) = &options.debuginfod else { return Ok(None) };
            let file = server
                .debug_file_unless(mapping.build_id, || options.budget.is_stopped())
                .map_err(SymbolIssue::Debuginfod)?;
            let elf = file.and_then(|file| ElfFile::open_within(&file, &options.budget).ok().filter(fits));
            let Some(elf) = elf else { return Ok(None) };
            (elf, None)
        }
    };
    Ok(Some(ModuleFiles { file: Arc::new(elf), path, root: None }))
}

/// A copy of the file in a debug directory, under its own name or with `.debug` appended.
fn by_name(mapping: &StoredMapping<'_>, options: &SymbolizeOptions) -> Vec<PathBuf> {
    let Some(name) = mapping.path.file_name() else { return Vec::new() };
    let mut debug_name = name.to_owned();
    debug_name.push(".debug");
    options.debug_dirs.iter().flat_map(|dir| [dir.join(name), dir.join(&debug_name)]).collect()
}

/// The ELF address, in `elf`, of the run-time `address` in the mapping.
///
/// A debug file keeps the addresses of the program's segments but not their bytes, and often not
/// their offsets. In that case the mapping is taken to be the executable segment that begins in the
/// same page.
pub fn elf_address(elf: &ElfFile, mapping: &StoredMapping<'_>, address: u64) -> Option<ElfAddr> {
    const PAGE: u64 = 0xfff;
    let distance = address.checked_sub(mapping.start).filter(|_| address < mapping.limit)?;
    let has_code = elf.segments().iter().any(|segment| segment.executable && segment.file_size > 0);
    if has_code && !is_debug_only(elf) {
        let base = elf.address_of(FileOffset(mapping.file_offset))?;
        return Some(ElfAddr(base.0.wrapping_add(distance)));
    }
    let length = mapping.limit - mapping.start;
    let spans = |address: u64, size: u64| {
        let first = address & !PAGE;
        address.checked_add(size).map(|end| (end | PAGE).saturating_sub(first).saturating_add(1) & !PAGE)
    };
    let segments = || elf.segments().iter().filter(|segment| segment.executable);
    let segment = segments()
        .find(|segment| spans(segment.address.0, segment.memory_size) == Some(length))
        .or_else(|| segments().next())?;
    Some(ElfAddr((segment.address.0 & !PAGE).wrapping_add(distance)))
}

/// Whether the code is missing from the file (`objcopy --only-keep-debug` turns its sections into
/// NOBITS).
fn is_debug_only(elf: &ElfFile) -> bool {
    elf.section(".text").is_some_and(|text| elf.section_bytes(text).is_none())
}
