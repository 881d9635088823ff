//! Opens files in a child process, because a file system may never answer (NFS without a server, a
//! FUSE program that hangs): a thread that waits for it cannot be ended, and a process with such a
//! thread cannot exit.
//!
//! The child resolves the path, checks that it is a regular file, and returns the descriptor; a
//! file on a file system that may hang is copied into a local file, so that reading it later cannot
//! hang. If the child does not answer in time it is abandoned. Not here: which paths are opened,
//! and when.

use std::{
    ffi::CString,
    fs::File,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
    time::{Duration, Instant},
};

use libc::c_int;

const PATH_BYTES: usize = 4096;
/// The child reports at least this often while it copies.
const COPY_STEP_BYTES: u64 = 4 << 20;
/// The whole copy of one file.
const COPY_WITHIN: Duration = Duration::from_secs(10);

/// `f_type` of file systems (statfs(2)) that wait for another program or machine: FUSE and
/// virtiofs, NFS, SMB, SMB 1, SMB 2, Ceph, 9P, AFS, kAFS, Lustre, OCFS2, GFS2, VirtualBox, Coda.
const REMOTE: [i64; 14] = [
    0x6573_5546,
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x00c3_6400,
    0x0102_1997,
    0x5346_414f,
    0x6b41_4653,
    0x0bd0_0bd0,
    0x7461_636f,
    0x0116_1970,
    0x786f_4256,
    0x7375_7245,
];

/// A regular file that was opened.
#[derive(Debug)]
pub struct Opened {
    /// The file, or a local copy of it.
    pub file: File,
    /// `st_dev` of the original.
    pub device: u64,
    /// `st_ino` of the original.
    pub inode: u64,
    /// `st_uid` of the original.
    pub uid: u32,
}

/// What to open.
#[derive(Debug)]
pub struct Path {
    /// The folder that is `/` for the path and for links in it (openat2(2), `RESOLVE_IN_ROOT`).
    /// `None`: rprof's own root, and magic links such as `/proc/PID/exe` are followed.
    pub root: Option<CString>,
    /// The path.
    pub path: CString,
    /// Whether the last component may be a link.
    pub follow: bool,
}

/// The child process.
#[derive(Debug)]
pub struct Opener {
    socket: OwnedFd,
    pid: libc::pid_t,
}

#[derive(Clone, Copy)]
#[repr(C)]
struct Request {
    limit_bytes: u64,
    has_root: u32,
    follow: u32,
    root: [u8; PATH_BYTES],
    path: [u8; PATH_BYTES],
}

#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Reply {
    device: u64,
    inode: u64,
    uid: u32,
    state: u32,
    errno: c_int,
    padding: u32,
}

/// A descriptor is attached.
const LOCAL: u32 = 1;
const COPYING: u32 = 2;
const COPIED: u32 = 3;
const FAILED: u32 = 4;

impl Opener {
    /// Starts the child. Errors: socketpair(2), fork(2).
    pub fn start() -> io::Result<Opener> {
        let mut ends: [RawFd; 2] = [-1; 2];
        // SAFETY: `ends` has room for the two descriptors; both are owned from here on.
        let (parent, child) = unsafe {
            let kind = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC;
            checked(libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()))?;
            (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1]))
        };
        // SAFETY: the child only calls `serve`, which uses nothing but async-signal-safe functions
        // and its own stack.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            // SAFETY: this is the child, right after fork(2).
            0 => unsafe { serve(child.as_raw_fd()) },
            pid => Ok(Opener { socket: parent, pid }),
        }
    }

    /// Opens a regular file. `copy`: an empty file that receives the content if the file system may
    /// hang; `limit_bytes`: the most that is copied; `within`: how long an answer may take. Errors:
    /// `TimedOut` (the opener cannot be used any more), `InvalidInput` for what is not a regular
    /// file, `FileTooLarge`, and those of open(2) and read(2).
    pub fn open(&self, path: &Path, copy: File, limit_bytes: u64, within: Duration) -> io::Result<Opened> {
        let request = Request {
            limit_bytes,
            has_root: path.root.is_some().into(),
            follow: path.follow.into(),
            root: padded(path.root.as_ref())?,
            path: padded(Some(&path.path))?,
        };
        send(self.socket.as_raw_fd(), bytes_of(&request), Some(copy.as_raw_fd()))?;
        let end = Instant::now() + COPY_WITHIN;
        loop {
            if !is_readable(self.socket.as_raw_fd(), within)? || Instant::now() > end {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let mut reply = Reply::default();
            let file = receive(self.socket.as_raw_fd(), &mut reply)?;
            let opened = |file| Opened { file, device: reply.device, inode: reply.inode, uid: reply.uid };
            match (reply.state, file) {
                (LOCAL, Some(file)) => return Ok(opened(file.into())),
                (COPYING, _) => {}
                (COPIED, _) => return Ok(opened(copy)),
                _ => return Err(io::Error::from_raw_os_error(reply.errno)),
            }
        }
    }
}

