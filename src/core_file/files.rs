//! The files that a process had mapped, found on this machine and checked: a file that was replaced
//! since the core was written has another build ID, which the core holds with the first page of the
//! file.
//!
//! Not here: reading the core.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    error::CoreError,
    mapped::MappedElf,
    memory::CoreMemory,
    notes::{FileRange, Notes},
    segments::Segment,
};
use crate::{
    addr::{FileOffset, RuntimeAddr},
    budget::Budget,
    elf::{ElfFile, build_id_in_memory, cache},
    process::{Mapping, files},
};

/// Where distributions keep programs by their build ID, beside debug files.
const BY_BUILD_ID: &str = "/usr/lib/debug/.build-id";

/// The most files that are opened.
const MAX_OPENED: usize = 4096;

/// A path among the mapped files.
struct PathOfFile<'a> {
    path: &'a str,
    /// The address of the first byte of the file.
    base: Option<u64>,
    has_code: bool,
}

/// What was found.
pub(super) struct Found {
    pub mappings: Vec<Mapping>,
    pub files: Vec<MappedElf>,
    pub program: Option<usize>,
}

/// Finds the mappings and the mapped files of a core. Errors: `program` is not its program.
pub(super) fn find(
    memory: &CoreMemory,
    notes: &Notes,
    program: Option<PathBuf>,
    budget: &Budget,
) -> Result<Found, CoreError> {
    let (mut numbers, mut paths): (BTreeMap<&str, usize>, Vec<PathOfFile<'_>>) = Default::default();
    for file in &notes.files {
        let number = *numbers.entry(&file.path).or_insert(paths.len());
        if number == paths.len() {
            paths.push(PathOfFile { path: &file.path, base: None, has_code: false });
        }
        let path = &mut paths[number];
        path.base = path.base.or((file.offset == 0).then_some(file.start));
        path.has_code |= segment_at(memory.segments(), file.start).is_none_or(|one| one.executable);
    }
    let holds_entry =
        |file: &&FileRange| notes.auxiliary.entry.is_some_and(|at| (file.start..file.end).contains(&at));
    let main = notes.files.iter().find(holds_entry).map(|file| numbers[file.path.as_str()]);
    let (mut found, mut opened) = (Vec::new(), 0);
    for (number, path) in paths.iter().enumerate() {
        let without = |problem| MappedElf { path: path.path.to_owned(), elf: None, problem };
        let given = program.as_deref().filter(|_| main == Some(number));
        opened += usize::from(path.has_code);
        let expected = || path.base.and_then(|base| build_id(memory, base));
        found.push(match given {
            Some(given) => given_program(given, expected().as_deref(), budget)?,
            // Data of the program: only its address range is of interest.
            None if !path.has_code => without(None),
            None if opened > MAX_OPENED => without(Some("the core has too many mapped files".to_owned())),
            None => on_disk(path.path, expected().as_deref(), budget),
        });
    }
    let mappings = mappings(memory, notes, &numbers, &mut found);
    Ok(Found { mappings, files: found, program: main })
}

fn segment_at(segments: &[Segment], address: u64) -> Option<&Segment> {
    let at = segments.partition_point(|segment| segment.end <= address);
    segments.get(at).filter(|segment| segment.start <= address)
}

/// The build ID that the core has of the file whose first byte is mapped at `base`.
fn build_id(memory: &CoreMemory, base: u64) -> Option<Vec<u8>> {
    build_id_in_memory(&|offset, buffer: &mut [u8]| {
        let bytes = base.checked_add(offset).and_then(|at| memory.in_core(at)).unwrap_or_default();
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        count == buffer.len()
    })
}

fn hex(bytes: Option<&[u8]>) -> String {
    match bytes {
        Some(bytes) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        None => "none".to_owned(),
    }
}

fn open(path: &Path, budget: &Budget) -> Result<ElfFile, String> {
    let file = files::open_plain(path).map_err(|error| error.to_string())?;
    cache::open(&file, budget).map_err(|error| error.to_string())
}

/// The program that the user names.
fn given_program(path: &Path, expected: Option<&[u8]>, budget: &Budget) -> Result<MappedElf, CoreError> {
    let program = || path.to_owned();
    let elf = open(path, budget).map_err(|why| CoreError::Program { path: program(), why })?;
    if expected.is_some() && elf.build_id() != expected {
        let (found, expected) = (hex(elf.build_id()), hex(expected));
        return Err(CoreError::OtherProgram { program: program(), found, expected });
    }
    let whole = path.canonicalize().unwrap_or_else(|_| program());
    Ok(MappedElf { path: whole.to_string_lossy().into_owned(), elf: Some(Arc::new(elf)), problem: None })
}

/// The file at a path, or the one that a folder of build IDs has.
fn on_disk(path: &str, expected: Option<&[u8]>, budget: &Budget) -> MappedElf {
    let here = path.strip_suffix(" (deleted)").unwrap_or(path);
    let problem = match open(Path::new(here), budget) {
        Ok(elf) if expected.is_none() || elf.build_id() == expected => {
            return MappedElf { path: here.to_owned(), elf: Some(Arc::new(elf)), problem: None };
        }
        Ok(elf) => format!(
            "it was replaced since the core was written: its build ID is {}, that of the core {}",
            hex(elf.build_id()),
            hex(expected)
        ),
        Err(why) => match expected {
            Some(_) => format!("{why}; the core needs the build ID {}", hex(expected)),
            None => why,
        },
    };
    match expected.and_then(|id| by_build_id(id, budget)) {
        Some((path, elf)) => MappedElf { path, elf: Some(Arc::new(elf)), problem: None },
        None => MappedElf { path: here.to_owned(), elf: None, problem: Some(problem) },
    }
}

fn by_build_id(id: &[u8], budget: &Budget) -> Option<(String, ElfFile)> {
    let (folder, name) = id.split_at_checked(1)?;
    let path = Path::new(BY_BUILD_ID).join(hex(Some(folder))).join(hex(Some(name)));
    let elf = open(&path, budget).ok().filter(|elf| elf.build_id() == Some(id))?;
    Some((path.to_string_lossy().into_owned(), elf))
}

/// The mappings: the segments of the core, with the files behind them, and the mapped files that
/// it has no segments of.
fn mappings(
    memory: &CoreMemory,
    notes: &Notes,
    numbers: &BTreeMap<&str, usize>,
    files: &mut Vec<MappedElf>,
) -> Vec<Mapping> {
    let mut found: Vec<Mapping> = Vec::new();
    for segment in memory.segments() {
        let at = notes.files.partition_point(|file| file.end <= segment.start);
        let file = notes.files.get(at).filter(|file| file.start <= segment.start);
        let mut mapping = plain(segment);
        if let Some(file) = file {
            mapping.inode = numbers[file.path.as_str()] as u64 + 1;
            mapping.file_offset = file.offset.saturating_add(segment.start - file.start);
        } else if notes.auxiliary.vdso == Some(segment.start) {
            let image =
                memory.in_core(segment.start).and_then(|bytes| ElfFile::from_bytes(bytes.to_vec()).ok());
            files.push(MappedElf { path: "[vdso]".to_owned(), elf: image.map(Arc::new), problem: None });
            mapping.inode = files.len() as u64;
        }
        found.push(mapping);
    }
    let covered = |file: &&FileRange| segment_at(memory.segments(), file.start).is_none();
    for file in notes.files.iter().filter(covered) {
        let number = numbers[file.path.as_str()];
        let elf = files[number].elf.as_deref();
        let is_code = elf.is_some_and(|elf| {
            let at = elf.address_of(FileOffset(file.offset));
            let holds = |one: &crate::elf::Segment| {
                at.is_some_and(|at| at >= one.address && at.0 - one.address.0 < one.memory_size)
            };
            elf.segments().iter().any(|one| one.executable && holds(one))
        });
        found.push(Mapping {
            start: RuntimeAddr(file.start),
            end: RuntimeAddr(file.end),
            readable: true,
            executable: is_code,
            file_offset: file.offset,
            inode: number as u64 + 1,
            ..plain(&Segment::default())
        });
    }
    for mapping in &mut found {
        let file = usize::try_from(mapping.inode).ok().and_then(|number| files.get(number.checked_sub(1)?));
        mapping.path = file.map(|file| file.path.clone()).unwrap_or_default();
    }
    found.sort_by_key(|mapping| mapping.start);
    found
}

fn plain(segment: &Segment) -> Mapping {
    Mapping {
        start: RuntimeAddr(segment.start),
        end: RuntimeAddr(segment.end),
        readable: segment.readable,
        writable: segment.writable,
        executable: segment.executable,
        file_offset: 0,
        device_major: 0,
        device_minor: 0,
        inode: 0,
        path: String::new(),
        deleted: false,
    }
}
