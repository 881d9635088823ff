//! The commands of bpf(2) that load and attach a program, the kernel's type information (BTF), and
//! waiting for BPF rings.
//!
//! Not here: maps and rings (the crate `aya` creates and reads them), and what programs do.

use std::{
    ffi::CStr,
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    time::Duration,
};

use memmap2::{Mmap, MmapOptions};
use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit, setrlimit};

/// `BPF_PROG_LOAD` of `enum bpf_cmd` (linux/bpf.h).
const PROG_LOAD: libc::c_long = 5;
/// `BPF_MAP_UPDATE_ELEM`.
const MAP_UPDATE_ELEM: libc::c_long = 2;
/// `BPF_OBJ_GET_INFO_BY_FD`.
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
/// `BPF_PROG_TEST_RUN`.
const PROG_TEST_RUN: libc::c_long = 10;
/// `BPF_MAP_FREEZE`.
const MAP_FREEZE: libc::c_long = 22;
/// `BPF_RAW_TRACEPOINT_OPEN`.
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
/// Size of the buffer for the verifier's log of a refused program: at first, and at most.
const LOG_BYTES: usize = 1 << 20;
const MAX_LOG_BYTES: usize = 64 << 20;

/// The kinds of program that rprof loads (`enum bpf_prog_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ProgramKind {
    /// Runs at each overflow of a perf event.
    PerfEvent = 7,
    /// Runs at a tracepoint, with untyped arguments.
    RawTracepoint = 17,
    /// Runs at a tracepoint with typed arguments, or in an iterator.
    Tracing = 26,
}

/// `BPF_TRACE_RAW_TP` and `BPF_TRACE_ITER` of `enum bpf_attach_type`.
const TRACE_RAW_TRACEPOINT: u32 = 23;
const TRACE_ITER: u32 = 28;
/// `BPF_LINK_CREATE` and `BPF_ITER_CREATE` of `enum bpf_cmd`.
const LINK_CREATE: libc::c_long = 28;
const ITER_CREATE: libc::c_long = 33;

/// An instruction: `struct bpf_insn` as its eight bytes.
pub type Instruction = [u8; 8];

/// The part of `union bpf_attr` that BPF_PROG_LOAD has read since Linux 5.5.
#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    network_device: u32,
    attach_type: u32,
    /// Descriptor of the program's own BTF, its functions and lines: not given.
    btf: [u32; 2],
    functions: u64,
    function_count: u32,
    line_size: u32,
    lines: u64,
    line_count: u32,
    attach_btf_id: u32,
}

/// The part of `union bpf_attr` that BPF_LINK_CREATE reads for an iterator.
#[repr(C)]
#[derive(Default)]
struct LinkAttr {
    program: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
    iterator: u64,
    iterator_size: u32,
    padding: u32,
}

/// The part of `union bpf_iter_link_info` for threads (Linux 6.1).
#[repr(C)]
#[derive(Default)]
struct ThreadsOf {
    tid: u32,
    pid: u32,
    pid_descriptor: u32,
    padding: u32,
}

/// The part of `union bpf_attr` that BPF_RAW_TRACEPOINT_OPEN reads.
#[repr(C)]
struct RawTracepointAttr {
    name: u64,
    program: u32,
    padding: u32,
}

/// The part of `union bpf_attr` that BPF_PROG_TEST_RUN has read since Linux 5.11.
#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    program: u32,
    return_value: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
}

/// The part of `union bpf_attr` that BPF_MAP_UPDATE_ELEM reads.
#[repr(C)]
struct ElementAttr {
    map: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part of `union bpf_attr` that BPF_OBJ_GET_INFO_BY_FD reads.
#[repr(C)]
struct InfoAttr {
    descriptor: u32,
    info_bytes: u32,
    info: u64,
}

/// The beginning of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct MapInfo {
    kind: u32,
    id: u32,
    key_bytes: u32,
    value_bytes: u32,
}

/// Why a program was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// bpf(2) failed before the verifier read the program: rights, or no such command or kind.
    #[error(transparent)]
    System(#[from] io::Error),
    /// The verifier refused the program.
    #[error("{source}: {}", log_end(log))]
    Verifier {
        /// What bpf(2) returned.
        source: io::Error,
        /// The verifier's whole log: each instruction that it followed, then its reason.
        log: String,
    },
}

/// Loads a program, under a name of at most 15 bytes. Errors: see [`LoadError`].
pub fn load_program(
    kind: ProgramKind,
    name: &str,
    instructions: &[Instruction],
    license: &CStr,
) -> Result<OwnedFd, LoadError> {
    load_attached(kind, name, instructions, license, (0, 0))
}

