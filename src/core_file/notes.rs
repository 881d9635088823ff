//! The notes of a core (`struct elf_prstatus`, `struct elf_prpsinfo` of linux/elfcore.h; siginfo
//! of sigaction(2); NT_FILE of fs/binfmt_elf.c). All structures are those of 64-bit little-endian
//! processes.
//!
//! Not here: what the files and the memory hold.

use crate::arch::native;

const NT_PRSTATUS: u32 = 1;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_SIGINFO: u32 = 0x5349_4749;
const NT_FILE: u32 = 0x4649_4c45;

/// The most threads that are read: as many as Linux allows by default on large machines.
const MAX_THREADS: usize = 1 << 20;
/// The most mapped files that are read.
const MAX_FILES: usize = 1 << 20;

/// A thread of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreThread {
    /// Its number in the PID namespace of the process.
    pub tid: u32,
    /// The general registers, in the order of the kernel's regset NT_PRSTATUS.
    pub words: Vec<u64>,
    /// The signal that it got, or 0.
    pub signal: u16,
}

impl CoreThread {
    /// The number of the system call that it was in; `None`: in none, or the registers do not say.
    pub fn system_call(&self) -> Option<u64> {
        native::syscall_being_left(&self.words)
    }
}

/// The process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its number in its own PID namespace; 0: not known.
    pub pid: u32,
    /// The name of the thread that wrote the core, at most 15 bytes.
    pub name: Vec<u8>,
    /// The beginning of its command line, at most 79 bytes.
    pub command_line: Vec<u8>,
    /// Its real user ID.
    pub uid: u32,
}

/// The signal that ended the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalInfo {
    /// Its number.
    pub number: i32,
    /// `si_code`: who sent it, or which fault it was.
    pub code: i32,
    /// The address that the fault was at; of a signal that a process sent: that process's number.
    pub detail: u64,
}

/// A mapped part of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileRange {
    pub start: u64,
    pub end: u64,
    /// Offset in the file, in bytes.
    pub offset: u64,
    pub path: String,
}

/// The entries of the auxiliary vector that are used (getauxval(3)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Auxiliary {
    /// `AT_ENTRY`: the first instruction of the program.
    pub entry: Option<u64>,
    /// `AT_SYSINFO_EHDR`: the vDSO.
    pub vdso: Option<u64>,
}

/// The notes of a core.
#[derive(Debug, Default)]
pub(super) struct Notes {
    pub threads: Vec<CoreThread>,
    pub process: ProcessInfo,
    pub signal: Option<SignalInfo>,
    pub files: Vec<FileRange>,
    pub auxiliary: Auxiliary,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|word| u16::from_le_bytes(*word))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|word| u32::from_le_bytes(*word))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

/// The bytes up to a zero byte.
fn text_at(bytes: &[u8], at: usize, length: usize) -> Vec<u8> {
    let field = bytes.get(at..).map_or(&[][..], |rest| &rest[..rest.len().min(length)]);
    field.split(|byte| *byte == 0).next().unwrap_or_default().to_vec()
}

impl Notes {
    /// Parses the parts of the file that hold notes, as far as they go.
    pub fn parse<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Notes {
        let mut notes = Notes::default();
        for mut rest in parts {
            while let Some((kind, content, after)) = next_note(rest) {
                notes.add(kind, content);
                rest = after;
            }
        }
        if notes.process.pid == 0 {
            notes.process.pid = notes.threads.first().map_or(0, |thread| thread.tid);
        }
        // Without details. A debugger has stopped the process by a signal that ends none.
        let signal = notes.threads.first().map_or(0, |thread| thread.signal);
        notes.signal = notes.signal.filter(SignalInfo::ends_with_core);
        if notes.signal.is_none() && CORE_SIGNALS.contains(&i32::from(signal)) {
            notes.signal = Some(SignalInfo { number: i32::from(signal), code: 0, detail: 0 });
        }
        notes
    }

