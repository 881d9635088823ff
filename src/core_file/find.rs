//! Finds core files: by path, or among those of systemd-coredump by the PID or the name of the
//! process (systemd-coredump(8)); and unpacks them.
//!
//! Not here: reading them.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use super::error::CoreError;

/// Where systemd-coredump keeps cores.
pub const SYSTEMD_FOLDER: &str = "/var/lib/systemd/coredump";

/// The most bytes that a core is unpacked to.
const MAX_UNPACKED: u64 = 64 << 30;
/// Pages of zeros take no space on disk.
const BLOCK: usize = 64 << 10;
/// The longest name of a thread, in bytes: systemd-coredump has it from there.
const COMM_BYTES: usize = 15;

/// What a file of systemd-coredump is of: `core.NAME.UID.BOOT_ID.PID.MICROSECONDS`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct StoredCore {
    name: String,
    pid: u32,
    /// When it was written, in microseconds since 1970.
    written_us: u64,
}

impl StoredCore {
    fn parse(file_name: &str) -> Option<StoredCore> {
        let rest = file_name.strip_prefix("core.")?;
        let packed = [".zst", ".lz4", ".xz"].iter().find_map(|end| rest.strip_suffix(end));
        // The name may contain dots.
        let mut parts = packed.unwrap_or(rest).rsplitn(5, '.');
        let written_us = parts.next()?.parse().ok()?;
        let pid = parts.next()?.parse().ok()?;
        let (_boot_id, _user) = (parts.next()?, parts.next()?);
        Some(StoredCore { name: parts.next()?.to_owned(), pid, written_us })
    }

    fn is(&self, what: &str) -> bool {
        let cut = what.get(..COMM_BYTES).unwrap_or(what);
        what.parse() == Ok(self.pid) || self.name == cut
    }
}

