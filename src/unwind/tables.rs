//! The unwinding tables of one ELF file: finding them, and the rule for an address.
//!
//! `.eh_frame` is searched through the linker's sorted table (`.eh_frame_hdr`: Linux Standard Base,
//! section 10.6) or, if there is none, through an index built once. `.debug_frame` is searched
//! through such an index when `.eh_frame` does not cover an address. Creating [`UnwindTables`]
//! reads almost nothing.
//!
//! Not here: applying rules.

mod index;

use std::{
    borrow::Cow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use gimli::{
    BaseAddresses, DebugFrame, DebugFrameOffset, EhFrame, EhFrameOffset, EndianSlice, LittleEndian,
    UnwindContext, UnwindSection,
};

use super::{Code, compile::compile, rule::Rule};
use crate::{
    addr::ElfAddr,
    elf::{ElfFile, SymbolKind},
};
use index::FdeIndex;

type Reader<'a> = EndianSlice<'a, LittleEndian>;

/// Largest description of one function that is read; real ones are far smaller.
const MAX_ENTRY_BYTES: usize = 64 << 10;
/// Most bytes that `.debug_frame` may decompress to.
const MAX_DEBUG_FRAME_BYTES: u64 = 256 << 20;
/// Most function addresses kept for scanning.
const MAX_FUNCTIONS: usize = 1 << 20;
/// Most outermost functions kept, which are searched one by one. Real files have a few.
const MAX_ROOTS: usize = 256;
/// Outermost functions whose start-up code has no call-frame information, or misleading one.
const ROOT_FUNCTIONS: [&[u8]; 4] = [b"_start", b"_start_c", b"__clone", b"libc_start_main_stage2"];

/// Part of the file, and the address it is loaded at.
#[derive(Clone, Copy, Debug)]
struct Placed<'a> {
    bytes: &'a [u8],
    address: u64,
}

/// The unwinding tables of one file. Cheap to create; shared between processes that map the file.
#[derive(Debug)]
pub struct UnwindTables {
    id: u32,
    elf: Arc<ElfFile>,
    debug_file: Option<Arc<ElfFile>>,
    code: Option<Arc<dyn Code>>,
    eh_frame_index: OnceLock<FdeIndex>,
    debug_frame: OnceLock<Option<DebugFrameTable>>,
    functions: OnceLock<Functions>,
}

/// `.debug_frame`, with its bytes if they had to be decompressed.
#[derive(Debug)]
struct DebugFrameTable {
    unpacked: Option<Vec<u8>>,
    index: FdeIndex,
}

#[derive(Debug, Default)]
struct Functions {
    /// Start addresses of functions, ascending, and their sizes (0: not known).
    starts: Vec<u64>,
    sizes: Vec<u32>,
    /// Ranges of [`ROOT_FUNCTIONS`].
    roots: Vec<(u64, u64)>,
}

