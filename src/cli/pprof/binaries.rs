//! Opens programs and libraries for reports that need symbols, assembly or source lines.

use std::{
    cell::OnceCell,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{names, object, words::system_words};
use crate::{
    addr::ElfAddr,
    disassemble::{Disassembler, Syntax},
    elf::ElfFile,
    process::files::open_plain,
    report::pprof::objects::{
        Object, ObjectFrame, ObjectInstruction, ObjectMapping, ObjectSymbol, ObjectTool,
    },
    symbolize::{
        ModuleFiles, NameSource, StoredMapping, SymbolizeOptions, Symbolized, elf_address, hex,
        symbolize_module,
    },
};

/// Opens any file of this machine.
pub(super) struct LocalFiles;

impl ObjectTool for LocalFiles {
    fn open(&self, mapping: &ObjectMapping<'_>) -> Result<Box<dyn Object>, String> {
        Ok(Box::new(Binary::open(mapping)?))
    }
}

/// Opens only files that have the build ID of the profile's mapping. A process chooses the paths in
/// its profile, so a server that shows the profile to others must not open a file by its path
/// alone.
pub(super) struct SameFiles;

impl ObjectTool for SameFiles {
    fn open(&self, mapping: &ObjectMapping<'_>) -> Result<Box<dyn Object>, String> {
        let path = mapping.file;
        let failed = |why: &str| format!("open {path}: {why}");
        if mapping.build_id.is_empty() {
            return Err(failed("the profile has no build ID to identify the file"));
        }
        let file = open_plain(Path::new(path)).map_err(|error| failed(&system_words(&error)))?;
        let elf = ElfFile::open(&file).map_err(|_| failed("it is not the file that was profiled"))?;
        let binary = Binary::of(elf, mapping);
        if binary.elf.build_id().is_none() || !binary.has_build_id(mapping.build_id) {
            return Err(failed("it is not the file that was profiled: its build ID differs"));
        }
        Ok(Box::new(binary))
    }
}

/// The build ID of a file in hexadecimal; empty if it has none.
pub(super) fn build_id_of(path: &str) -> String {
    let elf = open_plain(Path::new(path)).ok().and_then(|file| ElfFile::open(&file).ok());
    elf.as_ref().and_then(ElfFile::build_id).map_or(String::new(), hex)
}

/// An ELF file and its place in memory.
pub(super) struct Binary {
    elf: Arc<ElfFile>,
    path: PathBuf,
    start: u64,
    limit: u64,
    offset: u64,
    code: OnceCell<Result<Disassembler, String>>,
}

impl Binary {
    /// Opens the file of a mapping. Error messages are those of `go tool pprof`.
    pub fn open(mapping: &ObjectMapping<'_>) -> Result<Binary, String> {
        let path = mapping.file;
        let unrecognized = || format!("open {path}: unrecognized object file");
        let file = open_plain(Path::new(path)).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => unrecognized(),
            _ => format!("open {path}: {}", system_words(&error)),
        })?;
        if !object::opens(path) {
            return Err(unrecognized());
        }
        let elf = ElfFile::open(&file).map_err(|error| format!("open {path}: {error}"))?;
        Ok(Binary::of(elf, mapping))
    }

    fn of(elf: ElfFile, mapping: &ObjectMapping<'_>) -> Binary {
        Binary {
            elf: Arc::new(elf),
            path: mapping.file.into(),
            start: mapping.start,
            limit: mapping.limit,
            offset: mapping.offset,
            code: OnceCell::new(),
        }
    }

    /// The names of addresses (as in the file, see [`Object::address`]).
    pub fn symbolize(&self, addresses: &[u64], dwarf: bool) -> Vec<Symbolized> {
        let module = ModuleFiles { file: self.elf.clone(), path: Some(self.path.clone()), root: None };
        let addresses: Vec<ElfAddr> = addresses.iter().map(|address| ElfAddr(*address)).collect();
        let options = SymbolizeOptions { dwarf, ..SymbolizeOptions::default() };
        symbolize_module(&module, &addresses, &options).addresses
    }

    /// Whether the file has this build ID; also true if either has none.
    pub fn has_build_id(&self, wanted: &str) -> bool {
        wanted.is_empty() || self.elf.build_id().is_none_or(|id| hex(id) == wanted)
    }

    fn disassembler(&self) -> Result<&Disassembler, String> {
        let code =
            self.code.get_or_init(|| Disassembler::new(self.elf.clone()).map_err(|error| error.to_string()));
        code.as_ref().map_err(Clone::clone)
    }

    /// The page-aligned start of the first executable segment.
    fn load_address(&self) -> u64 {
        const PAGE: u64 = 0x1000;
        let code = self.elf.segments().iter().find(|segment| segment.executable);
        code.map_or(0, |segment| segment.address.0 & !(PAGE - 1))
    }
}

