//! A running CPython interpreter: its release, its layout, and its runtime's address.
//!
//! Not here: its threads and frames. rprof never writes into the process.

use std::{fmt, ops::Range, sync::Arc};

use super::{
    debug_offsets::{DebugOffsets, MAX_BYTES, OffsetsError},
    find::{PythonFile, is_supported},
    layouts::{Layout, NEWEST, WITH_DEBUG_OFFSETS},
    objects::{Objects, is_pointer},
};
use crate::{addr::RuntimeAddr, process::ProcessMemory, runtime::EndedProcess};

/// Why an interpreter cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PythonError {
    /// The interpreter is older than the oldest supported release.
    #[error("Python {0}.{1} is not supported: rprof reads Python 3.8 and newer")]
    TooOld(u32, u32),
    /// Neither the interpreter nor the paths of its modules state the release.
    #[error("the release of the Python interpreter in {0} is unknown: its file states none")]
    UnknownRelease(String),
    /// It is a release that states its offsets, and what it states fails the checks.
    #[error("Python {0}: {1}")]
    Offsets(Release, OffsetsError),
    /// The structures do not refer to each other as they must.
    #[error("the interpreter of Python {0} is not laid out as that release is: a modified build")]
    Layout(Release),
    /// The interpreter has not started yet.
    #[error("the Python interpreter is not initialized yet")]
    NotInitialized,
    /// Its memory cannot be read.
    #[error("cannot read the memory of process {0}: not permitted")]
    Memory(u32),
}

/// A release: 3.12.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The 3 of 3.12.1.
    pub major: u32,
    /// The 12 of 3.12.1.
    pub minor: u32,
    /// The 1 of 3.12.1; `None`: not stated.
    pub micro: Option<u32>,
}

impl Release {
    /// Decodes `PY_VERSION_HEX`.
    fn of_hex(hex: u64) -> Option<Release> {
        let byte = |shift: u32| (hex >> shift & 0xff) as u32;
        let release = Release { major: byte(24), minor: byte(16), micro: Some(byte(8)) };
        (hex >> 32 == 0 && release.major == 3).then_some(release)
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)?;
        self.micro.map_or(Ok(()), |micro| write!(f, ".{micro}"))
    }
}

/// A running interpreter.
#[derive(Clone, Debug)]
pub struct PythonProcess {
    /// The process, as rprof's own PID namespace numbers it.
    pub pid: u32,
    /// Its memory.
    pub memory: Arc<ProcessMemory>,
    /// The release.
    pub release: Release,
    /// The layout that is used.
    pub layout: Layout,
    /// The address of `_PyRuntime`.
    pub runtime: u64,
    /// Where the code of the evaluator is.
    pub evaluator: Vec<Range<u64>>,
    /// What is read instead of /proc, if the process has ended.
    pub ended: Option<Arc<EndedProcess>>,
}

/// Where an interpreter was found.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// What its file has.
    pub file: &'a PythonFile,
    /// The file's path.
    pub path: &'a str,
    /// Run-time address = address in the file + bias.
    pub bias: u64,
    /// The release that the paths of the process's other mapped files state.
    pub release_of_paths: Option<(u32, u32)>,
}

impl PythonProcess {
    /// Attaches to the interpreter of a process. Errors: see [`PythonError`].
    pub fn attach(
        pid: u32,
        memory: Arc<ProcessMemory>,
        found: Found<'_>,
    ) -> Result<PythonProcess, PythonError> {
        let at = |address: crate::addr::ElfAddr| address.0.wrapping_add(found.bias);
        let runtime = found.file.runtime.map(at);
        let (release, layout) = release_and_layout(pid, &memory, found, runtime)?;
        let runtime = runtime.ok_or(PythonError::TooOld(release.major, release.minor))?;
        let evaluator = found.file.evaluator.iter().map(|(start, size)| at(*start)..at(*start) + *size);
        let evaluator = evaluator.collect();
        let process = PythonProcess { pid, memory, release, layout, runtime, evaluator, ended: None };
        process.verify()?;
        Ok(process)
    }

    /// Whether the layout is a row of its own, not that of the newest known release.
    pub fn is_known_release(&self) -> bool {
        self.release.minor <= NEWEST
    }