impl UnwindTables {
    /// The tables of a file. Only section names are read here; anything slower is done when an
    /// address first needs it.
    pub fn new(elf: Arc<ElfFile>) -> UnwindTables {
        static NEXT_ID: AtomicU32 = AtomicU32::new(1);
        UnwindTables {
            // The cache has 31 bits for it; no process opens that many files.
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed) & 0x7fff_ffff,
            elf,
            debug_file: None,
            code: None,
            eh_frame_index: OnceLock::new(),
            debug_frame: OnceLock::new(),
            functions: OnceLock::new(),
        }
    }

    /// Adds the `.debug_frame` and the symbols of a separate debug file.
    pub fn with_debug_file(mut self, debug_file: Arc<ElfFile>) -> UnwindTables {
        self.debug_file = Some(debug_file);
        self
    }

    /// Adds what the file's language states about its own code.
    pub fn with_code(mut self, code: Arc<dyn Code>) -> UnwindTables {
        self.code = Some(code);
        self
    }

    /// What the file's language states about its own code.
    pub(super) fn code(&self) -> Option<&dyn Code> {
        self.code.as_deref()
    }

    /// Whether all of the file's code keeps frame pointers.
    pub(super) fn keeps_frame_pointers(&self) -> bool {
        self.code.as_ref().is_some_and(|code| code.keeps_frame_pointers())
    }

    /// The file itself.
    pub fn elf(&self) -> &ElfFile {
        &self.elf
    }

    /// The ID under which rules of this file are cached.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// The rule for an address according to call-frame information.
    pub(super) fn rule_at(&self, address: ElfAddr, context: &mut UnwindContext<usize>) -> Rule {
        match self.eh_frame_rule(address.0, context) {
            Some(rule) => rule,
            None => self.debug_frame_rule(address.0, context).unwrap_or(Rule::Missing),
        }
    }

    fn eh_frame_rule(&self, address: u64, context: &mut UnwindContext<usize>) -> Option<Rule> {
        let header = self.eh_frame_header();
        let placed = self.eh_frame(header)?;
        let (section, bases) = self.eh_frame_section(placed, header);
        let offset = match header.and_then(SearchTable::parse) {
            Some(table) => table.find(address)?.checked_sub(placed.address)?,
            None => {
                let index = self.eh_frame_index.get_or_init(|| FdeIndex::build(&section, &bases));
                return index
                    .candidates(address)
                    .find_map(|offset| rule(&section, &bases, EhFrameOffset(offset), address, context));
            }
        };
        rule(&section, &bases, EhFrameOffset(usize::try_from(offset).ok()?), address, context)
    }

    fn debug_frame_rule(&self, address: u64, context: &mut UnwindContext<usize>) -> Option<Rule> {
        let table = self.debug_frame.get_or_init(|| self.load_debug_frame()).as_ref()?;
        let bytes: Cow<'_, [u8]> = match &table.unpacked {
            Some(bytes) => Cow::Borrowed(bytes),
            None => self.debug_frame_home()?.section_data(".debug_frame")?,
        };
        let section = self.debug_frame_section(&bytes);
        let bases = BaseAddresses::default();
        table
            .index
            .candidates(address)
            .find_map(|offset| rule(&section, &bases, DebugFrameOffset(offset), address, context))
    }

    /// `.eh_frame_hdr`, found by segment or section.
    fn eh_frame_header(&self) -> Option<Placed<'_>> {
        if let Some(segment) = self.elf.eh_frame_header() {
            let bytes = self.elf.range(segment.file_offset, segment.file_size)?;
            return Some(Placed { bytes, address: segment.address.0 });
        }
        self.section(".eh_frame_hdr")
    }

    fn section(&self, name: &str) -> Option<Placed<'_>> {
        let section = self.elf.section(name)?;
        Some(Placed { bytes: self.elf.section_bytes(section)?, address: section.address.0 })
    }

    /// `.eh_frame`, found by section or, in a file without section headers, through
    /// `.eh_frame_hdr`.
    fn eh_frame(&self, header: Option<Placed<'_>>) -> Option<Placed<'_>> {
        self.section(".eh_frame").filter(|section| !section.bytes.is_empty()).or_else(|| {
            let address = eh_frame_pointer(header?)?;
            Some(Placed { bytes: self.elf.bytes_from(ElfAddr(address))?, address })
        })
    }

    fn eh_frame_section<'a>(
        &self,
        placed: Placed<'a>,
        header: Option<Placed<'_>>,
    ) -> (EhFrame<Reader<'a>>, BaseAddresses) {
        let mut section = EhFrame::new(placed.bytes, LittleEndian);
        section.set_address_size(8);
        section.set_vendor(self.vendor());
        let mut bases = BaseAddresses::default().set_eh_frame(placed.address);
        if let Some(header) = header {
            bases = bases.set_eh_frame_hdr(header.address);
        }
        if let Some(text) = self.elf.section(".text") {
            bases = bases.set_text(text.address.0);
        }
        if let Some(got) = self.elf.section(".got") {
            bases = bases.set_got(got.address.0);
        }
        (section, bases)
    }

    fn debug_frame_section<'a>(&self, bytes: &'a [u8]) -> DebugFrame<Reader<'a>> {
        let mut section = DebugFrame::from(Reader::new(bytes, LittleEndian));
        section.set_address_size(8);
        section.set_vendor(self.vendor());
        section
    }

    fn vendor(&self) -> gimli::Vendor {
        if self.elf.machine() == crate::arch::aarch64::ELF_MACHINE {
            gimli::Vendor::AArch64
        } else {
            gimli::Vendor::Default
        }
    }

    /// The file that holds `.debug_frame`.
    fn debug_frame_home(&self) -> Option<&ElfFile> {
        [Some(&self.elf), self.debug_file.as_ref()].into_iter().flatten().map(Arc::as_ref).find(|elf| {
            [".debug_frame", ".zdebug_frame"]
                .iter()
                .any(|name| elf.section(name).is_some_and(|section| elf.section_bytes(section).is_some()))
        })
    }

    fn load_debug_frame(&self) -> Option<DebugFrameTable> {
        let bytes = self.debug_frame_home()?.section_data_up_to(".debug_frame", MAX_DEBUG_FRAME_BYTES)?;
        let index = FdeIndex::build(&self.debug_frame_section(&bytes), &BaseAddresses::default());
        let unpacked = match bytes {
            Cow::Owned(bytes) => Some(bytes),
            Cow::Borrowed(_) => None,
        };
        Some(DebugFrameTable { unpacked, index })
    }

    /// Start and size in bytes of the function that contains `address` according to `.eh_frame`,
    /// which describes functions that no symbol names too.
    pub fn described_function(&self, address: ElfAddr) -> Option<(ElfAddr, u64)> {
        let header = self.eh_frame_header();
        let placed = self.eh_frame(header)?;
        let (section, bases) = self.eh_frame_section(placed, header);
        let range = |offset| {
            let partial = section.partial_fde_from_offset(&bases, EhFrameOffset(offset)).ok()?;
            let fde = partial.parse(EhFrame::cie_from_offset).ok().filter(|fde| fde.contains(address.0))?;
            Some((ElfAddr(fde.initial_address()), fde.len()))
        };
        match header.and_then(SearchTable::parse) {
            Some(table) => range(usize::try_from(table.find(address.0)?.checked_sub(placed.address)?).ok()?),
            None => {
                let index = self.eh_frame_index.get_or_init(|| FdeIndex::build(&section, &bases));
                index.candidates(address.0).find_map(range)
            }
        }
    }

    /// The end of the last function before `address` that `.eh_frame` describes.
    pub(super) fn described_before(&self, address: ElfAddr) -> Option<ElfAddr> {
        let header = self.eh_frame_header();
        let placed = self.eh_frame(header)?;
        let (section, bases) = self.eh_frame_section(placed, header);
        let offset = header.and_then(SearchTable::parse)?.find(address.0)?.checked_sub(placed.address)?;
        let partial = section.partial_fde_from_offset(&bases, EhFrameOffset(usize::try_from(offset).ok()?));
        let fde = partial.ok()?.parse(EhFrame::cie_from_offset).ok()?;
        Some(ElfAddr(fde.initial_address().checked_add(fde.len())?)).filter(|end| *end <= address)
    }

    /// Start of the function that contains `address`, if the symbol tables name one there.
    pub(super) fn function_start(&self, address: ElfAddr) -> Option<ElfAddr> {
        let functions = self.functions();
        let index = functions.starts.partition_point(|start| *start <= address.0).checked_sub(1)?;
        let (start, size) = (*functions.starts.get(index)?, *functions.sizes.get(index)?);
        (size == 0 || address.0 - start < u64::from(size)).then_some(ElfAddr(start))
    }

    /// Whether `address` is in an outermost function, which nothing calls: by name, or as the
    /// file's entry.
    pub(super) fn is_root_function(&self, address: ElfAddr) -> bool {
        let entry = self.elf.entry().0;
        let at_entry = entry != 0 && (entry..entry.saturating_add(64)).contains(&address.0);
        (at_entry && self.code.is_none()) || within(&self.functions().roots, address)
    }

    fn functions(&self) -> &Functions {
        self.functions.get_or_init(|| {
            let files = [Some(&self.elf), self.debug_file.as_ref()];
            let mut functions = Functions::default();
            let mut found = Vec::new();
            let mut add = |name: &[u8], start: u64, size: u64, is_function: bool| {
                if ROOT_FUNCTIONS.contains(&name) && functions.roots.len() < MAX_ROOTS {
                    functions.roots.push((start, start.saturating_add(size.clamp(16, 4096))));
                }
                if is_function {
                    found.push((start, u32::try_from(size).unwrap_or(u32::MAX)));
                }
            };
            let symbols = files.into_iter().flatten().flat_map(|elf| elf.symbols());
            for symbol in symbols.take(MAX_FUNCTIONS) {
                let is_function = symbol.kind == SymbolKind::Function;
                add(symbol.name, symbol.address.0, symbol.size, is_function);
            }
            if let Some(code) = &self.code {
                code.functions(&mut |name, start, size| add(name, start, size, !name.is_empty()));
            }
            // Of several names for one start, the largest size is used.
            found.sort_unstable_by_key(|(start, size)| (*start, std::cmp::Reverse(*size)));
            found.dedup_by_key(|(start, _)| *start);
            (functions.starts, functions.sizes) = found.into_iter().unzip();
            functions
        })
    }
}