/// The file of a core: the one at this path, or the newest core in `folder` of a process with this
/// PID or name. It is unpacked. Errors: there is none, or it cannot be read.
pub fn open(what: &str, folder: &Path) -> Result<(PathBuf, File), CoreError> {
    let path = match Path::new(what) {
        path if path.exists() => path.to_owned(),
        _ => newest(what, folder)
            .ok_or_else(|| CoreError::NotFound { what: what.to_owned(), folder: folder.to_owned() })?,
    };
    let io = |source| CoreError::Io { path: path.clone(), source };
    // A FIFO would block.
    if !fs::metadata(&path).map_err(io)?.is_file() {
        return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    let mut file = File::open(&path).map_err(io)?;
    let mut magic = [0; 6];
    let count = file.read(&mut magic).map_err(io)?;
    file.rewind().map_err(io)?;
    let packed = |why: String| CoreError::Packed { path: path.clone(), why };
    let unpacked = match &magic[..count] {
        [0x28, 0xb5, 0x2f, 0xfd, ..] => unpack_zstd(file).map_err(|error| packed(error.to_string()))?,
        [0xfd, b'7', b'z', b'X', b'Z', 0] => unpack_xz(file).map_err(|error| packed(error.to_string()))?,
        [4, 0x22, 0x4d, 0x18, ..] => {
            return Err(packed("rprof does not read lz4: use `lz4 -d` first".into()));
        }
        _ => file,
    };
    Ok((path, unpacked))
}

fn newest(what: &str, folder: &Path) -> Option<PathBuf> {
    let stored = |entry: fs::DirEntry| Some((StoredCore::parse(entry.file_name().to_str()?)?, entry.path()));
    let all = fs::read_dir(folder).ok()?.flatten().filter_map(stored);
    all.filter(|(core, _)| core.is(what)).max_by_key(|(core, _)| core.written_us).map(|(_, path)| path)
}

/// A temporary file that takes no space for zeros, and has a maximum size.
struct Sparse {
    file: File,
    written: u64,
}

impl Sparse {
    fn new() -> io::Result<Sparse> {
        Ok(Sparse { file: tempfile::tempfile()?, written: 0 })
    }

    fn finish(mut self) -> io::Result<File> {
        self.file.set_len(self.written)?;
        self.file.rewind()?;
        Ok(self.file)
    }
}

impl Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.written += bytes.len() as u64;
        if self.written > MAX_UNPACKED {
            return Err(io::Error::other(format!("it is larger than {} GiB", MAX_UNPACKED >> 30)));
        }
        for block in bytes.chunks(BLOCK) {
            match block.iter().all(|byte| *byte == 0) {
                true => drop(self.file.seek(SeekFrom::Current(block.len() as i64))?),
                false => self.file.write_all(block)?,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn unpack_zstd(file: File) -> io::Result<File> {
    let mut decoder = ruzstd::decoding::StreamingDecoder::new(BufReader::new(file))
        .map_err(|error| io::Error::other(error.to_string()))?;
    let mut unpacked = Sparse::new()?;
    let mut buffer = vec![0; BLOCK];
    loop {
        match decoder.read(&mut buffer)? {
            0 => return unpacked.finish(),
            count => unpacked.write_all(&buffer[..count])?,
        }
    }
}

fn unpack_xz(file: File) -> io::Result<File> {
    let mut unpacked = Sparse::new()?;
    lzma_rs::xz_decompress(&mut BufReader::new(file), &mut unpacked)
        .map_err(|error| io::Error::other(format!("{error:?}")))?;
    unpacked.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOT: &str = "0123456789abcdef0123456789abcdef";

    #[test]
    fn the_newest_core_of_a_process_is_found_by_its_pid_and_by_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, pid: u32, time: u64, end: &str| {
            let path = folder.path().join(format!("core.{name}.1000.{BOOT}.{pid}.{time}{end}"));
            fs::write(&path, b"\x7fELF").expect("written");
            path
        };
        let (first, second) = (write("a.server", 7, 10, ""), write("a.server", 8, 20, ""));
        let long = write("a-very-long-nam", 9, 5, "");
        fs::write(folder.path().join("core.other"), b"").expect("written");
        let found = |what: &str| open(what, folder.path()).map(|(path, _)| path).ok();
        assert_eq!((found("7"), found("8")), (Some(first), Some(second.clone())));
        assert_eq!((found("a.server"), found("a-very-long-name")), (Some(second), Some(long)));
        assert_eq!((found("server"), found("10"), found("other")), (None, None, None));
    }

    #[test]
    fn a_packed_core_is_unpacked_and_zeros_take_no_space() {
        let folder = tempfile::tempdir().expect("a folder");
        let content = [vec![7u8; 1000], vec![0; 4 << 20], vec![9; 10]].concat();
        let packed =
            ruzstd::encoding::compress_to_vec(&content[..], ruzstd::encoding::CompressionLevel::Fastest);
        let path = folder.path().join("core.zst");
        fs::write(&path, packed).expect("written");
        let (_, mut file) = open(path.to_str().expect("UTF-8"), folder.path()).expect("unpacked");
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).expect("read");
        assert!(bytes == content);
        let blocks = std::os::unix::fs::MetadataExt::blocks(&file.metadata().expect("open"));
        assert!(blocks * 512 < 1 << 20, "{blocks} blocks");
    }

    #[test]
    fn other_packing_and_damage_are_reported() {
        let folder = tempfile::tempdir().expect("a folder");
        let error = |bytes: &[u8]| {
            let path = folder.path().join("core");
            fs::write(&path, bytes).expect("written");
            open(path.to_str().expect("UTF-8"), folder.path()).expect_err("refused").to_string()
        };
        assert!(error(&[4, 0x22, 0x4d, 0x18, 0, 0]).contains("use `lz4 -d` first"));
        assert!(error(&[0x28, 0xb5, 0x2f, 0xfd, 1, 2, 3]).contains("cannot unpack"));
    }
}