    fn add(&mut self, kind: u32, content: &[u8]) {
        match kind {
            NT_PRSTATUS if self.threads.len() < MAX_THREADS => self.threads.extend(thread(content)),
            NT_PRPSINFO => self.process = process(content).unwrap_or_default(),
            NT_SIGINFO => self.signal = signal(content).filter(|signal| signal.number != 0),
            NT_AUXV => self.auxiliary = auxiliary(content),
            NT_FILE => self.files = files(content),
            _ => {}
        }
    }
}

/// The first note of a section of notes: its type, its content, and what follows it. Only those of
/// the owner `CORE`; the others have the type 0.
fn next_note(bytes: &[u8]) -> Option<(u32, &[u8], &[u8])> {
    let (name_size, size, kind) = (u32_at(bytes, 0)? as usize, u32_at(bytes, 4)? as usize, u32_at(bytes, 8)?);
    let name = bytes.get(12..12usize.checked_add(name_size)?)?;
    let start = 12 + name_size.checked_next_multiple_of(4)?;
    let end = start.checked_add(size)?;
    // The last one may be truncated: what is there of a list of files is read.
    let content = bytes.get(start..end.min(bytes.len()))?;
    let after = end.checked_next_multiple_of(4).and_then(|end| bytes.get(end..)).unwrap_or_default();
    Some((if name.starts_with(b"CORE") { kind } else { 0 }, content, after))
}

fn thread(content: &[u8]) -> Option<CoreThread> {
    const SIGNAL: usize = 12;
    const PID: usize = 32;
    const REGISTERS: usize = 112;
    let words = (0..native::USER_REGS_WORDS).map(|at| u64_at(content, REGISTERS + at * 8));
    let words = words.collect::<Option<Vec<u64>>>()?;
    Some(CoreThread { tid: u32_at(content, PID)?, words, signal: u16_at(content, SIGNAL)? })
}

fn process(content: &[u8]) -> Option<ProcessInfo> {
    Some(ProcessInfo {
        uid: u32_at(content, 16)?,
        pid: u32_at(content, 24)?,
        name: text_at(content, 40, 16),
        command_line: text_at(content, 56, 80),
    })
}

fn signal(content: &[u8]) -> Option<SignalInfo> {
    let (number, code) = (u32_at(content, 0)? as i32, u32_at(content, 8)? as i32);
    Some(SignalInfo { number, code, detail: u64_at(content, 16).unwrap_or(0) })
}

fn auxiliary(content: &[u8]) -> Auxiliary {
    const AT_ENTRY: u64 = 9;
    const AT_SYSINFO_EHDR: u64 = 33;
    let pairs = content.as_chunks::<16>().0.iter();
    let of = |key: u64| {
        let found = pairs.clone().find(|pair| u64_at(&pair[..], 0) == Some(key))?;
        u64_at(found, 8)
    };
    Auxiliary { entry: of(AT_ENTRY), vdso: of(AT_SYSINFO_EHDR) }
}

/// A count and the size of a page; for each file start, end and offset in pages; then the paths.
fn files(content: &[u8]) -> Vec<FileRange> {
    let (Some(count), Some(page)) = (u64_at(content, 0), u64_at(content, 8)) else { return Vec::new() };
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(MAX_FILES).min(content.len() / 24);
    let mut paths = content.get(16 + count * 24..).unwrap_or_default().split(|byte| *byte == 0);
    let mut found = Vec::new();
    for at in (0..count).map(|index| 16 + index * 24) {
        let (Some(start), Some(end), Some(offset)) =
            (u64_at(content, at), u64_at(content, at + 8), u64_at(content, at + 16))
        else {
            break;
        };
        let Some(path) = paths.next().filter(|path| !path.is_empty()) else { break };
        if start < end {
            let (offset, path) = (offset.saturating_mul(page), String::from_utf8_lossy(path).into_owned());
            found.push(FileRange { start, end, offset, path });
        }
    }
    found.sort_by_key(|file| file.start);
    found
}

/// The signals that write a core (signal(7)): QUIT ILL TRAP ABRT BUS FPE SEGV XCPU XFSZ SYS.
const CORE_SIGNALS: [i32; 10] = [3, 4, 5, 6, 7, 8, 11, 24, 25, 31];

