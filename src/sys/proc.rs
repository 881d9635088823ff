//! Reads what the kernel knows of a process: files of /proc as text, and the list of robust mutexes
//! of a thread. The kernel copies names of processes, files and control groups
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

/// The address of the head of a thread's list of robust mutexes (get_robust_list(2)). `None`: the
/// thread has registered none, is gone, or reading its memory is not permitted.
pub fn robust_list_head(tid: u32) -> Option<u64> {
    let (mut head, mut length) = (0u64, 0usize);
    let (head_at, length_at) = (&raw mut head, &raw mut length);
    // SAFETY: the call writes a pointer and a size to the two places, which outlive it.
    let status = unsafe { libc::syscall(libc::SYS_get_robust_list, tid as libc::pid_t, head_at, length_at) };
    (status == 0 && head != 0).then_some(head)
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
