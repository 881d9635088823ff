//! What reports ask of programs and libraries: symbols, assembly, and where in the source it is from.
//!
//! Not here: reading them. A report is a function of a profile and of what is handed to it; whoever
//! asks for one gives an [`ObjectTool`] that can open files, or [`NoObjects`].

/// A mapping of the profile, as far as it says which file stands at which addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ObjectMapping<'a> {
    pub file: &'a str,
    /// Empty where it is not known.
    pub build_id: &'a str,
    pub start: u64,
    pub limit: u64,
    pub offset: u64,
}

/// A symbol: a name for the addresses `start..=last`, as the file counts them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectSymbol {
    pub name: String,
    pub start: u64,
    pub last: u64,
}

/// An instruction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectInstruction {
    /// As the file counts.
    pub address: u64,
    pub text: String,
}

/// A function, and the place in the source that an address in it is from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectFrame {
    /// The linker's name of it.
    pub function: String,
    pub file: String,
    pub line: i64,
}

/// Opens files. Errors are the reference's words.
pub trait ObjectTool {
    fn open(&self, mapping: &ObjectMapping<'_>) -> Result<Box<dyn Object>, String>;
}

/// An open program or library.
pub trait Object {
    /// What the file calls an address of the profile.
    fn address(&self, runtime: u64) -> u64;

    /// Its symbols, by address.
    fn symbols(&self) -> Result<Vec<ObjectSymbol>, String>;

    /// The instructions in `start..end`, as the file counts, in Intel's syntax or in Go's.
    fn code(&self, start: u64, end: u64, intel: bool) -> Result<Vec<ObjectInstruction>, String>;

    /// Whether assembly is to say of each instruction where it is from. The reference knows that of
    /// programs made by Go's compiler only.
    fn shows_lines(&self) -> bool;

    /// For each of these addresses, as the file counts, where it is from; none where that is unknown.
    /// Asking for many at once is much cheaper than one by one.
    fn frames(&self, addresses: &[u64]) -> Vec<Option<ObjectFrame>>;
}

/// There are no files to look into.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObjects;

impl ObjectTool for NoObjects {
    fn open(&self, mapping: &ObjectMapping<'_>) -> Result<Box<dyn Object>, String> {
        Err(format!("open {}: programs are not looked into here", mapping.file))
    }
}