impl SignalInfo {
    fn ends_with_core(&self) -> bool {
        CORE_SIGNALS.contains(&self.number)
    }

    /// `SIGSEGV`, or `signal 40`.
    pub fn name(&self) -> String {
        nix::sys::signal::Signal::try_from(self.number)
            .map_or_else(|_| format!("signal {}", self.number), |signal| signal.as_str().to_owned())
    }

    /// Whether the CPU caused it, at an address.
    fn is_fault(&self) -> bool {
        // SIGILL SIGTRAP SIGBUS SIGFPE SIGSEGV; kernel codes are positive, SI_KERNEL has no address.
        const SI_KERNEL: i32 = 0x80;
        matches!(self.number, 4 | 5 | 7 | 8 | 11) && self.code > 0 && self.code != SI_KERNEL
    }
}

impl std::fmt::Display for SignalInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        /// `SI_USER` and `SI_TKILL`: kill(2) and tgkill(2).
        const SENT: [i32; 2] = [0, -6];
        f.write_str(&self.name())?;
        if self.is_fault() {
            write!(f, " at address {:#x}", self.detail)
        } else if SENT.contains(&self.code) && self.detail as u32 != 0 {
            write!(f, " from process {}", self.detail as u32)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(kind: u32, content: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [5u32, content.len() as u32, kind] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(b"CORE\0\0\0\0");
        bytes.extend(content);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn status(tid: u32, signal: u16) -> Vec<u8> {
        let mut content = vec![0; 112 + 8 * native::USER_REGS_WORDS];
        content[12..14].copy_from_slice(&signal.to_le_bytes());
        content[32..36].copy_from_slice(&tid.to_le_bytes());
        content[112..120].copy_from_slice(&7u64.to_le_bytes());
        note(NT_PRSTATUS, &content)
    }

    fn file_list() -> Vec<u8> {
        let mut content = Vec::new();
        for word in [2u64, 4096, 0x1000, 0x3000, 0, 0x5000, 0x6000, 3] {
            content.extend(word.to_le_bytes());
        }
        content.extend(b"/bin/a\0/lib/b c.so\0");
        content
    }

    #[test]
    fn threads_files_and_the_signal_are_read() {
        let mut info = vec![0; 136];
        info[24] = 9;
        info[40..44].copy_from_slice(b"name");
        let mut fault = vec![0; 128];
        (fault[0], fault[8], fault[16]) = (11, 1, 0x10);
        let bytes = [
            status(9, 11),
            note(NT_PRPSINFO, &info),
            note(NT_SIGINFO, &fault),
            note(NT_FILE, &file_list()),
            status(10, 0),
        ]
        .concat();
        let notes = Notes::parse([&bytes[..]].into_iter());
        let threads: Vec<_> = notes.threads.iter().map(|thread| (thread.tid, thread.words[0])).collect();
        assert_eq!(
            (threads, notes.process.pid, &notes.process.name[..]),
            (vec![(9, 7), (10, 7)], 9, &b"name"[..])
        );
        assert_eq!(notes.signal.map(|signal| signal.to_string()).as_deref(), Some("SIGSEGV at address 0x10"));
        let files: Vec<_> =
            notes.files.iter().map(|file| (file.start, file.offset, file.path.as_str())).collect();
        assert_eq!(files, [(0x1000, 0, "/bin/a"), (0x5000, 3 * 4096, "/lib/b c.so")]);
    }

    #[test]
    fn notes_that_are_cut_short_are_read_as_far_as_they_go() {
        let bytes = [status(9, 6), note(NT_FILE, &file_list())].concat();
        for length in 0..bytes.len() {
            let notes = Notes::parse([&bytes[..length]].into_iter());
            assert!(notes.threads.len() <= 1 && notes.files.len() <= 2);
        }
        let notes = Notes::parse([&bytes[..bytes.len() - 13]].into_iter());
        // The path of the second file is missing.
        assert_eq!((notes.threads.len(), notes.files.len()), (1, 1));
        assert_eq!(notes.signal.map(|signal| signal.to_string()).as_deref(), Some("SIGABRT"));
    }
}