impl Drop for Opener {
    fn drop(&mut self) {
        // SAFETY: our own child. It may not be able to end; then init inherits it.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), libc::WNOHANG);
        }
    }
}

fn padded(text: Option<&CString>) -> io::Result<[u8; PATH_BYTES]> {
    let mut bytes = [0; PATH_BYTES];
    let text = text.map_or(&[][..], |text| text.as_bytes());
    // One zero must remain at the end.
    let room = bytes.get_mut(..text.len()).filter(|room| room.len() < PATH_BYTES);
    room.ok_or_else(|| io::Error::from_raw_os_error(libc::ENAMETOOLONG))?.copy_from_slice(text);
    Ok(bytes)
}

fn checked(result: c_int) -> io::Result<c_int> {
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn bytes_of<T: Copy>(value: &T) -> &[u8] {
    // SAFETY: `T` is one of the two `repr(C)` structs above, which have no padding.
    unsafe { std::slice::from_raw_parts(std::ptr::from_ref(value).cast(), size_of::<T>()) }
}

fn is_readable(socket: RawFd, within: Duration) -> io::Result<bool> {
    let end = Instant::now() + within;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let mut poll = libc::pollfd { fd: socket, events: libc::POLLIN, revents: 0 };
        // SAFETY: one valid pollfd.
        match checked(unsafe { libc::poll(&raw mut poll, 1, left.as_millis() as c_int) }) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted && !left.is_zero() => {}
            other => return other.map(|ready| ready > 0),
        }
    }
}

/// Room for one descriptor as ancillary data (cmsg(3)).
#[repr(C, align(8))]
struct Control([u8; 64]);

/// Sends one message, async-signal-safe.
fn send(socket: RawFd, bytes: &[u8], file: Option<RawFd>) -> io::Result<()> {
    let mut part = libc::iovec { iov_base: bytes.as_ptr() as *mut libc::c_void, iov_len: bytes.len() };
    let mut control = Control([0; 64]);
    // SAFETY: all pointers are to live locals; the control buffer has room for one header and one
    // descriptor and is aligned for it.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        if let Some(file) = file {
            message.msg_control = control.0.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
            std::ptr::write_unaligned(libc::CMSG_DATA(header).cast::<RawFd>(), file);
        }
        if libc::sendmsg(socket, &raw const message, libc::MSG_NOSIGNAL) == -1 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Receives one message of exactly the size of `into`, and the descriptor that came with it,
/// async-signal-safe. Errors: recvmsg(2); `UnexpectedEof` if the other end is closed.
fn receive<T: Copy>(socket: RawFd, into: &mut T) -> io::Result<Option<OwnedFd>> {
    let mut part = libc::iovec { iov_base: std::ptr::from_mut(into).cast(), iov_len: size_of::<T>() };
    let mut control = Control([0; 64]);
    // SAFETY: all pointers are to live locals; `T` is a `repr(C)` struct of integers, for which any
    // bytes are valid; a descriptor that arrives is owned by this process alone.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &raw mut part;
        message.msg_iovlen = 1;
        message.msg_control = control.0.as_mut_ptr().cast();
        message.msg_controllen = control.0.len() as _;
        let count = libc::recvmsg(socket, &raw mut message, libc::MSG_CMSG_CLOEXEC);
        if count == -1 {
            return Err(io::Error::last_os_error());
        }
        let header = libc::CMSG_FIRSTHDR(&raw const message);
        let has_file = !header.is_null() && (*header).cmsg_type == libc::SCM_RIGHTS;
        let file = has_file
            .then(|| OwnedFd::from_raw_fd(std::ptr::read_unaligned(libc::CMSG_DATA(header).cast::<RawFd>())));
        if count as usize != size_of::<T>() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(file)
    }
}

