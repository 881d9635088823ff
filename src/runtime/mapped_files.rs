//! The files whose code a process has mapped, opened once for several questions about it.
//!
//! A question about a process is usually followed by others: which kinds of profiles it has, then
//! the profiles. Not here: recognizing a runtime in a file (`attach`).

use std::{
    collections::{BTreeSet, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{
    budget::Budget,
    elf::{
        ElfFile,
        cache::{self, Identity},
    },
    process::{self, Mapping, ProcessError, files},
};

/// A file whose code a process has mapped: its first such mapping, and the file.
pub type MappedCode = (Mapping, Arc<ElfFile>);

/// How many processes' files are remembered, and for how long.
const KNOWN_PROCESSES: usize = 4;
const KNOWN_FOR: Duration = Duration::from_secs(10);

/// The files of a process, as long as it has the same mappings.
struct KnownFiles {
    reader: u32,
    mappings: Vec<Mapping>,
    files: Vec<(Mapping, Identity)>,
    read_at: Instant,
}

/// The newest last.
static KNOWN: Mutex<VecDeque<KnownFiles>> = Mutex::new(VecDeque::new());

/// The files whose code a process has mapped, each once; reading one draws from a budget of its
/// own. Errors: the process has ended or cannot be read.
pub fn mapped_files(reader: u32) -> Result<Vec<MappedCode>, ProcessError> {
    let mut mappings = process::read_executable_mappings(reader)?;
    mappings.retain(|mapping| mapping.inode != 0);
    // No code panics while it holds the lock.
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut list = known();
    list.retain(|known| known.read_at.elapsed() < KNOWN_FOR);
    let found = list.iter().find(|known| known.reader == reader && known.mappings == mappings);
    let files = found.map(|known| known.files.clone());
    drop(list);
    if let Some(files) = files.and_then(|files| files.into_iter().map(still_open).collect()) {
        return Ok(files);
    }
    let (files, identities) = open_all(reader, &mappings);
    if let Some(files) = identities {
        let mut list = known();
        list.retain(|known| known.reader != reader);
        list.push_back(KnownFiles { reader, mappings, files, read_at: Instant::now() });
        while list.len() > KNOWN_PROCESSES {
            list.pop_front();
        }
    }
    Ok(files)
}

/// A known file, if it is still kept.
fn still_open((mapping, identity): (Mapping, Identity)) -> Option<MappedCode> {
    Some((mapping, Arc::new(cache::known(&identity, &Budget::session())?)))
}

/// Opens the file of each mapping, each once, and returns their identities too; `None`: one could
/// not be opened, or is deleted.
fn open_all(reader: u32, mappings: &[Mapping]) -> (Vec<MappedCode>, Option<Vec<(Mapping, Identity)>>) {
    let (mut seen, mut files, mut identities) = (BTreeSet::new(), Vec::new(), Some(Vec::new()));
    for mapping in mappings {
        if !seen.insert((mapping.device_major, mapping.device_minor, mapping.inode)) {
            continue;
        }
        let Ok(file) = files::open(&files::MappedFile::of(reader, mapping)) else {
            identities = None;
            continue;
        };
        // What is mapped as code and is no ELF file has no runtime.
        let Ok((elf, identity)) = cache::open_identified(&file, &Budget::session()) else { continue };
        files.push((mapping.clone(), Arc::new(elf)));
        identities = identities.zip(identity).map(|(mut all, identity)| {
            all.push((mapping.clone(), identity));
            all
        });
    }
    (files, identities)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_a_process_are_opened_once_and_each_reader_has_its_own_budget() {
        let me = std::process::id();
        let (first, second) = (mapped_files(me).expect("mappings"), mapped_files(me).expect("mappings"));
        assert!(first.len() > 1 && first.len() == second.len());
        for ((mapping, one), (same, other)) in first.iter().zip(&second) {
            assert_eq!((mapping, one.bytes().as_ptr()), (same, other.bytes().as_ptr()));
            assert!(!Arc::ptr_eq(one, other));
        }
    }
}
