//! A file that a process had mapped.

use std::sync::Arc;

use crate::elf::ElfFile;

/// A file that the process had mapped.
#[derive(Clone, Debug)]
pub struct MappedElf {
    /// Its path in the mount namespace of the process, or where it was found.
    pub path: String,
    /// The file; `None`: it is missing, was replaced, or is no ELF file.
    pub elf: Option<Arc<ElfFile>>,
    /// What is missing or uncertain.
    pub problem: Option<String>,
}