fn within(ranges: &[(u64, u64)], address: ElfAddr) -> bool {
    ranges.iter().any(|(start, end)| (*start..*end).contains(&address.0))
}

/// The rule of the entry at `offset`, if it covers `address`; [`Rule::Unusable`] if the entry
/// covers it but is damaged.
fn rule<'a, S: UnwindSection<Reader<'a>>>(
    section: &S,
    bases: &BaseAddresses,
    offset: S::Offset,
    address: u64,
    context: &mut UnwindContext<usize>,
) -> Option<Rule> {
    let partial = section.partial_fde_from_offset(bases, offset).ok()?;
    if partial.entry_len() > MAX_ENTRY_BYTES {
        return None;
    }
    let fde = partial.parse(S::cie_from_offset).ok()?;
    if !fde.contains(address) || fde.cie().entry_len() > MAX_ENTRY_BYTES {
        return None;
    }
    Some(match fde.unwind_info_for_address(section, bases, context, address) {
        Ok(row) => compile(section, &fde, row),
        Err(_) => Rule::Unusable,
    })
}

/// The address of `.eh_frame` according to the header, as a signed 32-bit distance from the field.
/// Linkers write no other form.
fn eh_frame_pointer(header: Placed<'_>) -> Option<u64> {
    match header.bytes {
        [1, 0x1b, _, _, a, b, c, d, ..] => {
            let distance = i32::from_le_bytes([*a, *b, *c, *d]);
            Some(header.address.wrapping_add(4).wrapping_add_signed(i64::from(distance)))
        }
        _ => None,
    }
}

