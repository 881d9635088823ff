//! Writing into a pipe whose reader may be missing, or may not read.
//!
//! Without a signal rprof waits for a reader that holds the pipe (a pager), as other programs do.
//! Once rprof is to end ([`hurry`]) it waits only [`AFTER_SIGNAL`].

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::{fd::AsFd, unix::fs::OpenOptionsExt},
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, poll},
};

/// How long a named pipe may have no reader.
const READER_WITHIN: Duration = Duration::from_secs(10);
/// How long a pipe may have no reader, or a reader not read, once rprof is to end.
const AFTER_SIGNAL: Duration = Duration::from_millis(300);
/// How often it is checked whether there is a reader, and whether rprof is to end.
const CHECK_EVERY: Duration = Duration::from_millis(20);
/// `PIPE_BUF`: if poll(2) reports room, a write of so many bytes does not block (pipe(7)).
const PIECE: usize = 4096;

/// The flag that is set when rprof is to end soon. Signal handlers set it.
pub fn hurry() -> Arc<AtomicBool> {
    static FLAG: OnceLock<Arc<AtomicBool>> = OnceLock::new();
    Arc::clone(FLAG.get_or_init(Arc::default))
}

/// A file or pipe that is written without blocking for longer than the limits of this module.
#[derive(Debug)]
pub struct PipeWriter {
    file: File,
    hurry: Arc<AtomicBool>,
}

impl PipeWriter {
    /// Opens a named pipe. Errors: open(2), or `TimedOut` if nobody opens it for reading in time.
    pub fn open(path: &Path) -> io::Result<PipeWriter> {
        PipeWriter::open_within(path, READER_WITHIN, hurry())
    }

    fn open_within(path: &Path, limit: Duration, hurry: Arc<AtomicBool>) -> io::Result<PipeWriter> {
        let began = Instant::now();
        loop {
            let opened = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(path);
            let limit = if hurry.load(Ordering::Relaxed) { limit.min(AFTER_SIGNAL) } else { limit };
            match opened {
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) && began.elapsed() < limit => {
                    thread::sleep(CHECK_EVERY);
                }
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) => {
                    return Err(io::Error::new(io::ErrorKind::TimedOut, "no process reads from the pipe"));
                }
                opened => return Ok(PipeWriter { file: opened?, hurry }),
            }
        }
    }

    /// Standard output, without a buffer. Errors: dup(2).
    pub fn stdout() -> io::Result<PipeWriter> {
        let stdout = io::stdout();
        stdout.lock().flush()?;
        Ok(PipeWriter { file: File::from(stdout.as_fd().try_clone_to_owned()?), hurry: hurry() })
    }

    /// Waits until there is room. Errors: poll(2), or `TimedOut`.
    fn wait(&self) -> io::Result<()> {
        let mut hurried: Option<Instant> = None;
        let mut polled = [PollFd::new(self.file.as_fd(), PollFlags::POLLOUT)];
        loop {
            match poll(&mut polled, CHECK_EVERY.as_millis() as u16) {
                Ok(0) | Err(Errno::EINTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if self.hurry.load(Ordering::Relaxed)
                && hurried.get_or_insert_with(Instant::now).elapsed() > AFTER_SIGNAL
            {
                let why = "rprof was stopped, and the reader of the pipe does not read";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
        }
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wait()?;
        self.file.write(&bytes[..bytes.len().min(PIECE)])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn pipe(folder: &tempfile::TempDir) -> std::path::PathBuf {
        let path = folder.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("own folder");
        path
    }

    #[test]
    fn a_pipe_without_a_reader_is_an_error_after_some_time() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = pipe(&folder);
        let error = PipeWriter::open_within(&path, Duration::from_millis(50), Arc::default());
        assert_eq!(error.expect_err("no reader").kind(), io::ErrorKind::TimedOut);
        let in_a_hurry = Arc::new(AtomicBool::new(true));
        let error = PipeWriter::open_within(&path, Duration::from_secs(3600), in_a_hurry);
        assert_eq!(error.expect_err("no reader").kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_reader_that_comes_later_gets_everything() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = pipe(&folder);
        let reader = thread::spawn({
            let path = path.clone();
            move || {
                thread::sleep(Duration::from_millis(100));
                let mut bytes = Vec::new();
                File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).map(|_| bytes)
            }
        });
        let wanted: Vec<u8> = (0..300_000u32).map(|number| number as u8).collect();
        let mut writer = PipeWriter::open(&path).expect("a reader");
        writer.write_all(&wanted).expect("it reads");
        drop(writer);
        assert!(reader.join().expect("no panic").expect("readable") == wanted);
    }

    #[test]
    fn a_reader_that_does_not_read_is_given_up_after_a_signal() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = pipe(&folder);
        // Opened for both, so that it does not wait for this writer.
        let _reader = OpenOptions::new().read(true).write(true).open(&path).expect("own pipe");
        let hurry = Arc::new(AtomicBool::new(false));
        let mut writer =
            PipeWriter::open_within(&path, Duration::ZERO, Arc::clone(&hurry)).expect("a reader");
        let writing = thread::spawn(move || writer.write_all(&vec![0; 1 << 20]));
        thread::sleep(Duration::from_millis(100));
        assert!(!writing.is_finished(), "it waits for the reader");
        hurry.store(true, Ordering::Relaxed);
        let error = writing.join().expect("no panic").expect_err("nobody reads");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }
}
