//! Functions, inline chains, files and lines from DWARF 2 to 5, split DWARF and dwz included.
//!
//! A file may hold gigabytes of DWARF, and a profile needs some hundred addresses of it. So no
//! index of the whole is built. The units that claim an address are found by `.debug_aranges` or by
//! their root entries. Each of these units is walked once, and only the chains and rows of the
//! addresses are kept. Pages of a large file are released after each step. Parsing is done by
//! gimli.
//!
//! Not here: symbol tables, finding files.

mod file;
mod functions;
mod lines;
mod ranges;
mod sections;
mod split;
mod units;

use std::{collections::HashMap, path::Path, rc::Rc, sync::Arc, time::Duration};

use gimli::{UnitOffset, UnitRef};

pub(super) use self::functions::Description as FunctionDescription;
use self::{
    file::{DwarfFile, ParsedUnit},
    functions::{Chain, chains, describe},
    lines::LineRow,
    sections::{Flavour, Sections, Slice},
};
use super::{Deadline, SymbolIssue};
use crate::{budget::Budget, elf::ElfFile};

/// Each name may be in a page of its own, and the kernel may map 2 MiB around it.
const ADDRESSES_PER_RELEASE: usize = 16;

/// One function at an address, as stated by DWARF.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct DwarfFrame {
    pub description: FunctionDescription,
    pub file: Option<String>,
    pub line: u32,
    pub column: u32,
}

/// The files to read.
pub(super) struct DwarfInput<'a> {
    pub elf: &'a ElfFile,
    pub supplementary: Option<&'a ElfFile>,
    pub split_files: &'a dyn SplitFiles,
}

/// Finds the files of split DWARF.
pub(super) trait SplitFiles {
    /// The `.dwo` file that `compilation_dir` and `name` state.
    fn object(&self, compilation_dir: &Path, name: &Path) -> Option<Arc<ElfFile>>;
    /// The `.dwp` package of the module.
    fn package(&self) -> Option<Arc<ElfFile>>;
}

/// Names, and what they lack.
#[derive(Debug, Default)]
pub(super) struct DwarfFrames {
    /// Frames of each address, innermost first; empty if DWARF does not cover it.
    pub frames: Vec<Vec<DwarfFrame>>,
    pub issues: Vec<SymbolIssue>,
}

pub(super) fn has_dwarf(elf: &ElfFile) -> bool {
    let has_bytes = |name| elf.section(name).is_some_and(|section| elf.section_bytes(section).is_some());
    has_bytes(".debug_info") || has_bytes(".zdebug_info")
}

/// Names addresses of `main` with `other` as its supplementary file, `.dwo` file and package, for
/// fuzzing.
pub fn symbolize_any_pair(main: &ElfFile, other: Arc<ElfFile>, addresses: &[u64]) {
    struct Always(Arc<ElfFile>);
    impl SplitFiles for Always {
        fn object(&self, _: &Path, _: &Path) -> Option<Arc<ElfFile>> {
            Some(Arc::clone(&self.0))
        }
        fn package(&self) -> Option<Arc<ElfFile>> {
            Some(Arc::clone(&self.0))
        }
    }
    let split_files = Always(Arc::clone(&other));
    let input = DwarfInput { elf: main, supplementary: Some(&other), split_files: &split_files };
    let session = Budget::session();
    let deadline = Deadline::after(Duration::from_secs(2), main.budget().clone(), session);
    let named = symbolize(&input, addresses, &deadline);
    assert_eq!(named.frames.len(), addresses.len());
}

/// Names the sorted `addresses`.
pub(super) fn symbolize(input: &DwarfInput<'_>, addresses: &[u64], deadline: &Deadline) -> DwarfFrames {
    let supplementary_sections = input.supplementary.map(|elf| Sections::load(elf, Flavour::Plain));
    let sections = Sections::load(input.elf, Flavour::Plain);
    let supplementary =
        supplementary_sections.as_ref().map(|sections| DwarfFile::new(sections.dwarf(), None));
    let mut dwarf = sections.dwarf();
    if let Some(sections) = &supplementary_sections {
        dwarf.set_sup(sections.dwarf());
    }
    let file = DwarfFile::new(dwarf, supplementary.as_ref());
    let mut naming = Naming {
        file: &file,
        sections: &sections,
        addresses,
        result: DwarfFrames { frames: vec![Vec::new(); addresses.len()], issues: Vec::new() },
        split: split::Loader::new(input.split_files),
        deadline,
    };
    naming.run();
    if let Some(sections) = &supplementary_sections {
        sections.release_pages();
    }
    naming.result
}

struct Naming<'n, 'a> {
    file: &'n DwarfFile<'a>,
    sections: &'n Sections<'n>,
    addresses: &'n [u64],
    result: DwarfFrames,
    split: split::Loader<'n>,
    deadline: &'n Deadline,
}

