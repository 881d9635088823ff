//! Names the addresses of one ELF file: from DWARF first, then from symbol tables.
//!
//! Not here: how DWARF and symbol tables are read.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Deadline, ModuleFiles, ModuleSymbols, NameSource, STUB_SUFFIX, SourceFrame, SymbolIssue,
    SymbolizeOptions, Symbolized,
    debug_files::{DebugFile, Finder, hex},
    demangle,
    dwarf::{self, DwarfFrame, DwarfFrames, DwarfInput, SplitFiles},
    mini_debug_info,
    symbol_table::SymbolSearch,
};
use crate::{addr::ElfAddr, budget::Budget, elf::ElfFile};

/// Above this size, a file's pages are released after its symbol table was read.
const LARGE_FILE_BYTES: usize = 24 << 20;

/// Names `addresses` of one file. They are lookup addresses (return addresses minus one, see
/// [`crate::addr::FrameAddr::lookup`]) in any order. Naming all of them in one call is much cheaper
/// than one by one.
pub fn symbolize_module(
    module: &ModuleFiles,
    addresses: &[ElfAddr],
    options: &SymbolizeOptions,
) -> ModuleSymbols {
    let mut sorted: Vec<u64> = addresses.iter().map(|address| address.0).collect();
    sorted.sort_unstable();
    sorted.dedup();
    let mut naming = Naming {
        module,
        options,
        finder: Finder::new(module, options),
        sorted,
        deadline: Deadline::after(options.time_limit, module.file.budget().clone(), options.budget.clone()),
        symbols: ModuleSymbols::default(),
        debug: None,
    };
    let named = naming.run();
    let symbols = &mut naming.symbols;
    symbols.addresses = addresses
        .iter()
        .map(|address| {
            naming
                .sorted
                .binary_search(&address.0)
                .map_or_else(|_| Symbolized::default(), |at| named[at].clone())
        })
        .collect();
    naming.symbols
}

struct Naming<'n> {
    module: &'n ModuleFiles,
    options: &'n SymbolizeOptions,
    finder: Finder<'n>,
    /// The distinct addresses, ascending.
    sorted: Vec<u64>,
    deadline: Deadline,
    symbols: ModuleSymbols,
    /// A separate debug file.
    debug: Option<Arc<ElfFile>>,
}

