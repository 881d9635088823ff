//! The memory map of a process: /proc/PID/maps (proc_pid_maps(5)).

use std::{fs, io::Read};

use super::ProcessError;
use crate::addr::RuntimeAddr;

/// The kernel refuses more than vm.max_map_count (65,530 by default); a line has at most a path of
/// 4 KiB beside its numbers.
const MAX_BYTES: u64 = 256 << 20;

/// One line of maps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub start: RuntimeAddr,
    /// End address: the first one after it.
    pub end: RuntimeAddr,
    /// `r`.
    pub readable: bool,
    /// `w`.
    pub writable: bool,
    /// `x`.
    pub executable: bool,
    /// Where in the file it begins, in bytes.
    pub file_offset: u64,
    /// Major number of the file's device.
    pub device_major: u32,
    /// Minor number of the file's device.
    pub device_minor: u32,
    /// Inode number of the file; 0 for memory without a file.
    pub inode: u64,
    /// The path in the target's mount namespace, `[heap]`, `[stack]`, `[vdso]`, or empty; as the
    /// kernel writes it, a newline as `\012`, " (deleted)" removed.
    pub path: String,
    /// Whether the file was deleted or replaced.
    pub deleted: bool,
}

/// Reads all mappings, in ascending order. Errors: gone, or not permitted.
pub fn read_mappings(pid: u32) -> Result<Vec<Mapping>, ProcessError> {
    Ok(parse(&read_text(pid)?))
}

/// Reads the executable mappings, in ascending order: a process with thousands of threads has
/// thousands of other mappings, for their stacks. Errors: gone, or not permitted.
pub fn read_executable_mappings(pid: u32) -> Result<Vec<Mapping>, ProcessError> {
    let text = read_text(pid)?;
    Ok(lines(&text).filter(|line| is_executable(line)).filter_map(parse_line).collect())
}

fn read_text(pid: u32) -> Result<Vec<u8>, ProcessError> {
    let fail = |error| ProcessError::reading(pid, "the memory map", error);
    let file = fs::File::open(format!("/proc/{pid}/maps")).map_err(fail)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(fail)?;
    Ok(bytes)
}

/// Parses the text of a maps file; malformed lines are skipped.
pub fn parse(text: &[u8]) -> Vec<Mapping> {
    lines(text).filter_map(parse_line).collect()
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n')
}

/// Looks at the second field, `r-xp`, alone.
fn is_executable(line: &[u8]) -> bool {
    let rights = line.iter().position(|byte| *byte == b' ').map(|blank| blank + 1);
    rights.and_then(|rights| line.get(rights + 2)) == Some(&b'x')
}

/// Parses one line, as of maps or of the headers of smaps.
pub(super) fn parse_line(line: &[u8]) -> Option<Mapping> {
    let text = String::from_utf8_lossy(line);
    let mut rest = &*text;
    let mut field = || {
        rest = rest.trim_start_matches(' ');
        let (head, tail) = rest.split_at(rest.find(' ').unwrap_or(rest.len()));
        rest = tail;
        head
    };
    let (range, rights, offset, device, inode) = (field(), field(), field(), field(), field());
    let path = rest.trim_start_matches(' ');
    let (start, end) = range.split_once('-')?;
    let (major, minor) = device.split_once(':')?;
    let hex = |digits: &str| u64::from_str_radix(digits, 16).ok();
    let right = |index: usize, letter: u8| rights.as_bytes().get(index) == Some(&letter);
    let (start, end) = (hex(start)?, hex(end)?);
    if end <= start {
        return None;
    }
    let (path, deleted) = match path.strip_suffix(" (deleted)") {
        Some(path) => (path, true),
        None => (path, false),
    };
    Some(Mapping {
        start: RuntimeAddr(start),
        end: RuntimeAddr(end),
        readable: right(0, b'r'),
        writable: right(1, b'w'),
        executable: right(2, b'x'),
        file_offset: hex(offset)?,
        device_major: u32::from_str_radix(major, 16).ok()?,
        device_minor: u32::from_str_radix(minor, 16).ok()?,
        inode: inode.parse().ok()?,
        path: path.to_owned(),
        deleted,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_deleted_file_with_blanks_in_its_path_is_read() {
        let line = b"7f00-8000 r-xp 00001000 fe:0a 1311   /opt/my app/lib x.so (deleted)\n";
        let maps = parse(line);
        assert_eq!(maps.len(), 1);
        let map = &maps[0];
        assert_eq!((map.start, map.end), (RuntimeAddr(0x7f00), RuntimeAddr(0x8000)));
        assert!(map.executable && map.readable && !map.writable && map.deleted);
        assert_eq!((map.device_major, map.device_minor, map.inode), (0xfe, 0x0a, 1311));
        assert_eq!(map.path, "/opt/my app/lib x.so");
        assert_eq!(map.file_offset, 0x1000);
    }

    #[test]
    fn this_process_has_an_executable_mapping_that_holds_this_function() {
        let here = RuntimeAddr(parse_line as *const () as u64);
        let maps = read_mappings(std::process::id()).expect("maps");
        let found = maps.iter().find(|map| map.start <= here && here < map.end).expect("found");
        assert!(found.executable && found.inode != 0);
    }

    #[test]
    fn the_executable_mappings_are_those_of_all_that_are_executable() {
        let me = std::process::id();
        let expected: Vec<_> = read_mappings(me).expect("maps");
        let expected: Vec<_> = expected.into_iter().filter(|map| map.executable && map.inode != 0).collect();
        let mut executable = read_executable_mappings(me).expect("maps");
        executable.retain(|map| map.inode != 0);
        assert!(!expected.is_empty());
        assert_eq!(executable, expected);
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in proptest::collection::vec(any::<u8>(), 0..300)) {
            parse(&text);
        }
    }
}
