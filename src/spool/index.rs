//! The index: a line for each file that was added (`+`) or removed (`-`), each with its own
//! checksum, so that a torn line is recognised.
//!
//! `+ CHECKSUM BYTES CRC TOTAL UNIT PATH` and `- CHECKSUM PATH`; CHECKSUM is that of the rest of
//! the line, TOTAL the sum of the main value in UNIT.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use flate2::Crc;

use super::{INDEX, name::Entry};
use crate::profile::{WriteError, file};

/// What the index knows of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Its length.
    pub bytes: u64,
    /// The CRC-32 of its content.
    pub crc: u32,
    /// The sum of its main value over all samples.
    pub total: i64,
    /// The unit of this value.
    pub unit: String,
}

/// The files of a spool.
pub type Files = BTreeMap<Entry, Known>;

/// The CRC-32 of some bytes.
pub fn crc_of(bytes: &[u8]) -> u32 {
    let mut crc = Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Reads an index; also returns how many lines are damaged. Errors: it cannot be read.
pub fn read(folder: &Path) -> io::Result<(Files, usize)> {
    Ok(parse(&std::fs::read(folder.join(INDEX))?))
}

/// Parses the text of an index; also returns how many lines are damaged.
pub fn parse(bytes: &[u8]) -> (Files, usize) {
    let text = String::from_utf8_lossy(bytes);
    let (mut files, mut damaged) = (Files::new(), 0);
    // A line without its end is being written, or was torn.
    for line in text.split_inclusive('\n') {
        match line.strip_suffix('\n').and_then(parse_line) {
            Some(Change::Added(entry, known)) => drop(files.insert(entry, known)),
            Some(Change::Removed(entry)) => drop(files.remove(&entry)),
            None => damaged += 1,
        }
    }
    (files, damaged)
}

enum Change {
    Added(Entry, Known),
    Removed(Entry),
}

fn parse_line(line: &str) -> Option<Change> {
    let (sign, rest) = line.split_once(' ')?;
    let (checksum, rest) = rest.split_once(' ')?;
    if u32::from_str_radix(checksum, 16).ok()? != crc_of(rest.as_bytes()) {
        return None;
    }
    if sign == "-" {
        return Some(Change::Removed(Entry::of_path(rest)?));
    }
    let mut words = rest.splitn(5, ' ');
    let bytes = words.next()?.parse().ok()?;
    let crc = u32::from_str_radix(words.next()?, 16).ok()?;
    let total = words.next()?.parse().ok()?;
    let unit = words.next()?.to_owned();
    (sign == "+").then_some(Change::Added(Entry::of_path(words.next()?)?, Known { bytes, crc, total, unit }))
}

/// The line of a file that was added.
pub fn added(entry: &Entry, known: &Known) -> String {
    let Known { bytes, crc, total, unit } = known;
    let unit = unit.replace([' ', '\n'], "_");
    let rest = format!("{bytes} {crc:08x} {total} {unit} {}", entry.path());
    format!("+ {:08x} {rest}\n", crc_of(rest.as_bytes()))
}

/// The line of a file that was removed.
pub fn removed(entry: &Entry) -> String {
    let rest = entry.path();
    format!("- {:08x} {rest}\n", crc_of(rest.as_bytes()))
}

/// Writes a new index of these files. Errors: as of any file.
pub fn write(folder: &Path, files: &Files) -> Result<(), WriteError> {
    file::write_file(&folder.join(INDEX), &file::FileOptions::default(), |writer| {
        files.iter().try_for_each(|(entry, known)| writer.write_all(added(entry, known).as_bytes()))
    })
}

/// Opens the index for lines to be appended. Errors: it cannot be opened.
pub fn open(folder: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(folder.join(INDEX))
}