impl Naming<'_> {
    fn run(&mut self) -> Vec<Symbolized> {
        let debug = self.debug_file();
        let lines = match &debug {
            Some(file) if self.options.dwarf && dwarf::has_dwarf(&file.elf) => self.dwarf(file),
            _ => vec![Vec::new(); self.sorted.len()],
        };
        let separate = debug.filter(|debug| !Arc::ptr_eq(&debug.elf, &self.module.file));
        self.debug = separate.as_ref().map(|debug| Arc::clone(&debug.elf));
        let names = self.symbol_tables(separate.as_ref().map(|debug| &*debug.elf));
        let named: Vec<Symbolized> =
            lines.into_iter().zip(names).map(|(frames, symbol)| merge(frames, symbol)).collect();
        self.symbols.debug_file = separate.map(|debug| debug.path);
        self.tell_missing(&named);
        named
    }

    /// The file that has the debug information: the module itself, or its debug file. Without DWARF
    /// it may still have the symbol table that was stripped from the module.
    fn debug_file(&mut self) -> Option<DebugFile> {
        let own_path = || self.module.path.clone().unwrap_or_else(|| PathBuf::from("/"));
        if dwarf::has_dwarf(&self.module.file) {
            return Some(DebugFile { elf: self.module.file.clone(), path: own_path() });
        }
        self.finder.debug_file(&mut self.symbols.issues).or_else(|| self.ask_server())
    }

    fn ask_server(&mut self) -> Option<DebugFile> {
        let client = self.options.debuginfod.as_ref()?;
        let id = self.module.file.build_id()?;
        let fetched = client.debug_file_unless(id, || self.options.budget.is_stopped()).and_then(|file| {
            let opened = file.map(|file| ElfFile::open_within(&file, &self.options.budget)).transpose();
            opened.map_err(|error| format!("build-id {}: {error}", hex(id)))
        });
        match fetched {
            Ok(Some(elf)) if elf.build_id() == Some(id) => {
                let path = client.cache.join(hex(id)).join("debuginfo");
                Some(DebugFile { elf: Arc::new(elf), path })
            }
            Ok(Some(_)) => {
                let reason = format!("build ID {}: the server's file is of another build", hex(id));
                self.symbols.issues.push(SymbolIssue::Debuginfod(reason));
                None
            }
            Ok(None) => None,
            Err(reason) => {
                self.symbols.issues.push(SymbolIssue::Debuginfod(reason));
                None
            }
        }
    }

    fn dwarf(&mut self, debug: &DebugFile) -> Vec<Vec<DwarfFrame>> {
        self.symbols.has_dwarf = true;
        self.symbols.has_functions = true;
        let supplementary = self.finder.supplementary(debug, &mut self.symbols.issues);
        let split_files = SplitSearch { finder: &self.finder, debug_path: &debug.path };
        let input = DwarfInput {
            elf: &debug.elf,
            supplementary: supplementary.as_ref().map(|file| &*file.elf),
            split_files: &split_files,
        };
        // The bytes come from the target and the parsers from libraries: if one panics, this file
        // gets no lines and the profile is still written.
        let named = catch_unwind(AssertUnwindSafe(|| dwarf::symbolize(&input, &self.sorted, &self.deadline)));
        let DwarfFrames { frames, issues } = named.unwrap_or_else(|panic| DwarfFrames {
            frames: vec![Vec::new(); self.sorted.len()],
            issues: vec![SymbolIssue::ParserFailed(panic_text(&*panic))],
        });
        self.symbols.issues.extend(issues);
        frames
    }

    fn symbol_tables(&mut self, debug: Option<&ElfFile>) -> Vec<Option<(Vec<u8>, NameSource)>> {
        let module = &*self.module.file;
        let inner;
        let mut search = SymbolSearch::new(self.sorted.clone(), &self.deadline);
        // An exported function is in both tables; the more complete table is searched first.
        let own = module.symbol_tables().filter(|table| !table.is_dynamic());
        let separate = debug.into_iter().flat_map(|debug| debug.symbol_tables()).filter(|t| !t.is_dynamic());
        for table in own.chain(separate) {
            self.symbols.has_functions = true;
            search.add(&table, NameSource::SymbolTable);
        }
        if !search.is_complete() {
            for table in module.symbol_tables().filter(|table| table.is_dynamic()) {
                self.symbols.has_functions = true;
                search.add(&table, NameSource::DynamicSymbols);
            }
        }
        if !search.is_complete() {
            match catch_unwind(AssertUnwindSafe(|| mini_debug_info::inner_file(module))) {
                Ok(Ok(Some(found))) => {
                    self.symbols.has_functions = true;
                    inner = found;
                    inner.0.symbol_tables().for_each(|table| search.add(&table, NameSource::MiniDebugInfo));
                }
                Ok(Ok(None)) => {}
                Ok(Err(reason)) => self.symbols.issues.push(SymbolIssue::Damaged(reason.to_owned())),
                Err(panic) => self.symbols.issues.push(SymbolIssue::ParserFailed(panic_text(&*panic))),
            }
        }
        for file in [Some(module), debug].into_iter().flatten() {
            if file.bytes().len() > LARGE_FILE_BYTES {
                file.release_pages();
            }
        }
        let names = search.finish().into_iter();
        let names: Vec<_> =
            names.map(|found| found.map(|(name, source)| (self.kept_name(name), source))).collect();
        self.with_stubs(names)
    }

    /// The names, and for the stubs of the linkage table `name@plt`.
    fn with_stubs(
        &self,
        mut names: Vec<Option<(Vec<u8>, NameSource)>>,
    ) -> Vec<Option<(Vec<u8>, NameSource)>> {
        if names.iter().all(Option::is_some) {
            return names;
        }
        let stubs = self.module.file.linkage_stubs();
        for (slot, address) in names.iter_mut().zip(&self.sorted).filter(|(slot, _)| slot.is_none()) {
            let after = stubs.partition_point(|stub| stub.start.0 <= *address);
            let stub = after.checked_sub(1).map(|at| stubs[at]).filter(|stub| *address < stub.end.0);
            if let Some(stub) = stub {
                let name = [&self.kept_name(stub.name)[..], STUB_SUFFIX.as_bytes()].concat();
                *slot = Some((name, NameSource::DynamicSymbols));
            }
        }
        names
    }

    /// A copy of a symbol's name, shortened once the file's budget is exhausted.
    fn kept_name(&self, name: &[u8]) -> Vec<u8> {
        /// Shorter names are always kept.
        const SHORT_NAME_BYTES: usize = 128;
        if name.len() <= SHORT_NAME_BYTES || self.deadline.may_keep(name.len()) {
            return name.to_vec();
        }
        [&name[..SHORT_NAME_BYTES], b"..."].concat()
    }

    fn tell_missing(&mut self, named: &[Symbolized]) {
        let unnamed = named.iter().filter(|symbolized| symbolized.frames.is_empty()).count();
        if unnamed > 0 {
            self.symbols.issues.push(SymbolIssue::Unnamed(unnamed));
        }
        if unnamed > 0 && self.symbols.debug_file.is_none() && !self.symbols.has_dwarf {
            let link = self.module.file.debug_link().map(|(name, _)| name);
            let id = self.module.file.build_id().map(|id| format!("build-id {}", hex(id)));
            if let Some(wanted) = id.or(link) {
                self.symbols.issues.push(SymbolIssue::DebugFileMissing(wanted));
            }
        }
        let files = [Some(&self.module.file), self.debug.as_ref()].into_iter().flatten();
        let refused = files.map(|file| file.budget()).chain([&self.options.budget]);
        let refused = refused.filter_map(Budget::refusal).next();
        match refused {
            Some(why) => self.symbols.issues.push(SymbolIssue::Limit(why)),
            None if self.deadline.passed() => {
                self.symbols.issues.push(SymbolIssue::TimeLimit(self.options.time_limit));
            }
            None => {}
        }
    }
}