    /// Reads objects of this interpreter.
    pub fn objects(&self) -> Objects<'_> {
        Objects::new(&self.memory, &self.layout)
    }

    /// A thread of an interpreter leads back to its interpreter.
    fn verify(&self) -> Result<(), PythonError> {
        let (objects, layout) = (self.objects(), &self.layout);
        let head = objects.word(self.runtime, layout.interpreters).ok_or(PythonError::Memory(self.pid))?;
        if head != 0 && !is_pointer(head) {
            return Err(PythonError::Layout(self.release));
        }
        for interpreter in self.interpreters() {
            let first = objects.word(interpreter, layout.threads);
            match first.ok_or(PythonError::Layout(self.release))? {
                0 => {}
                first if objects.word(first, layout.thread_interpreter) == Some(interpreter) => return Ok(()),
                _ => return Err(PythonError::Layout(self.release)),
            }
        }
        Err(PythonError::NotInitialized)
    }

    /// The interpreters, the newest first; more than one if the program uses sub-interpreters.
    pub fn interpreters(&self) -> Vec<u64> {
        let first = self.objects().pointer(self.runtime, self.layout.interpreters);
        self.list(first, self.layout.interpreter_next, MAX_INTERPRETERS)
    }

    /// The elements of a list that is linked by the word at `next`, without repetition.
    pub(super) fn list(&self, first: Option<u64>, next: u32, max: usize) -> Vec<u64> {
        let mut all = Vec::new();
        let mut seen = std::collections::HashSet::new();
        let mut now = first;
        while let Some(one) = now.filter(|one| all.len() < max && seen.insert(*one)) {
            all.push(one);
            now = self.objects().pointer(one, next);
        }
        all
    }
}

const MAX_INTERPRETERS: usize = 1024;

/// The release as the interpreter states it, and its layout.
fn release_and_layout(
    pid: u32,
    memory: &ProcessMemory,
    found: Found<'_>,
    runtime: Option<u64>,
) -> Result<(Release, Layout), PythonError> {
    let symbol = found.file.version.map(|version| version.0.wrapping_add(found.bias));
    let stated = symbol.and_then(|at| memory.read_word(RuntimeAddr(at)));
    let named = found.file.named_release.or(found.release_of_paths);
    let of_name = named.map(|(major, minor)| Release { major, minor, micro: None });
    if let Some(runtime) = runtime.filter(|runtime| is_pointer(*runtime)) {
        let mut bytes = vec![0; MAX_BYTES];
        let count = memory.read(RuntimeAddr(runtime), &mut bytes);
        if count == 0 {
            return Err(PythonError::Memory(pid));
        }
        match DebugOffsets::parse(&bytes[..count]) {
            Ok(offsets) => {
                let release = Release::of_hex(offsets.version);
                let both = release.zip(offsets.layout());
                return both.ok_or_else(|| PythonError::UnknownRelease(found.path.to_owned()));
            }
            Err(OffsetsError::NoCookie) => {}
            Err(error) => {
                let release = stated.and_then(Release::of_hex).or(of_name);
                let release = release.unwrap_or(Release { major: 3, minor: WITH_DEBUG_OFFSETS, micro: None });
                return Err(PythonError::Offsets(release, error));
            }
        }
    }
    let release = stated.and_then(Release::of_hex).or(of_name);
    let release = release.ok_or_else(|| PythonError::UnknownRelease(found.path.to_owned()))?;
    if !is_supported((release.major, release.minor)) {
        return Err(PythonError::TooOld(release.major, release.minor));
    }
    if release.minor >= WITH_DEBUG_OFFSETS {
        // `_PyRuntime` has no cookie until the interpreter is initialized.
        return Err(PythonError::NotInitialized);
    }
    let layout = Layout::of(release.minor).ok_or(PythonError::TooOld(release.major, release.minor))?;
    Ok((release, layout))
}

impl PythonProcess {
    /// Whether a frame with this entry byte is one of the evaluator's own.
    pub fn layout_is_shim(&self, entry: u8) -> bool {
        self.layout.is_shim(entry)
    }
}
