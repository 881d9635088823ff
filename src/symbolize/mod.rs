//! Names for addresses: function, inline chain, file and line. Each distinct address is named once,
//! after sampling.
//!
//! [`symbolize_module`] names the addresses of one ELF file (or of the vDSO) from DWARF and symbol
//! tables, wherever its debug information is. [`KernelSymbols`] names kernel addresses.
//!
//! Not here: finding the module of an address, profiles, deciding when to use a debuginfod server
//! (never, unless [`SymbolizeOptions::debuginfod`] is set).

mod debug_files;
mod debuginfod;
mod demangle;
mod dwarf;
mod kernel;
mod mini_debug_info;
mod module;
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
pub use demangle::{STUB_SUFFIX, demangle};
pub use dwarf::symbolize_any_pair;
pub use kernel::{KernelName, KernelSymbols, KernelSymbolsError};
pub use module::symbolize_module;
pub use stored::{StoredMapping, elf_address, find_stored};

use crate::{
    budget::{Budget, Exhausted, Resource},
    elf::ElfFile,
};

/// One function at an address: the function itself, or one inlined into it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SourceFrame {
    /// The name to show: demangled, without return type and parameters.
    pub function: String,
    /// The linkage name as written by the compiler; equal to `function` if it is not mangled.
    pub system_name: String,
    /// Source path; relative paths are joined to the compilation directory.
    pub file: Option<String>,
    /// 0 if unknown.
    pub line: u32,
    /// 0 if unknown; 1 is the leftmost.
    pub column: u32,
    /// The line of the function's declaration (`DW_AT_decl_line`); 0 if unknown.
    pub start_line: u32,
    /// This function is inlined: its machine code is part of the next frame's function.
    pub inlined: bool,
}

/// The kind of source a name came from.
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

/// The names of one address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Symbolized {
    /// Innermost inlined function first, the function that owns the machine code last. Empty if the
    /// address could not be named.
    pub frames: Vec<SourceFrame>,
    /// `None` if and only if `frames` is empty.
    pub source: Option<NameSource>,
}

/// One ELF file of the target, and where its debug files are searched.
#[derive(Clone, Debug)]
pub struct ModuleFiles {
    /// The file itself, opened when its mapping was found: its path may since have been deleted or
    /// replaced.
    pub file: Arc<ElfFile>,
    /// Its path as the target sees it: debug files may be next to it. `None` for the vDSO and other
    /// images read from memory.
    pub path: Option<PathBuf>,
    /// The root of the target's file system (`/proc/PID/root`), searched before our own. It
    /// disappears when the target exits.
    pub root: Option<PathBuf>,
}

/// Which sources of names may be used.
#[derive(Clone, Debug)]
pub struct SymbolizeOptions {
    /// Whether to read DWARF: inlined functions, files and lines. If false, only symbol tables are
    /// read.
    pub dwarf: bool,
    /// Additional directories, laid out like `/usr/lib/debug` or holding `*.debug` files.
    pub debug_dirs: Vec<PathBuf>,
    /// Servers for debug information that is not on this machine; `None`: no network access.
    pub debuginfod: Option<Debuginfod>,
    /// Longest time for one module; names found until then are returned, with an issue.
    pub time_limit: Duration,
    /// What all files together may cost; also how naming is interrupted.
    pub budget: Budget,
}

impl Default for SymbolizeOptions {
    fn default() -> Self {
        SymbolizeOptions {
            dwarf: true,
            debug_dirs: Vec::new(),
            debuginfod: None,
            time_limit: Duration::from_secs(30),
            budget: Budget::session(),
        }
    }
}

/// The names of one module's addresses.
#[derive(Debug, Default)]
pub struct ModuleSymbols {
    /// One entry for each requested address, in the order of the request.
    pub addresses: Vec<Symbolized>,
    /// Path of the file that files and lines come from, if not the module itself.
    pub debug_file: Option<PathBuf>,
    /// DWARF was found: pprof's `has_filenames`, `has_line_numbers` and `has_inline_frames`.
    pub has_dwarf: bool,
    /// A symbol table or DWARF was found: pprof's `has_functions`.
    pub has_functions: bool,
    /// What the result lacks, and why.
    pub issues: Vec<SymbolIssue>,
}

/// Why names, files or lines are missing or incomplete.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SymbolIssue {
    /// No symbol covers these addresses; the number of addresses.
    #[error("{0} addresses have no name: no symbol covers them")]
    Unnamed(usize),
    /// The file is stripped and no debug file (by build ID or debug link) was found.
    #[error("debug file not found: {0}")]
    DebugFileMissing(String),
    /// A debug file was found but is of another build.
    #[error("{path} is not used: {reason}")]
    DebugFileMismatch {
        /// The file found.
        path: PathBuf,
        /// How it differs from the file that is needed.
        reason: &'static str,
    },
    /// dwz moved names to a supplementary file, which was not found.
    #[error("supplementary debug file not found: {0}")]
    SupplementaryMissing(String),
    /// Split DWARF (`-gsplit-dwarf`) without its `.dwo` or `.dwp` file.
    #[error("{count} split debug files not found, e.g. {example}")]
    SplitDwarfMissing {
        /// Number of missing files.
        count: usize,
        /// Path of one of them.
        example: String,
    },
    /// The debug information is inconsistent.
    #[error("damaged debug information: {0}")]
    Damaged(String),
    /// A parser panicked; the file's debug information was not used.
    #[error("reading the debug information failed: {0}")]
    ParserFailed(String),
    /// A server could not be reached or returned an error (other than "not found").
    #[error("debuginfod: {0}")]
    Debuginfod(String),
    /// [`SymbolizeOptions::time_limit`] was reached.
    #[error("naming was stopped after {} s", .0.as_secs())]
    TimeLimit(Duration),
    /// The budget of the file or session is exhausted, or the session was stopped.
    #[error("some names are missing: {0}")]
    Limit(Exhausted),
}

/// When to stop: when the time is up or the budget stopped. Reading the clock is expensive, so it
/// is read once in many steps.
#[derive(Debug)]
struct Deadline {
    /// That of the file.
    budget: Budget,
    session: Budget,
    end: Instant,
    steps: std::cell::Cell<u32>,
    passed: std::cell::Cell<bool>,
}

impl Deadline {
    fn after(limit: Duration, budget: Budget, session: Budget) -> Deadline {
        let now = Instant::now();
        // A limit beyond the range of the clock is replaced by a day.
        let end = now.checked_add(limit).unwrap_or(now + Duration::from_secs(86_400));
        Deadline { budget, session, end, steps: 0.into(), passed: false.into() }
    }

    /// Counts one step of work; true once the time is up.
    fn passed(&self) -> bool {
        const STEPS_PER_LOOK: u32 = 1024;
        let steps = self.steps.get().wrapping_add(1);
        self.steps.set(steps);
        if steps.is_multiple_of(STEPS_PER_LOOK) { self.look() } else { self.passed.get() }
    }

    /// As [`Deadline::passed`], after a step that may have taken long.
    fn look(&self) -> bool {
        if !self.passed.get() {
            let is_stopped = [&self.budget, &self.session].iter().any(|b| b.take(Resource::Work, 0).is_err());
            self.passed.set(is_stopped || Instant::now() >= self.end);
        }
        self.passed.get()
    }

    /// Draws the memory of names of `bytes` bytes from the budget: a name is kept as linkage name
    /// and demangled, and in the profile.
    fn may_keep(&self, bytes: usize) -> bool {
        self.budget.take(Resource::Memory, 3 * bytes as u64).is_ok()
    }
}
