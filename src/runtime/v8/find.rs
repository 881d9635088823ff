//! Recognizes files with V8 and reads what such a file states about the layout of its objects: the
//! `v8dbg_*` constants, which V8 exports for debuggers (`tools/gen-postmortem-metadata.py`) and
//! which survive stripping.
//!
//! Not here: a process.

use rustc_hash::FxHashMap;

use super::layouts::Layout;
use crate::{
    addr::ElfAddr,
    elf::{ElfFile, SymbolTable},
};

/// How the names of files with V8 begin.
const NAMES: [&str; 4] = ["node", "nodejs", "libnode.so", "libv8.so"];
/// The largest dynamic symbol table that is searched in a file of any name, in bytes: reading it
/// takes less than a millisecond.
const MAX_SEARCHED: usize = 1 << 20;
/// The beginning of the names of the constants.
const PREFIX: &[u8] = b"v8dbg_";
/// Fewer constants than this are not V8's.
const FEWEST: usize = 100;
/// `interpreter::Bytecodes::kBytecodeSizes`.
const BYTECODE_SIZES: &[u8] = b"_ZN2v88internal11interpreter9Bytecodes14kBytecodeSizesE";

/// What a file with V8 has.
#[derive(Clone, Debug)]
pub struct V8File {
    /// The layout of objects and frames.
    pub layout: Result<Layout, &'static str>,
    /// Major, minor and build number.
    pub version: [u32; 3],
    /// The compiled builtins, which are code without unwinding tables: start and size. `None`: the
    /// file does not name them.
    pub builtins: Option<(ElfAddr, u64)>,
}

/// The symbols of V8 in a file.
#[derive(Default)]
struct Symbols {
    constants: FxHashMap<String, ElfAddr>,
    version: [Option<ElfAddr>; 3],
    builtins: Option<ElfAddr>,
    builtins_or_pointer: Option<ElfAddr>,
    builtins_size: Option<ElfAddr>,
    bytecode_sizes: Option<(ElfAddr, u64)>,
}

/// Whether a path is one of a program that usually has V8.
pub fn is_named(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    NAMES.iter().any(|known| {
        name.strip_prefix(known).is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()))
    })
}

/// Recognizes V8 in a file; `None`: it has none. `any_size`: also searches large symbol tables of
/// files that are not named like Node.
pub fn find(elf: &ElfFile, path: &str, any_size: bool) -> Option<V8File> {
    let mut symbols = Symbols::default();
    let is_named = is_named(path);
    for table in elf.symbol_tables() {
        let is_small = table.is_dynamic() && table.size() <= MAX_SEARCHED;
        if is_named || is_small || (any_size && table.is_dynamic()) || symbols.constants.len() >= FEWEST {
            search(&table, &mut symbols);
        }
    }
    if symbols.constants.len() < FEWEST {
        return None;
    }
    Some(symbols.file(elf))
}

fn search(table: &SymbolTable<'_>, found: &mut Symbols) {
    for symbol in table.defined_symbols() {
        let name = symbol.name;
        if let Some(rest) = name.strip_prefix(PREFIX) {
            found.constants.insert(String::from_utf8_lossy(rest).into_owned(), symbol.address);
            continue;
        }
        match name {
            b"_ZN2v88internal7Version6major_E" => found.version[0] = Some(symbol.address),
            b"_ZN2v88internal7Version6minor_E" => found.version[1] = Some(symbol.address),
            b"_ZN2v88internal7Version6build_E" => found.version[2] = Some(symbol.address),
            // The first one is that of the code itself; where there is none, the second one is.
            b"v8_Default_embedded_blob_code_data_" => found.builtins = Some(symbol.address),
            b"v8_Default_embedded_blob_code_" => found.builtins_or_pointer = Some(symbol.address),
            b"v8_Default_embedded_blob_code_size_" => found.builtins_size = Some(symbol.address),
            BYTECODE_SIZES => found.bytecode_sizes = Some((symbol.address, symbol.size)),
            _ => {}
        }
    }
}

impl Symbols {
    fn file(&self, elf: &ElfFile) -> V8File {
        let number = |address: ElfAddr| {
            let bytes = elf.bytes_from(address)?.first_chunk::<4>()?;
            Some(i32::from_le_bytes(*bytes))
        };
        let constants: FxHashMap<&str, i32> = self
            .constants
            .iter()
            .filter_map(|(name, address)| Some((name.as_str(), number(*address)?)))
            .collect();
        let version = self.version.map(|at| at.and_then(number).map_or(0, i32::cast_unsigned));
        let sizes = self.bytecode_sizes.and_then(|(at, size)| {
            let size = usize::try_from(size).ok().filter(|size| (300..4096).contains(size))?;
            Some(elf.bytes_from(at)?.get(..size)?.to_vec())
        });
        let layout = Layout::of(&constants, version, elf.machine(), sizes.unwrap_or_default());
        let size = self.builtins_size.and_then(number).map(|size| u64::from(size.cast_unsigned()));
        let builtins = self.builtins.or(self.builtins_or_pointer);
        let builtins = builtins.zip(size).filter(|(_, size)| (1..1 << 28).contains(size));
        V8File { layout, version, builtins }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_programs_with_v8() {
        for (path, expected) in [
            ("/usr/bin/node", true),
            ("/usr/bin/node20", true),
            ("/usr/lib/x86_64-linux-gnu/libnode.so.115", true),
            ("/usr/bin/nodesman", false),
            ("/usr/lib/libc.so.6", false),
        ] {
            assert_eq!(is_named(path), expected, "{path}");
        }
    }

    #[test]
    fn this_program_has_no_v8() {
        let file = std::fs::File::open("/proc/self/exe").expect("this program");
        let elf = ElfFile::open(&file).expect("an ELF file");
        assert!(find(&elf, "/target/rprof", true).is_none());
    }
}