impl Object for Binary {
    fn address(&self, runtime: u64) -> u64 {
        if self.start == 0 {
            return runtime;
        }
        let mapping = StoredMapping {
            path: Path::new(""),
            build_id: &[],
            start: self.start,
            limit: self.limit,
            file_offset: self.offset,
        };
        let found = elf_address(&self.elf, &mapping, runtime).map(|address| address.0);
        found.unwrap_or_else(|| runtime.wrapping_sub(self.start.wrapping_sub(self.load_address())))
    }

    fn symbols(&self) -> Result<Vec<ObjectSymbol>, String> {
        let symbols = self.disassembler()?.symbols().iter().map(|symbol| ObjectSymbol {
            name: symbol.name.clone(),
            start: symbol.start.0,
            last: symbol.start.0.wrapping_add(symbol.size).wrapping_sub(1),
        });
        Ok(symbols.collect())
    }

    fn demangled(&self, name: &str) -> Vec<String> {
        names::spellings(name)
    }

    fn code(&self, start: u64, end: u64, intel: bool) -> Result<Vec<ObjectInstruction>, String> {
        let syntax = if intel { Syntax::Intel } else { Syntax::Go };
        let lines = self.disassembler()?.code(ElfAddr(start), ElfAddr(end), syntax);
        let code =
            lines.into_iter().map(|line| ObjectInstruction { address: line.address.0, text: line.text });
        Ok(code.collect())
    }

    fn shows_lines(&self) -> bool {
        [".gopclntab", ".data.rel.ro.gopclntab"].iter().any(|name| self.elf.section(name).is_some())
    }

    /// As in `go tool pprof`: the name of the outermost function, the file and line of the
    /// innermost one.
    fn frames(&self, addresses: &[u64]) -> Vec<Option<ObjectFrame>> {
        let symbolized = self.symbolize(addresses, true);
        let frames = symbolized.into_iter().map(|symbolized| {
            // `go tool pprof` has names only together with lines.
            let frames = symbolized.frames;
            let (inner, owner) = frames.first().zip(frames.last())?;
            let file = inner.file.clone().unwrap_or_default();
            (symbolized.source == Some(NameSource::Dwarf)).then(|| ObjectFrame {
                function: owner.system_name.clone(),
                file,
                line: inner.line.into(),
            })
        });
        frames.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_that_was_profiled_is_opened() {
        let own = std::env::current_exe().expect("a program");
        let own = own.to_str().expect("a path");
        let id = build_id_of(own);
        assert!(!id.is_empty(), "current linkers write a build ID");
        let opened = |file: &str, build_id: &str| {
            let mapping = ObjectMapping { file, build_id, start: 0, limit: 0, offset: 0 };
            SameFiles.open(&mapping).map(drop)
        };
        assert_eq!(opened(own, &id), Ok(()));
        let folder = tempfile::tempdir().expect("a folder");
        let (text, pipe) = (folder.path().join("text"), folder.path().join("pipe"));
        std::fs::write(&text, "no program").expect("own folder");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).expect("own folder");
        let paths = [&text, &pipe].map(|path| path.display().to_string());
        for (file, build_id, words) in [
            (own, "", "no build ID"),
            (own, "00112233", "not the file"),
            (&*paths[0], &*id, "not the file"),
            (&*paths[1], &*id, "not a regular file"),
            ("/nowhere/at/all", &*id, "no such file"),
        ] {
            let why = opened(file, build_id).expect_err(file);
            assert!(why.contains(words), "{file}: {why}");
        }
    }
}