impl<'a> Naming<'_, 'a> {
    fn run(&mut self) {
        let (claims, damage) = units::claims(self.file, self.sections, self.addresses, self.deadline);
        self.damaged(damage);
        for (start, indices) in claims {
            // Another unit may already have named some of them completely.
            let open: Vec<usize> =
                indices.into_iter().filter(|index| !is_complete(&self.result.frames[*index])).collect();
            if open.is_empty() || self.deadline.passed() {
                continue;
            }
            match self.file.unit_at(start) {
                Ok(unit) => self.unit(&unit, &open),
                Err(error) => self.damaged(Some(error)),
            }
            self.sections.release_pages();
        }
        self.result.issues.extend(self.split.issue());
    }

    fn unit(&mut self, unit: &Rc<ParsedUnit<'a>>, indices: &[usize]) {
        let addresses: Vec<u64> = indices.iter().map(|index| self.addresses[*index]).collect();
        let unit_ref = UnitRef::new(&self.file.dwarf, unit);
        let rows = lines::rows(unit_ref, &addresses, self.deadline);
        let deadline = self.deadline;
        let in_split_file = self.split.with_whole(&self.file.dwarf, unit, |whole| {
            let reader = UnitReader { file: whole.file, unit: &whole.unit, deadline };
            reader.frames(whole.sections, &addresses, &rows, unit_ref)
        });
        let (frames, damage) = in_split_file.unwrap_or_else(|| {
            let reader = UnitReader { file: self.file, unit, deadline };
            reader.frames(self.sections, &addresses, &rows, unit_ref)
        });
        self.damaged(damage);
        for (index, frames) in indices.iter().zip(frames) {
            if frames.len() > self.result.frames[*index].len() || is_complete(&frames) {
                self.result.frames[*index] = frames;
            }
        }
    }

    /// Only the first damage is reported.
    fn damaged(&mut self, damage: Option<gimli::Error>) {
        let reported = self.result.issues.iter().any(|issue| matches!(issue, SymbolIssue::Damaged(_)));
        if let Some(error) = damage.filter(|_| !reported) {
            self.result.issues.push(SymbolIssue::Damaged(error.to_string()));
        }
    }
}

fn is_complete(frames: &[DwarfFrame]) -> bool {
    frames.last().is_some_and(|outer| outer.description.name.is_some())
}

/// A unit that contains functions: in the file itself, or in a split file.
struct UnitReader<'r, 'a> {
    file: &'r DwarfFile<'a>,
    unit: &'r Rc<ParsedUnit<'a>>,
    deadline: &'r Deadline,
}

impl UnitReader<'_, '_> {
    /// The frames of each address. `rows` are their line rows; `lines` is the unit whose line
    /// program numbers the files (for a split unit, its skeleton).
    fn frames(
        &self,
        sections: &Sections<'_>,
        addresses: &[u64],
        rows: &[Option<LineRow>],
        lines: UnitRef<'_, Slice<'_>>,
    ) -> (Vec<Vec<DwarfFrame>>, Option<gimli::Error>) {
        let unit = UnitRef::new(&self.file.dwarf, self.unit);
        let (chains, damage) = chains(unit, addresses, sections, self.deadline);
        let mut described = Described::default();
        let frames = chains
            .iter()
            .zip(rows)
            .enumerate()
            .map(|(at, (chain, row))| {
                if at % ADDRESSES_PER_RELEASE == 0 {
                    sections.release_pages();
                }
                self.frames_of(chain, *row, lines, &mut described)
            })
            .collect();
        (frames, damage)
    }

    fn frames_of(
        &self,
        chain: &Chain,
        row: Option<LineRow>,
        lines: UnitRef<'_, Slice<'_>>,
        described: &mut Described,
    ) -> Vec<DwarfFrame> {
        if chain.function.is_none() && row.is_none() {
            return Vec::new();
        }
        // From the innermost frame outwards: the position of each frame is the call site of the one
        // inside it.
        let mut at = row;
        let mut frames = Vec::new();
        let inlined = chain.inlined.iter().rev().map(|inlined| (Some(inlined.entry), Some(inlined)));
        for (entry, inlined) in inlined.chain([(chain.function, None)]) {
            let description = entry.map(|entry| described.function(self, entry)).unwrap_or_default();
            let file = at.and_then(|row| described.path(lines, row.file));
            let is_affordable =
                self.deadline.may_keep(description.text_bytes() + file.as_ref().map_or(0, String::len));
            if !is_affordable {
                return Vec::new();
            }
            frames.push(DwarfFrame {
                description,
                file,
                line: at.map_or(0, |row| row.line),
                column: at.map_or(0, |row| row.column),
            });
            at = inlined.map(|inlined| LineRow {
                file: inlined.call_file,
                line: inlined.call_line,
                column: inlined.call_column,
            });
        }
        frames
    }
}

/// Functions and files of a unit that were already read: many addresses share them.
#[derive(Default)]
struct Described {
    functions: HashMap<UnitOffset<usize>, FunctionDescription>,
    paths: HashMap<u64, Option<String>>,
}

impl Described {
    fn function(&mut self, reader: &UnitReader<'_, '_>, entry: UnitOffset<usize>) -> FunctionDescription {
        let describe = || describe(reader.file, reader.unit, entry, reader.deadline);
        self.functions.entry(entry).or_insert_with(describe).clone()
    }

    fn path(&mut self, lines: UnitRef<'_, Slice<'_>>, file: u64) -> Option<String> {
        self.paths.entry(file).or_insert_with(|| lines::path(lines, file)).clone()
    }
}
