//! The interface between reports and programs or libraries: symbols, instructions, source lines.
//!
//! Not here: reading files. The caller of a report passes an [`ObjectTool`] that opens files, or
//! [`NoObjects`].

/// A mapping of the profile: a file and its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectMapping<'a> {
    /// The path.
    pub file: &'a str,
    /// The build ID; empty: unknown.
    pub build_id: &'a str,
    /// The first run-time address.
    pub start: u64,
    /// The exclusive end address.
    pub limit: u64,
    /// The offset of `start` in the file.
    pub offset: u64,
}

/// A symbol: a name for the addresses `start..=last` in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSymbol {
    /// The name.
    pub name: String,
    /// The first address.
    pub start: u64,
    /// The last address, inclusive.
    pub last: u64,
}

/// An instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectInstruction {
    /// The address in the file.
    pub address: u64,
    /// The assembly text.
    pub text: String,
}

/// The function and source line of an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectFrame {
    /// The linker's name of the function.
    pub function: String,
    /// The source file.
    pub file: String,
    /// The line.
    pub line: i64,
}

/// Opens files.
pub trait ObjectTool {
    /// Opens the file of a mapping. Errors: the texts of the reference.
    fn open(&self, mapping: &ObjectMapping<'_>) -> Result<Box<dyn Object>, String>;
}

/// An open program or library.
pub trait Object {
    /// The address in the file of a run-time address.
    fn address(&self, runtime: u64) -> u64;

    /// Its symbols, ordered by address.
    fn symbols(&self) -> Result<Vec<ObjectSymbol>, String>;

    /// Demangled forms of the name of one of its symbols, the most detailed first; none if it is
    /// not mangled.
    fn demangled(&self, _name: &str) -> Vec<String> {
        Vec::new()
    }

    /// The instructions at `start..end` (addresses in the file), in Intel's or Go's syntax.
    fn code(&self, start: u64, end: u64, intel: bool) -> Result<Vec<ObjectInstruction>, String>;

    /// Whether to show the source line of each instruction. The reference does that only for Go
    /// programs.
    fn shows_lines(&self) -> bool;

    /// The function and source line of each address in the file; `None` where unknown. Looking up
    /// many addresses at once is much cheaper.
    fn frames(&self, addresses: &[u64]) -> Vec<Option<ObjectFrame>>;
}

/// An [`ObjectTool`] that opens no files.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObjects;

impl ObjectTool for NoObjects {
    fn open(&self, mapping: &ObjectMapping<'_>) -> Result<Box<dyn Object>, String> {
        Err(format!("open {}: programs are not looked into here", mapping.file))
    }
}