/// Loads a program for a tracepoint with typed arguments; `tracepoint` is the ID of its type
/// (`btf_trace_sched_switch`) in the kernel's BTF (Linux 5.5). Errors: as [`load_program`].
pub fn load_typed_tracepoint(
    name: &str,
    instructions: &[Instruction],
    license: &CStr,
    tracepoint: u32,
) -> Result<OwnedFd, LoadError> {
    load_attached(ProgramKind::Tracing, name, instructions, license, (TRACE_RAW_TRACEPOINT, tracepoint))
}

/// Loads a program that is called for each object that a kernel iterator visits; `iterator` is the
/// ID of its function (`bpf_iter_task`) in the kernel's BTF (Linux 5.8). Errors: as
/// [`load_program`].
pub fn load_iterator_program(
    name: &str,
    instructions: &[Instruction],
    license: &CStr,
    iterator: u32,
) -> Result<OwnedFd, LoadError> {
    load_attached(ProgramKind::Tracing, name, instructions, license, (TRACE_ITER, iterator))
}

fn load_attached(
    kind: ProgramKind,
    name: &str,
    instructions: &[Instruction],
    license: &CStr,
    to: (u32, u32),
) -> Result<OwnedFd, LoadError> {
    let first = match try_load(kind, name, instructions, license, to, &mut []) {
        Ok(program) => return Ok(program),
        // No rights, or no such kind: the verifier has not read it.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EPERM | libc::ENOSYS)) => {
            return Err(error.into());
        }
        Err(error) => error,
    };
    let mut log = vec![0; LOG_BYTES];
    loop {
        match try_load(kind, name, instructions, license, to, &mut log) {
            Ok(program) => return Ok(program),
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && log.len() < MAX_LOG_BYTES => {
                log = vec![0; log.len() * 4];
            }
            Err(_) => return Err(LoadError::Verifier { source: first, log: log_text(&log) }),
        }
    }
}

fn try_load(
    kind: ProgramKind,
    name: &str,
    instructions: &[Instruction],
    license: &CStr,
    (attach_type, attach_btf_id): (u32, u32),
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let mut attr = LoadAttr {
        kind: kind as u32,
        instruction_count: u32::try_from(instructions.len()).map_err(io::Error::other)?,
        instructions: instructions.as_ptr() as u64,
        license: license.as_ptr() as u64,
        attach_type,
        attach_btf_id,
        ..Default::default()
    };
    for (to, from) in attr.name.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    if !log.is_empty() {
        attr.log_level = 1;
        attr.log_size = u32::try_from(log.len()).map_err(io::Error::other)?;
        attr.log = log.as_mut_ptr() as u64;
    }
    // SAFETY: `attr` is of the size given; its pointers are to slices and a string that live
    // through the call, with their lengths beside them. Only `log` is written to, and it is
    // borrowed mutably.
    unsafe { bpf_opening(PROG_LOAD, &mut attr) }
}

fn log_text(log: &[u8]) -> String {
    let text = log.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

/// The last line of the verifier's log that is not a statistic: why it refused the program.
fn log_end(log: &str) -> &str {
    let mut lines = log.lines().rev().filter(|line| !line.starts_with("processed "));
    lines.next().unwrap_or("the verifier gives no reason")
}

/// Attaches a program to a tracepoint (`sched_process_fork`) until the returned descriptor is
/// closed. Other users of the tracepoint are not affected. Errors: bpf(2).
pub fn attach_raw_tracepoint(name: &CStr, program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let program = program.as_raw_fd() as u32;
    let mut attr = RawTracepointAttr { name: name.as_ptr() as u64, program, padding: 0 };
    // SAFETY: `attr` is of the size given; the name is a string that lives through the call.
    unsafe { bpf_opening(RAW_TRACEPOINT_OPEN, &mut attr) }
}

/// Attaches a program of [`load_typed_tracepoint`] to its tracepoint, like
/// [`attach_raw_tracepoint`].
pub fn attach_typed_tracepoint(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut attr = RawTracepointAttr { name: 0, program: program.as_raw_fd() as u32, padding: 0 };
    // SAFETY: `attr` is of the size given and holds no pointer.
    unsafe { bpf_opening(RAW_TRACEPOINT_OPEN, &mut attr) }
}

/// Opens an iterator program over the threads of a process (by its PID in rprof's namespace):
/// reading the returned file runs the program and returns what it writes. Kernels before 6.1 visit
/// every thread of the machine. Errors: bpf(2).
pub fn iterate_threads(program: BorrowedFd<'_>, pid: u32) -> io::Result<File> {
    let only = ThreadsOf { pid, ..Default::default() };
    let mut attr =
        LinkAttr { program: program.as_raw_fd() as u32, attach_type: TRACE_ITER, ..Default::default() };
    let mut limited = LinkAttr {
        iterator: &raw const only as u64,
        iterator_size: size_of::<ThreadsOf>() as u32,
        ..LinkAttr { program: attr.program, attach_type: TRACE_ITER, ..Default::default() }
    };
    // SAFETY: `limited` is of the size given; its pointer is to `only`, which lives through the
    // call.
    let link = match unsafe { bpf_opening(LINK_CREATE, &mut limited) } {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::E2BIG)) => {
            // SAFETY: `attr` is of the size given and holds no pointer.
            unsafe { bpf_opening(LINK_CREATE, &mut attr) }?
        }
        link => link?,
    };
    let mut attr = [link.as_raw_fd() as u32, 0];
    // SAFETY: the command reads a descriptor and flags, which `attr` is.
    unsafe { bpf_opening(ITER_CREATE, &mut attr) }.map(File::from)
}

