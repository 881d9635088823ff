//! Split DWARF: a unit of the linked file is only a skeleton (ranges, lines, addresses). Its
//! functions are in a `.dwo` file, or in a `.dwp` package of several (DWARF 5, section 7.3; GCC and
//! LLVM have an equivalent for DWARF 4).
//!
//! Not here: finding such files.

use std::{path::PathBuf, rc::Rc, sync::Arc};

use gimli::{Dwarf, DwoId, UnitRef};

use super::{
    SplitFiles,
    file::{DwarfFile, ParsedUnit},
    sections::{Flavour, Sections, Slice},
};
use crate::{
    elf::ElfFile,
    symbolize::{SymbolIssue, debug_files::path_of},
};

/// `PATH_MAX` of Linux.
const MAX_PATH_BYTES: usize = 4096;

/// Loads the split files of one module, one at a time.
pub(super) struct Loader<'l> {
    files: &'l dyn SplitFiles,
    /// Searched for when the first skeleton is met.
    package: Option<Option<Arc<ElfFile>>>,
    missing: usize,
    example: Option<PathBuf>,
}

/// A unit in a split file.
pub(super) struct Whole<'w, 'a> {
    pub file: &'w DwarfFile<'a>,
    pub unit: Rc<ParsedUnit<'a>>,
    pub sections: &'w Sections<'a>,
}

impl<'l> Loader<'l> {
    pub(super) fn new(files: &'l dyn SplitFiles) -> Loader<'l> {
        Loader { files, package: None, missing: 0, example: None }
    }

    /// Calls `visit` with the full unit of `skeleton`. `None` if `skeleton` is not a skeleton, or
    /// its file is missing (which is counted) or damaged.
    pub(super) fn with_whole<T>(
        &mut self,
        main: &Dwarf<Slice<'_>>,
        skeleton: &ParsedUnit<'_>,
        visit: impl FnOnce(&Whole<'_, '_>) -> T,
    ) -> Option<T> {
        let id = skeleton.dwo_id?;
        let name = skeleton.dwo_name().ok()??;
        let name = UnitRef::new(main, skeleton).attr_string(name).ok()?.slice();
        if name.len().max(skeleton.comp_dir.map_or(0, |dir| dir.len())) > MAX_PATH_BYTES {
            return None;
        }
        let name = path_of(name).to_owned();
        let directory = skeleton.comp_dir.map(|dir| path_of(dir.slice()).to_owned()).unwrap_or_default();

        let package = self.package.get_or_insert_with(|| self.files.package()).clone();
        if let Some(elf) = package {
            let sections = Sections::load(&elf, Flavour::Split);
            let dwarf = sections.package().and_then(|package| package.find_cu(id, main));
            if let Ok(Some(dwarf)) = dwarf {
                return with_unit(&sections, dwarf, id, skeleton, visit);
            }
        }
        let Some(elf) = self.files.object(&directory, &name) else {
            self.missing += 1;
            self.example.get_or_insert(directory.join(name));
            return None;
        };
        let sections = Sections::load(&elf, Flavour::Split);
        let mut dwarf = sections.dwarf();
        dwarf.make_dwo(main);
        with_unit(&sections, dwarf, id, skeleton, visit)
    }

    /// The split files that could not be found, if any.
    pub(super) fn issue(&self) -> Option<SymbolIssue> {
        let example = self.example.as_ref()?.display().to_string();
        Some(SymbolIssue::SplitDwarfMissing { count: self.missing, example })
    }
}

fn with_unit<'a, T>(
    sections: &Sections<'a>,
    dwarf: Dwarf<Slice<'_>>,
    id: DwoId,
    skeleton: &ParsedUnit<'_>,
    visit: impl FnOnce(&Whole<'_, '_>) -> T,
) -> Option<T> {
    let file = DwarfFile::new(dwarf, None);
    let mut headers = file.dwarf.units();
    while let Ok(Some(header)) = headers.next() {
        let Ok(mut unit) = file.parse_unit(header) else { continue };
        // A file of another build has another ID.
        if unit.dwo_id == Some(id) {
            unit.copy_relocated_attributes(skeleton);
            let whole = Whole { file: &file, unit: Rc::new(unit), sections };
            return Some(visit(&whole));
        }
    }
    None
}