struct SplitSearch<'s> {
    finder: &'s Finder<'s>,
    debug_path: &'s Path,
}

impl SplitFiles for SplitSearch<'_> {
    fn object(&self, compilation_dir: &Path, name: &Path) -> Option<Arc<ElfFile>> {
        self.finder.split_file(compilation_dir, name)
    }

    fn package(&self) -> Option<Arc<ElfFile>> {
        self.finder.split_package(Some(self.debug_path))
    }
}

/// DWARF's frames; the outermost is named by the symbol if DWARF does not name it.
fn merge(frames: Vec<DwarfFrame>, symbol: Option<(Vec<u8>, NameSource)>) -> Symbolized {
    let symbol = symbol.map(|(name, source)| (String::from_utf8_lossy(&name).into_owned(), source));
    let last = frames.len().saturating_sub(1);
    if frames.is_empty() {
        let Some((name, source)) = symbol else { return Symbolized::default() };
        return Symbolized { frames: vec![plain_frame(name)], source: Some(source) };
    }
    let mut named: Vec<SourceFrame> = Vec::new();
    for (at, frame) in frames.into_iter().enumerate() {
        let symbol = symbol.as_ref().filter(|_| at == last).map(|(name, _)| name.as_str());
        named.extend(source_frame(frame, symbol, at < last));
    }
    let source = (!named.is_empty()).then_some(NameSource::Dwarf);
    Symbolized { frames: named, source }
}

/// `None` if neither DWARF nor a symbol names the function.
fn source_frame(frame: DwarfFrame, symbol: Option<&str>, inlined: bool) -> Option<SourceFrame> {
    let DwarfFrame { description, file, line, column } = frame;
    // C++ functions that are not visible to other files have no linkage name in GCC's DWARF.
    let mangled_symbol = symbol.filter(|symbol| is_mangled(symbol)).map(str::to_owned);
    let system_name = (description.linkage_name.or(mangled_symbol))
        .or_else(|| description.name.clone())
        .or_else(|| symbol.map(str::to_owned))?;
    let function = if is_mangled(&system_name) {
        demangle(&system_name)
    } else {
        description.name.unwrap_or_else(|| demangle(&system_name))
    };
    let start_line = description.start_line;
    Some(SourceFrame { function, system_name, file, line, column, start_line, inlined })
}

fn plain_frame(system_name: String) -> SourceFrame {
    SourceFrame {
        function: demangle(&system_name),
        system_name,
        file: None,
        line: 0,
        column: 0,
        start_line: 0,
        inlined: false,
    }
}

fn is_mangled(name: &str) -> bool {
    name.starts_with("_Z") || name.starts_with("_R")
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no reason stated")
        .to_owned()
}