/// Runs a raw-tracepoint program once with these arguments and returns its result (Linux 5.10).
/// Errors: bpf(2).
pub fn run_raw_tracepoint(program: BorrowedFd<'_>, arguments: &[u64]) -> io::Result<u32> {
    let mut attr = TestRunAttr {
        program: program.as_raw_fd() as u32,
        context_size_in: u32::try_from(size_of_val(arguments)).map_err(io::Error::other)?,
        context_in: arguments.as_ptr() as u64,
        ..Default::default()
    };
    // SAFETY: `attr` is of the size given; its pointer is to a slice that lives through the call,
    // its size beside it, and is only read.
    unsafe { bpf(PROG_TEST_RUN, &mut attr) }?;
    Ok(attr.return_value)
}

/// Sets an element of a map whose values are the same for all CPUs; in a map of programs, the value
/// is a descriptor. Errors: `InvalidInput` if key or value do not have the map's sizes, else
/// bpf(2).
pub fn update_element(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    /// `BPF_MAP_TYPE_PERCPU_*`, whose values are larger than their size.
    const FOR_EACH_CPU: [u32; 4] = [5, 6, 10, 21];
    let mut info = MapInfo::default();
    let mut attr = InfoAttr {
        descriptor: map.as_raw_fd() as u32,
        info_bytes: size_of::<MapInfo>() as u32,
        info: &raw mut info as u64,
    };
    // SAFETY: `attr` is of the size given; its pointer is to `info`, which lives through the call,
    // with its size beside it.
    unsafe { bpf(OBJ_GET_INFO_BY_FD, &mut attr) }?;
    let expected = (info.key_bytes as usize, info.value_bytes as usize);
    if (key.len(), value.len()) != expected || FOR_EACH_CPU.contains(&info.kind) {
        let message = format!("the map's elements have {} and {} bytes", expected.0, expected.1);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut attr = ElementAttr {
        map: map.as_raw_fd() as u32,
        padding: 0,
        key: key.as_ptr() as u64,
        value: value.as_ptr() as u64,
        flags: 0,
    };
    // SAFETY: `attr` is of the size given; its pointers are to slices that live through the call,
    // are only read, and have the sizes of the map's keys and values, as just checked.
    unsafe { bpf(MAP_UPDATE_ELEM, &mut attr) }.map(drop)
}

/// Makes a map permanently read-only for user space (Linux 5.2). Errors: bpf(2).
pub fn freeze_map(map: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = map.as_raw_fd() as u32;
    // SAFETY: the command reads a descriptor number, which `attr` is.
    unsafe { bpf(MAP_FREEZE, &mut attr) }.map(drop)
}

/// bpf(2) for the commands that return a descriptor.
///
/// # Safety
/// `attr` must be laid out as the command reads it, and its pointers valid for what the command
/// does; the command must be one that returns a new descriptor.
unsafe fn bpf_opening<T>(command: libc::c_long, attr: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: the caller answers for `attr`, and for the descriptor: just made, for us alone.
    unsafe { bpf(command, attr).map(|fd| OwnedFd::from_raw_fd(fd)) }
}

/// bpf(2): what it returns, not negative.
///
/// # Safety
/// `attr` must be laid out as the command reads and writes it, and its pointers valid for what the
/// command does.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the caller answers for `attr`; the size is its own.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr as *mut T, size_of::<T>()) };
    match i32::try_from(result) {
        Ok(value @ 0..) => Ok(value),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether BPF maps and programs count as locked memory (RLIMIT_MEMLOCK): before Linux 5.11. Later
/// kernels charge the memory cgroup.
pub fn counts_as_locked_memory() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse::<u32>);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) < (5, 11)
}