/// The child: serves requests until the parent closes its end.
///
/// # Safety
/// To be called after fork(2) in the child only. Nothing here allocates, locks or panics.
unsafe fn serve(socket: RawFd) -> ! {
    // SAFETY: plain system calls. Inherited descriptors are closed: an abandoned child must not
    // keep rprof's output or events open.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_IGN);
        libc::signal(libc::SIGTERM, libc::SIG_IGN);
        let null = libc::open(c"/dev/null".as_ptr(), libc::O_RDWR);
        libc::dup2(null, 1);
        libc::dup2(null, 2);
        libc::dup2(socket, 0);
        if libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0) != 0 {
            (3..4096).for_each(|descriptor| {
                libc::close(descriptor);
            });
        }
        loop {
            let mut request: Request = std::mem::zeroed();
            let Ok(Some(copy)) = receive(0, &mut request) else { libc::_exit(0) };
            let mut reply = Reply { state: FAILED, ..Reply::default() };
            let file = respond(&request, copy.as_raw_fd(), &mut reply);
            let sent = send(0, bytes_of(&reply), file.as_ref().map(AsRawFd::as_raw_fd));
            if sent.is_err() {
                libc::_exit(0);
            }
        }
    }
}

/// Fills in `reply`; returns a descriptor to be passed on.
fn respond(request: &Request, copy: RawFd, reply: &mut Reply) -> Option<OwnedFd> {
    let outcome = open_regular(request, reply).and_then(|(file, is_remote)| {
        if !is_remote {
            reply.state = LOCAL;
            return Ok(Some(file));
        }
        copy_content(file.as_raw_fd(), copy, request.limit_bytes)?;
        reply.state = COPIED;
        Ok(None)
    });
    outcome.unwrap_or_else(|errno| {
        reply.errno = errno;
        None
    })
}

fn last_errno() -> c_int {
    // SAFETY: the location is this thread's own.
    unsafe { *libc::__errno_location() }
}

