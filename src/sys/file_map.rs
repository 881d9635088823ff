//! Read-only maps of the target's files that stay readable if the file is truncated.
//!
//! Reading a page of a mapped file that no longer exists raises SIGBUS. Other programs own these
//! files (a package upgrade may rewrite one in place), so a signal handler maps a page of zeros
//! there, and parsers report a malformed file. A SIGBUS at any other address gets the default
//! action.

use std::{
    fs::File,
    io,
    os::fd::AsRawFd,
    sync::{
        Once,
        atomic::{AtomicPtr, AtomicUsize, Ordering},
    },
};

use memmap2::Mmap;

/// Maps in one table.
const TABLE_SLOTS: usize = 4096;
/// Most maps at a time: half of what Linux allows a process by default (vm.max_map_count), so that
/// memory allocation does not fail when a target maps very many files.
const MAX_MAPS: usize = 32 << 10;

struct Guarded {
    start: AtomicUsize,
    end: AtomicUsize,
}

/// The maps the handler knows. Tables are added and never freed: the handler may read them at any
/// time.
struct Table {
    slots: [Guarded; TABLE_SLOTS],
    next: AtomicPtr<Table>,
}

impl Table {
    const fn new() -> Table {
        Table {
            slots: [const { Guarded { start: AtomicUsize::new(0), end: AtomicUsize::new(0) } }; TABLE_SLOTS],
            next: AtomicPtr::new(std::ptr::null_mut()),
        }
    }

    fn next(&self) -> Option<&'static Table> {
        // SAFETY: null, or a leaked table.
        unsafe { self.next.load(Ordering::SeqCst).as_ref() }
    }
}

static FIRST: Table = Table::new();
/// Where the search for a free slot begins.
static HINT: AtomicUsize = AtomicUsize::new(0);
static MAPS: AtomicUsize = AtomicUsize::new(0);
static INSTALL: Once = Once::new();

fn tables() -> impl Iterator<Item = &'static Table> {
    std::iter::successors(Some(&FIRST), |table| table.next())
}

/// The bytes of a file: mapped, or read.
pub struct FileMap {
    bytes: Bytes,
}

enum Bytes {
    Mapped { map: Mmap, slot: &'static Guarded },
    Owned(Vec<u8>),
}

impl FileMap {
    /// Maps a regular file. Errors: `InvalidInput` if it is not a regular file (a FIFO or device
    /// would block or have side effects), `UnexpectedEof` if it is empty, `QuotaExceeded` if too
    /// many files are mapped, else that of mmap(2).
    pub fn open(file: &File) -> io::Result<FileMap> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        if metadata.len() == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file is empty"));
        }
        INSTALL.call_once(install_handler);
        // SAFETY: the map is private and read-only. Other processes may change the file: the bytes
        // are only ever read as plain `u8`, and a page that vanishes is replaced by the handler.
        let map = unsafe { Mmap::map(file.as_raw_fd())? };
        let start = map.as_ptr() as usize;
        let slot = claim_slot(start, start + map.len()).ok_or(io::ErrorKind::QuotaExceeded)?;
        Ok(FileMap { bytes: Bytes::Mapped { map, slot } })
    }

    /// Wraps bytes that are already in memory (an ELF image read from a process).
    pub fn from_vec(bytes: Vec<u8>) -> FileMap {
        FileMap { bytes: Bytes::Owned(bytes) }
    }

    /// The content of the file.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped { map, .. } => map,
            Bytes::Owned(bytes) => bytes,
        }
    }

    /// Lets the kernel drop the pages read so far; they are read again when accessed. Keeps the
    /// resident size small after reading a large file once.
    pub fn release_pages(&self) {
        if let Bytes::Mapped { map, .. } = &self.bytes {
            // SAFETY: a private read-only file map: dropped pages are faulted in again unchanged.
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }
}

impl Drop for FileMap {
    fn drop(&mut self) {
        if let Bytes::Mapped { slot, .. } = self.bytes {
            slot.end.store(0, Ordering::SeqCst);
            slot.start.store(0, Ordering::SeqCst);
            MAPS.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl std::fmt::Debug for FileMap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "FileMap({} bytes)", self.bytes().len())
    }
}

