//! Reads files of /proc as text. The kernel copies names of processes, files and control groups
//! into them byte by byte, and cuts `comm` after 15 bytes, so that they need not be UTF-8.
//!
//! Not here: the format of any file.

use std::{fs, io, path::Path};

/// The text of a file; bytes that are not UTF-8 become U+FFFD. Errors: those of reading.
pub fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    let bytes = fs::read(path)?;
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_not_utf8_are_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("status");
        fs::write(&path, b"Name:\tprocess-name-t\xc3\nPid:\t7\n").expect("written");
        assert_eq!(read_text(&path).expect("read"), "Name:\tprocess-name-t\u{fffd}\nPid:\t7\n");
    }
}
