//! Names for addresses: function, inline chain, file and line, asked once per different address when
//! sampling is over.
//!
//! [`symbolize_module`] names the addresses of one ELF file (vdso included), from DWARF and symbol
//! tables, wherever its debug information lies. [`KernelSymbols`] names kernel addresses and
//! [`PerfMap`] those of JIT-compiled code.
//!
//! Not here: which module an address belongs to, profiles, deciding what is worth asking a
//! debuginfod server (nothing is, unless [`SymbolizeOptions::debuginfod`] says so).

mod debug_files;
mod debuginfod;
mod demangle;
mod dwarf;
mod kernel;
mod mini_debug_info;
mod module;
mod perf_map;
mod stored;
mod symbol_table;
#[cfg(test)]
mod tests;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

pub use debug_files::hex;
pub use debuginfod::Debuginfod;
pub use demangle::demangle;
pub use kernel::{KernelName, KernelSymbols, KernelSymbolsError};
pub use module::symbolize_module;
pub use perf_map::{PerfMap, PerfMapError};
pub use stored::{StoredMapping, elf_address, find_stored};

use crate::elf::ElfFile;

/// One function at an address: the function itself, or one that was inlined into it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceFrame {
    /// The name to show: demangled, without return type and parameters.
    pub function: String,
    /// The linkage name as the compiler wrote it; equal to `function` where nothing was mangled.
    pub system_name: String,
    /// Source path, the compilation directory joined in front of relative ones.
    pub file: Option<String>,
    /// 0 if unknown.
    pub line: u32,
    /// 0 if unknown; 1 is the leftmost.
    pub column: u32,
    /// The line of the function's declaration (`DW_AT_decl_line`); 0 if unknown.
    pub start_line: u32,
    /// This function's body stands in the next frame's machine code.
    pub inlined: bool,
}

/// Where a name was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameSource {
    /// Debug information, with files and lines.
    Dwarf,
    /// `.symtab`, of the file or of its debug file.
    SymbolTable,
    /// `.dynsym`: exported functions only.
    DynamicSymbols,
    /// `.gnu_debugdata`: an xz-compressed symbol table inside the file.
    MiniDebugInfo,
}

/// What is known of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbolized {
    /// Innermost inlined function first, the function that owns the machine code last. Empty if the
    /// address could not be named.
    pub frames: Vec<SourceFrame>,
    /// `None` exactly if `frames` is empty.
    pub source: Option<NameSource>,
}

/// One ELF file of the target, and from where its debug files are searched.
#[derive(Clone, Debug)]
pub struct ModuleFiles {
    /// The file itself, opened when it was met: its path may be deleted or replaced by now.
    pub file: Arc<ElfFile>,
    /// Its path as the target sees it: debug files may lie next to it. `None` for the vdso and
    /// other images that were read from memory.
    pub path: Option<PathBuf>,
    /// The root of the target's file system (`/proc/PID/root`), searched before our own. Best
    /// effort: it is gone when the target has exited.
    pub root: Option<PathBuf>,
}

/// What may be used to find names.
#[derive(Clone, Debug)]
pub struct SymbolizeOptions {
    /// Read DWARF: inlined functions, files and lines. Without it only symbol tables are read.
    pub dwarf: bool,
    /// More directories that are built like `/usr/lib/debug`, or that hold `*.debug` files.
    pub debug_dirs: Vec<PathBuf>,
    /// Servers to ask for debug information that is not on this machine; `None`: no network.
    pub debuginfod: Option<Debuginfod>,
    /// The longest one module may take; what was found until then is returned, with an issue.
    pub time_limit: Duration,
}

impl Default for SymbolizeOptions {
    fn default() -> Self {
        SymbolizeOptions {
            dwarf: true,
            debug_dirs: Vec::new(),
            debuginfod: None,
            time_limit: Duration::from_secs(30),
        }
    }
}

/// The names of one module's addresses.
#[derive(Debug, Default)]
pub struct ModuleSymbols {
    /// One for each address asked, in the order asked.
    pub addresses: Vec<Symbolized>,
    /// Files and lines come from this file, if not from the module itself.
    pub debug_file: Option<PathBuf>,
    /// There was DWARF: pprof's `has_filenames`, `has_line_numbers` and `has_inline_frames`.
    pub has_dwarf: bool,
    /// There was a symbol table or DWARF: pprof's `has_functions`.
    pub has_functions: bool,
    /// What the answer lacks, and why.
    pub issues: Vec<SymbolIssue>,
}

/// Why names, files or lines are missing or poorer than they could be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SymbolIssue {
    /// Nothing names these addresses.
    #[error("{0} addresses have no name: no symbol covers them")]
    Unnamed(usize),
    /// The file is stripped and its debug file (by build-id or debug link) is nowhere.
    #[error("debug file not found: {0}")]
    DebugFileMissing(String),
    /// A debug file is there but is of another build.
    #[error("{path} is not used: {reason}")]
    DebugFileMismatch { path: PathBuf, reason: &'static str },
    /// dwz moved names to a supplementary file that is not there.
    #[error("supplementary debug file not found: {0}")]
    SupplementaryMissing(String),
    /// Split DWARF (`-gsplit-dwarf`) without its `.dwo` or `.dwp` file.
    #[error("{count} split debug files not found, e.g. {example}")]
    SplitDwarfMissing { count: usize, example: String },
    /// The debug information contradicts itself.
    #[error("damaged debug information: {0}")]
    Damaged(String),
    /// A parser failed in an unforeseen way; the file's debug information was left aside.
    #[error("reading the debug information failed: {0}")]
    ParserFailed(String),
    /// A server could not be asked or answered with an error (not: it does not know the file).
    #[error("debuginfod: {0}")]
    Debuginfod(String),
    /// [`SymbolizeOptions::time_limit`] was reached.
    #[error("naming was given up after {} s", .0.as_secs())]
    TimeLimit(Duration),
}

/// When to give up. Asking the clock costs, so it is asked once in many steps.
#[derive(Debug)]
struct Deadline {
    end: Instant,
    steps: std::cell::Cell<u32>,
    passed: std::cell::Cell<bool>,
}

impl Deadline {
    fn after(limit: Duration) -> Deadline {
        let now = Instant::now();
        // A limit beyond the clock's range is no limit anybody could wait for: a day.
        let end = now.checked_add(limit).unwrap_or(now + Duration::from_secs(86_400));
        Deadline { end, steps: 0.into(), passed: false.into() }
    }

    /// Counts one step of work; true once time is up.
    fn passed(&self) -> bool {
        const STEPS_PER_LOOK: u32 = 1024;
        let steps = self.steps.get().wrapping_add(1);
        self.steps.set(steps);
        if steps.is_multiple_of(STEPS_PER_LOOK) && !self.passed.get() {
            self.passed.set(Instant::now() >= self.end);
        }
        self.passed.get()
    }
}