/// `None` if too many files are mapped.
fn claim_slot(start: usize, end: usize) -> Option<&'static Guarded> {
    if MAPS.fetch_add(1, Ordering::SeqCst) >= MAX_MAPS {
        MAPS.fetch_sub(1, Ordering::SeqCst);
        return None;
    }
    let claim = |guarded: &&Guarded| {
        let free = guarded.start.compare_exchange(0, start, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if free {
            guarded.end.store(end, Ordering::SeqCst);
        }
        free
    };
    let from = HINT.fetch_add(1, Ordering::Relaxed) % TABLE_SLOTS;
    loop {
        let free = tables().find_map(|table| {
            let (before, after) = table.slots.split_at(from);
            after.iter().chain(before).find(claim)
        });
        if free.is_some() {
            return free;
        }
        add_table();
    }
}

/// Adds a table behind the last one; if another thread does it first, that one's is used.
fn add_table() {
    let last = tables().last().unwrap_or(&FIRST);
    let new = Box::into_raw(Box::new(Table::new()));
    let exchanged = last.next.compare_exchange(std::ptr::null_mut(), new, Ordering::SeqCst, Ordering::SeqCst);
    if exchanged.is_err() {
        // SAFETY: `new` comes from `Box::into_raw` and was not shared.
        drop(unsafe { Box::from_raw(new) });
    }
}

fn install_handler() {
    // SAFETY: the action is fully initialised; the handler only uses atomics, mmap(2) and
    // sigaction(2), which are async-signal-safe.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = on_sigbus as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        libc::sigemptyset(&mut action.sa_mask);
        libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut());
    }
}

extern "C" fn on_sigbus(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler; si_addr is set for
    // SIGBUS.
    let address = unsafe { (*info).si_addr() } as usize;
    let ours = tables().flat_map(|table| &table.slots).any(|guarded| {
        let start = guarded.start.load(Ordering::SeqCst);
        start != 0 && start <= address && address < guarded.end.load(Ordering::SeqCst)
    });
    // SAFETY: MAP_FIXED replaces only the one page at the fault, inside one of our own maps, which
    // stays mapped (to zeros) until memmap2 unmaps the range. Else the default action is restored
    // and the faulting instruction runs into it again.
    unsafe {
        let page = address & !(libc::sysconf(libc::_SC_PAGESIZE) as usize - 1);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        let laid = ours
            && libc::mmap(page as *mut libc::c_void, 1, libc::PROT_READ, flags, -1, 0) != libc::MAP_FAILED;
        if !laid {
            libc::signal(libc::SIGBUS, libc::SIG_DFL);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_that_is_truncated_while_mapped_reads_as_zeros() {
        let mut file = tempfile::tempfile().expect("temporary file");
        file.write_all(&[7; 3 * 4096]).expect("write");
        let map = FileMap::open(&file).expect("map");
        assert_eq!(map.bytes()[2 * 4096], 7);
        file.set_len(4096).expect("truncate");
        assert_eq!(map.bytes()[10], 7);
        assert_eq!(map.bytes()[2 * 4096], 0);
    }

    #[test]
    fn further_files_are_mapped_and_not_read_into_memory() {
        let file = tempfile::tempfile().expect("temporary file");
        file.set_len(4096).expect("resize");
        let maps: Vec<FileMap> = (0..TABLE_SLOTS + 100).map(|_| FileMap::open(&file).expect("map")).collect();
        assert!(maps.iter().all(|map| matches!(map.bytes, Bytes::Mapped { .. })));
        file.set_len(0).expect("truncate");
        assert!(maps.iter().all(|map| map.bytes()[10] == 0), "the handler knows all of them");
    }

    #[test]
    fn what_is_not_a_regular_file_is_refused() {
        let null = File::open("/dev/null").expect("/dev/null");
        assert_eq!(FileMap::open(&null).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let empty = tempfile::tempfile().expect("temporary file");
        assert_eq!(FileMap::open(&empty).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }
}