/// Lifts the limit of locked memory where BPF counts as such, as far as rights go.
pub fn lift_locked_memory_limit() {
    if !counts_as_locked_memory() {
        return;
    }
    let limit = Resource::RLIMIT_MEMLOCK;
    let lifted = setrlimit(limit, RLIM_INFINITY, RLIM_INFINITY);
    if let (Err(_), Ok((_, hard))) = (lifted, getrlimit(limit)) {
        // If this is refused too, creating a map reports it.
        let _ = setrlimit(limit, hard, hard);
    }
}

/// The running kernel's BTF (kernel document bpf/btf), as bytes.
pub enum KernelBtf {
    /// Mapped (Linux 6.16).
    Mapped(Mmap),
    /// Read into memory.
    Owned(Vec<u8>),
}

impl KernelBtf {
    /// Opens /sys/kernel/btf/vmlinux. Errors: `NotFound` if the kernel was built without BTF.
    pub fn open() -> io::Result<KernelBtf> {
        const PATH: &str = "/sys/kernel/btf/vmlinux";
        let file = File::open(PATH)?;
        // SAFETY: a private, read-only map of memory that the running kernel never changes or takes
        // away. Kernels before 6.16 refuse it; the file is then read.
        match unsafe { MmapOptions::new().map_copy_read_only(file.as_raw_fd()) } {
            Ok(map) => Ok(KernelBtf::Mapped(map)),
            Err(_) => fs::read(PATH).map(KernelBtf::Owned),
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            KernelBtf::Mapped(map) => map,
            KernelBtf::Owned(bytes) => bytes,
        }
    }
}

/// Waits for a wake-up of one of several descriptors. Edge-triggered: data that is already there
/// does not end the wait, only a wake-up does, so the producer decides how often the reader runs.
#[derive(Debug)]
pub struct WakeUps {
    epoll: OwnedFd,
}

impl WakeUps {
    /// Has no descriptor yet. Errors: epoll_create1(2).
    pub fn new() -> io::Result<WakeUps> {
        // SAFETY: takes a flag and touches no memory of ours.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made this descriptor for us alone.
        Ok(WakeUps { epoll: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// Also waits for this descriptor, until it is closed. Errors: epoll_ctl(2).
    pub fn add(&self, fd: impl AsFd) -> io::Result<()> {
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
        let fd = fd.as_fd().as_raw_fd();
        // SAFETY: the event is a live local, only read.
        match unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Waits for a wake-up, a signal, or the end of `timeout` (in whole milliseconds, rounded up).
    /// Errors: epoll_wait(2).
    pub fn wait(&self, timeout: Duration) -> io::Result<()> {
        let milliseconds = i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX);
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        let room = events.len() as i32;
        // SAFETY: the kernel writes at most `room` events, which the array holds.
        let count =
            unsafe { libc::epoll_wait(self.epoll.as_raw_fd(), events.as_mut_ptr(), room, milliseconds) };
        match count {
            0.. => Ok(()),
            _ => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
                error => Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn the_reason_for_refusal_is_the_last_line_before_the_statistics() {
        let log = log_text(b"0: R1=ctx()\nR1 invalid mem access\nprocessed 1 insns\n\0\0");
        assert_eq!(log_end(&log), "R1 invalid mem access");
        assert_eq!(log_end(""), "the verifier gives no reason");
    }

    #[test]
    fn the_whole_log_of_a_refused_program_is_kept() {
        // r0 = *(r1 + 0): register 1 is the context, of which a raw tracepoint has no byte at -8.
        let read: Instruction = [0x79, 0x10, 0xf8, 0xff, 0, 0, 0, 0];
        let exit: Instruction = [0x95, 0, 0, 0, 0, 0, 0, 0];
        let loaded = load_program(ProgramKind::RawTracepoint, "refused", &[read, exit], c"GPL");
        match loaded {
            Err(LoadError::Verifier { log, .. }) => {
                assert!(log.contains("0: (79) r0 = *(u64 *)(r1 -8)"), "{log}");
                assert!(log_end(&log).contains("invalid bpf_context access"), "{log}");
            }
            Err(LoadError::System(error)) if error.raw_os_error() == Some(libc::EPERM) => {}
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn data_that_are_there_already_do_not_end_a_second_wait() {
        let (reader, writer) = io::pipe().expect("pipe");
        io::Write::write_all(&mut &writer, b"x").expect("write");
        let wake_ups = WakeUps::new().expect("epoll");
        wake_ups.add(&reader).expect("add");
        wake_ups.wait(Duration::from_secs(5)).expect("the first wait ends at once");
        let start = Instant::now();
        wake_ups.wait(Duration::from_millis(30)).expect("wait");
        assert!(start.elapsed() >= Duration::from_millis(30));
    }
}
