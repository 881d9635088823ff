//! Finds Go's tables in an ELF file: by section name where the section exists, else by content.
//!
//! Stripping, `-trimpath`, PIE and linking with gcc (cgo) remove symbols, section names or fixed
//! addresses. But the runtime itself needs the function table and the `moduledata` that points to
//! it. `moduledata` is recognized by five pointers into the table at known distances. Not here:
//! live processes.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
};

use super::pclntab::{Function, Header, Pclntab, is_header};
use crate::{
    addr::ElfAddr,
    elf::{ElfFile, RelocatedWords},
};

/// `moduledata`: the five slices of the function table begin at these words (since Go 1.18).
const SLICE_WORDS: [u64; 5] = [1, 4, 7, 10, 13];
/// `moduledata.text`.
pub const MODULEDATA_TEXT: u64 = 176;
/// `moduledata.gofunc`, newest first: Go 1.27; 1.20 to 1.26; 1.18 and 1.19.
const GOFUNC: [u64; 3] = [344, 320, 304];
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];
/// Sections that only Go's linker creates.
const MARKS: [&str; 5] =
    [".gopclntab", ".data.rel.ro.gopclntab", ".go.buildinfo", ".note.go.buildid", ".go.module"];

/// The Go part of an ELF file.
#[derive(Debug)]
pub struct GoTables {
    /// The function table.
    pub pclntab: Pclntab,
    /// `runtime.firstmoduledata`.
    pub moduledata: ElfAddr,
    /// Functions of the runtime (and a few others) by name, filled at first use.
    by_name: OnceLock<HashMap<Box<str>, Function>>,
}

/// Whether the file has a section that only Go's linker creates.
pub fn is_marked(elf: &ElfFile) -> bool {
    MARKS.iter().any(|name| elf.section(name).is_some())
}

impl GoTables {
    /// The tables of a file; `None` if it has no Go code, or code of a release before 1.18.
    pub fn find(elf: &Arc<ElfFile>) -> Option<GoTables> {
        let words = RelocatedWords::of(elf);
        header_places(elf).find_map(|(address, offset, limit)| {
            let header = Header::parse(elf.bytes().get(offset..limit)?)?;
            let moduledata = find_moduledata(elf, &words, address, &header)?;
            let field = |offset: u64| words.word(elf, ElfAddr(moduledata.0.wrapping_add(offset)));
            let text = ElfAddr(field(MODULEDATA_TEXT)?);
            let pclntab = GOFUNC.iter().find_map(|at| {
                let gofunc = ElfAddr(field(*at)?);
                let table = Pclntab::new(Arc::clone(elf), offset, limit, text, gofunc)?;
                table.inline_trees_fit().then_some(table)
            })?;
            Some(GoTables { pclntab, moduledata, by_name: OnceLock::new() })
        })
    }

    /// A function of the packages `runtime` and `sync` by the linker's name.
    pub fn function(&self, name: &str) -> Option<Function> {
        let by_name = self.by_name.get_or_init(|| {
            let of_runtime = |function: Function| {
                let name = self.pclntab.name(&function);
                let wanted = name.starts_with("runtime.") || name.starts_with("sync.");
                wanted.then(|| (name.into(), function))
            };
            self.pclntab.functions().filter_map(of_runtime).collect()
        });
        by_name.get(name).copied()
    }
}

/// Possible locations of a function table: address, start and limit as positions in the file.
fn header_places(elf: &ElfFile) -> impl Iterator<Item = (ElfAddr, usize, usize)> + '_ {
    let named = SECTIONS.iter().filter_map(|name| {
        let section = elf.section(name)?;
        let start = usize::try_from(section.file_offset.0).ok()?;
        Some((section.address, start, start.checked_add(usize::try_from(section.size).ok()?)?))
    });
    // In a position-independent program linked by gcc, it is inside the relocated data.
    let scanned = elf.segments().iter().filter(|segment| !segment.executable).flat_map(|segment| {
        let start = segment.file_offset.0 as usize;
        let bytes = elf.range(segment.file_offset, segment.file_size).unwrap_or_default();
        let limit = start + bytes.len();
        let words = bytes.as_chunks::<8>().0.iter().enumerate();
        words.filter(|(_, word)| is_header(u64::from_le_bytes(**word))).map(move |(index, _)| {
            (ElfAddr(segment.address.0.wrapping_add(index as u64 * 8)), start + index * 8, limit)
        })
    });
    named.chain(scanned)
}

fn find_moduledata(
    elf: &ElfFile,
    words: &RelocatedWords,
    table: ElfAddr,
    header: &Header,
) -> Option<ElfAddr> {
    let fits = |at: &ElfAddr| {
        words.word(elf, *at) == Some(table.0)
            && SLICE_WORDS.iter().zip(header.tables).all(|(word, offset)| {
                words.word(elf, ElfAddr(at.0.wrapping_add(word * 8))) == Some(table.0.wrapping_add(offset))
            })
    };
    let named = elf.section(".go.module").map(|section| section.address).filter(fits);
    named.or_else(|| words.places_of(table.0).find(fits)).or_else(|| {
        let data = elf.segments().iter().filter(|segment| segment.writable || !segment.executable);
        data.flat_map(|segment| {
            let bytes = elf.range(segment.file_offset, segment.file_size).unwrap_or_default();
            let words = bytes.as_chunks::<8>().0.iter().enumerate();
            words
                .filter(move |(_, word)| u64::from_le_bytes(**word) == table.0)
                .map(move |(index, _)| ElfAddr(segment.address.0.wrapping_add(index as u64 * 8)))
        })
        .find(fits)
    })
}