/// The linker's sorted table: pairs of signed 32-bit distances from the header, to a function's
/// start and to its description.
#[derive(Clone, Copy)]
struct SearchTable<'a> {
    pairs: &'a [[u8; 8]],
    address: u64,
}

impl<'a> SearchTable<'a> {
    /// `None` if there is no table, or it is in a form that no linker writes.
    fn parse(header: Placed<'a>) -> Option<SearchTable<'a>> {
        let [1, 0x1b, 0x03, 0x3b, _, _, _, _, a, b, c, d, rest @ ..] = header.bytes else { return None };
        let count = usize::try_from(u32::from_le_bytes([*a, *b, *c, *d])).ok()?;
        let pairs = rest.as_chunks::<8>().0.get(..count).filter(|pairs| !pairs.is_empty())?;
        Some(SearchTable { pairs, address: header.address })
    }

    /// Address of the description of the last function that starts at or before `address`.
    fn find(&self, address: u64) -> Option<u64> {
        let word = |pair: &[u8; 8], at: usize| {
            let distance = i32::from_le_bytes([pair[at], pair[at + 1], pair[at + 2], pair[at + 3]]);
            self.address.wrapping_add_signed(i64::from(distance))
        };
        let after = self.pairs.partition_point(|pair| word(pair, 0) <= address);
        Some(word(self.pairs.get(after.checked_sub(1)?)?, 4))
    }
}