fn owned(descriptor: i64) -> Result<OwnedFd, c_int> {
    if descriptor < 0 {
        return Err(last_errno());
    }
    // SAFETY: a descriptor that a system call has just returned.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}

/// Opens the path without opening the file (`O_PATH`), and the file only if it is a regular one:
/// opening a device or FIFO may block or have effects. Also whether its file system may hang.
fn open_regular(request: &Request, reply: &mut Reply) -> Result<(OwnedFd, bool), c_int> {
    let place = locate(request)?;
    // SAFETY: plain system calls on live locals.
    unsafe {
        let mut status: libc::stat = std::mem::zeroed();
        if libc::fstat(place.as_raw_fd(), &raw mut status) != 0 {
            return Err(last_errno());
        }
        match status.st_mode & libc::S_IFMT {
            libc::S_IFREG => {}
            libc::S_IFLNK => return Err(libc::ELOOP),
            _ => return Err(libc::EINVAL),
        }
        (reply.device, reply.inode, reply.uid) = (status.st_dev, status.st_ino, status.st_uid);
        let mut name = [0u8; 32];
        own_descriptor_path(place.as_raw_fd(), &mut name);
        let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_NONBLOCK;
        let file = owned(libc::open(name.as_ptr().cast(), flags).into())?;
        let mut system: libc::statfs = std::mem::zeroed();
        // A FUSE program need not implement statfs.
        let is_known = libc::fstatfs(file.as_raw_fd(), &raw mut system) == 0;
        Ok((file, !is_known || REMOTE.contains(&(system.f_type as u32).into())))
    }
}

/// A descriptor for the place (`O_PATH`).
fn locate(request: &Request) -> Result<OwnedFd, c_int> {
    let path = request.path.as_ptr().cast::<libc::c_char>();
    let follow = if request.follow == 0 { libc::O_NOFOLLOW } else { 0 };
    let flags = libc::O_PATH | libc::O_CLOEXEC | follow;
    // SAFETY: both paths end in a zero (see `padded`); `open_how` is the kernel's layout.
    unsafe {
        if request.has_root == 0 {
            return owned(libc::open(path, flags).into());
        }
        let folder = libc::O_PATH | libc::O_CLOEXEC | libc::O_DIRECTORY;
        let root = owned(libc::open(request.root.as_ptr().cast(), folder).into())?;
        let mut how: libc::open_how = std::mem::zeroed();
        how.flags = flags as u64;
        how.resolve = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;
        let found = libc::syscall(
            libc::SYS_openat2,
            root.as_raw_fd(),
            path,
            &raw const how,
            size_of::<libc::open_how>(),
        );
        match owned(found) {
            // Before Linux 5.6, or a seccomp filter that does not know the call.
            Err(libc::ENOSYS | libc::EPERM) => {
                let leading = request.path.iter().take_while(|byte| **byte == b'/').count();
                owned(libc::openat(root.as_raw_fd(), path.add(leading), flags).into())
            }
            other => other,
        }
    }
}

/// `/proc/self/fd/N`, ended by a zero, without allocating.
fn own_descriptor_path(descriptor: RawFd, into: &mut [u8; 32]) {
    const START: &[u8] = b"/proc/self/fd/";
    into[..START.len()].copy_from_slice(START);
    let (mut digits, mut count, mut rest) = ([0u8; 10], 0, descriptor.unsigned_abs());
    loop {
        digits[count] = b'0' + (rest % 10) as u8;
        (count, rest) = (count + 1, rest / 10);
        if rest == 0 {
            break;
        }
    }
    for (at, digit) in digits[..count].iter().rev().enumerate() {
        into[START.len() + at] = *digit;
    }
}

fn copy_content(from: RawFd, to: RawFd, limit_bytes: u64) -> Result<(), c_int> {
    let mut buffer = [0u8; 64 << 10];
    let (mut copied, mut reported) = (0u64, 0u64);
    loop {
        // SAFETY: the buffer is live and as long as stated.
        let count = unsafe { libc::read(from, buffer.as_mut_ptr().cast(), buffer.len()) };
        match count {
            0 => return Ok(()),
            ..0 if last_errno() == libc::EINTR => continue,
            ..0 => return Err(last_errno()),
            _ => {}
        }
        copied += count as u64;
        if copied > limit_bytes {
            return Err(libc::EFBIG);
        }
        let mut written = 0;
        while written < count {
            // SAFETY: `written..count` is inside the buffer.
            let now = unsafe {
                libc::write(to, buffer.as_ptr().add(written as usize).cast(), (count - written) as usize)
            };
            if now <= 0 {
                return Err(last_errno());
            }
            written += now;
        }
        if copied - reported >= COPY_STEP_BYTES {
            reported = copied;
            let progress = Reply { state: COPYING, ..Reply::default() };
            send(0, bytes_of(&progress), None).map_err(|_| libc::EPIPE)?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::unix::ffi::OsStrExt};

    use super::*;

    const WITHIN: Duration = Duration::from_secs(20);

    fn open(opener: &Opener, root: Option<&std::path::Path>, path: &std::path::Path) -> io::Result<Opened> {
        let text = |path: &std::path::Path| CString::new(path.as_os_str().as_bytes()).expect("no zero");
        let path = Path { root: root.map(text), path: text(path), follow: true };
        opener.open(&path, tempfile::tempfile().expect("temporary file"), 1 << 20, WITHIN)
    }

    #[test]
    fn the_child_opens_regular_files_only_and_stays_in_the_root() {
        let folder = tempfile::tempdir().expect("temporary folder");
        std::fs::write(folder.path().join("real"), "inside").expect("write");
        std::os::unix::fs::symlink("/real", folder.path().join("link")).expect("symlink");
        let fifo = folder.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
        let opener = Opener::start().expect("a child");
        let mut text = String::new();
        let mut opened = open(&opener, Some(folder.path()), "/link".as_ref()).expect("opened");
        opened.file.read_to_string(&mut text).expect("read");
        assert_eq!(text, "inside");
        let kind = |opened: io::Result<Opened>| opened.expect_err("refused").kind();
        assert_eq!(kind(open(&opener, None, &fifo)), io::ErrorKind::InvalidInput);
        assert_eq!(kind(open(&opener, None, "/dev/null".as_ref())), io::ErrorKind::InvalidInput);
        assert_eq!(kind(open(&opener, None, "/nowhere".as_ref())), io::ErrorKind::NotFound);
        assert!(open(&opener, None, "/proc/self/exe".as_ref()).is_ok(), "it serves many requests");
    }

    #[test]
    fn a_child_that_does_not_answer_is_an_error_after_the_deadline() {
        let opener = Opener::start().expect("a child");
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(opener.pid), nix::sys::signal::Signal::SIGSTOP)
            .expect("stop it");
        let path = Path { root: None, path: c"/proc/self/exe".into(), follow: true };
        let copy = tempfile::tempfile().expect("temporary file");
        let error = opener.open(&path, copy, 1 << 20, Duration::from_millis(50)).expect_err("no answer");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn a_copy_has_the_content_and_is_limited() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        let content: Vec<u8> = (0..200_000u32).map(|at| at as u8).collect();
        std::fs::write(&from, &content).expect("write");
        let source = File::open(&from).expect("open");
        let target = File::create(&to).expect("create");
        copy_content(source.as_raw_fd(), target.as_raw_fd(), 1 << 20).expect("copied");
        assert_eq!(std::fs::read(&to).expect("read"), content);
        let source = File::open(&from).expect("open");
        assert_eq!(copy_content(source.as_raw_fd(), target.as_raw_fd(), 1000), Err(libc::EFBIG));
    }
}
