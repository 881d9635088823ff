//! Core files (core(5)): the registers of every thread, the memory that was written, the mapped
//! files, and the signal that ended the process. Written by the kernel, by gdb's `gcore`, or kept
//! by systemd-coredump ([`find`]).
//!
//! ```text
//! CoreFile::open(file, program, budget)  -> threads, mappings, signal
//!   notes    PT_NOTE: NT_PRSTATUS, NT_PRPSINFO, NT_SIGINFO, NT_AUXV, NT_FILE
//!   memory   the PT_LOAD segments; what they lack comes from the mapped files
//!   files    the mapped files, checked by build ID
//! ```
//!
//! A core may be truncated (a full disk, a limit of its size): it is read as far as it goes. It may
//! be crafted: work and memory are bounded by its size. Not here: unwinding, names.

mod error;
mod files;
pub mod find;
mod mapped;
mod memory;
mod notes;
mod segments;

use std::{fs::File, path::PathBuf, sync::Arc};

pub use error::CoreError;
pub use mapped::MappedElf;
pub use notes::{CoreThread, ProcessInfo, SignalInfo};

use crate::{
    arch::native,
    budget::Budget,
    process::{Identity, Mapping, MemorySource, comm},
    sys::file_map::FileMap,
};
use memory::CoreMemory;
use notes::Notes;
use segments::Layout;

/// A core file.
#[derive(Debug)]
pub struct CoreFile {
    /// The file, for messages.
    pub path: PathBuf,
    /// The process.
    pub process: ProcessInfo,
    /// Its threads; the first is the one that got the signal.
    pub threads: Vec<CoreThread>,
    /// The signal that ended it; `None`: it was written while the process ran.
    pub signal: Option<SignalInfo>,
    /// Its mappings, in ascending order. The inode number of a file is its number in
    /// [`Self::files`], from 1 on.
    pub mappings: Vec<Mapping>,
    /// The files that it had mapped.
    pub files: Vec<MappedElf>,
    /// The position of its program in [`Self::files`].
    pub program: Option<usize>,
    /// How many bytes are missing at the end of the file.
    pub missing_bytes: u64,
    memory: Arc<CoreMemory>,
}

impl CoreFile {
    /// Reads a core. `program`: its program, if that is not at its path any more. Errors: see
    /// [`CoreError`]; missing files are no error ([`MappedElf::problem`]).
    pub fn open(
        path: PathBuf,
        file: &File,
        program: Option<PathBuf>,
        budget: &Budget,
    ) -> Result<CoreFile, CoreError> {
        let map = FileMap::open(file).map_err(|source| CoreError::Io { path: path.clone(), source })?;
        CoreFile::parse(path, Arc::new(map), program, budget)
    }

    /// As [`CoreFile::open`], of bytes in memory.
    pub fn parse(
        path: PathBuf,
        map: Arc<FileMap>,
        program: Option<PathBuf>,
        budget: &Budget,
    ) -> Result<CoreFile, CoreError> {
        let Some(layout) = Layout::parse(map.bytes()) else { return Err(CoreError::NotCore(path)) };
        if layout.machine != native::ELF_MACHINE {
            return Err(CoreError::OtherCpu { path, machine: layout.machine });
        }
        let notes = Notes::parse(layout.notes.iter().filter_map(|range| map.bytes().get(range.clone())));
        if notes.threads.is_empty() {
            return Err(CoreError::NoThreads(path));
        }
        let missing_bytes = layout.missing_bytes;
        let mut memory = CoreMemory::new(map, layout.segments);
        let found = files::find(&memory, &notes, program, budget)?;
        memory.set_files(&found.mappings, &found.files);
        Ok(CoreFile {
            path,
            process: notes.process,
            threads: notes.threads,
            signal: notes.signal,
            mappings: found.mappings,
            files: found.files,
            program: found.program,
            missing_bytes,
            memory: Arc::new(memory),
        })
    }

    /// The file behind a mapping.
    pub fn file_of(&self, mapping: &Mapping) -> Option<&MappedElf> {
        self.files.get(usize::try_from(mapping.inode).ok()?.checked_sub(1)?)
    }

    /// What is known of its process.
    pub fn identity(&self) -> Identity {
        let program = self.program.and_then(|at| self.files.get(at));
        Identity {
            pid: self.process.pid,
            name: comm::printable(&self.process.name),
            executable: program.map(|file| PathBuf::from(&file.path)),
            start_ticks: 0,
            uid: self.process.uid,
            is_kernel_thread: false,
        }
    }

    /// Its memory.
    pub fn memory(&self) -> Arc<dyn MemorySource> {
        Arc::clone(&self.memory) as Arc<dyn MemorySource>
    }
}

/// Any bytes as a core, for fuzzing.
pub fn read_any(bytes: Vec<u8>) -> Option<CoreFile> {
    CoreFile::parse(PathBuf::from("core"), Arc::new(FileMap::from_vec(bytes)), None, &Budget::session()).ok()
}
