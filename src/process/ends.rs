//! The other ends of what processes wait for: who else has a pipe or the peer of a socket open, who
//! holds a file lock. Sources: /proc/PID/fd, /proc/PID/fdinfo, /proc/PID/net/tcp, /proc/locks
//! (proc(5)), sock_diag(7).

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::FileTypeExt,
};

use crate::sys::{proc::read_text, sock_diag};

/// The most descriptors that are read in all processes.
const MAX_DESCRIPTORS: usize = 1_000_000;
/// The most bytes of a table of /proc that are parsed.
const MAX_TABLE_BYTES: usize = 32 << 20;

/// What a descriptor refers to, as /proc/PID/fd shows it: `pipe:[123]`, `socket:[124]`, a path.
pub fn link(pid: u32, descriptor: u32) -> Option<String> {
    Some(fs::read_link(format!("/proc/{pid}/fd/{descriptor}")).ok()?.to_string_lossy().into_owned())
}

/// Whether a descriptor refers to a pipe or FIFO.
pub fn is_pipe(pid: u32, descriptor: u32) -> bool {
    fs::metadata(format!("/proc/{pid}/fd/{descriptor}")).is_ok_and(|file| file.file_type().is_fifo())
}

/// The inode number in `socket:[124]`.
pub fn socket_inode(link: &str) -> Option<u32> {
    link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// A process that has a file open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opener {
    /// The process.
    pub pid: u32,
    /// The descriptor.
    pub descriptor: u32,
    /// It may read.
    pub reads: bool,
    /// It may write.
    pub writes: bool,
}

/// The processes that have files open.
#[derive(Debug, Default)]
pub struct Openers {
    /// By link, as in /proc/PID/fd.
    pub by_link: HashMap<String, Vec<Opener>>,
    /// Whether the descriptors of every process were read.
    pub complete: bool,
}

/// Searches all processes for descriptors with these links.
pub fn openers(links: &HashSet<String>) -> Openers {
    let mut found = Openers { by_link: HashMap::new(), complete: true };
    let mut left = MAX_DESCRIPTORS;
    for pid in pids() {
        let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else {
            found.complete &= is_without_descriptors(pid);
            continue;
        };
        for entry in entries.flatten() {
            let Some(next) = left.checked_sub(1) else {
                found.complete = false;
                return found;
            };
            left = next;
            let Ok(target) = fs::read_link(entry.path()) else { continue };
            let Some(link) = target.to_str().filter(|link| links.contains(*link)) else { continue };
            let Some(descriptor) = entry.file_name().to_str().and_then(|text| text.parse().ok()) else {
                continue;
            };
            let (reads, writes) = access(pid, descriptor);
            let opener = Opener { pid, descriptor, reads, writes };
            found.by_link.entry(link.to_owned()).or_default().push(opener);
        }
    }
    found
}

/// A process that has ended meanwhile, a zombie or a kernel thread.
fn is_without_descriptors(pid: u32) -> bool {
    match super::identity::read_stat(pid) {
        Ok(stat) => stat.is_over() || fs::read_link(format!("/proc/{pid}/exe")).is_err_and(is_missing),
        Err(_) => true,
    }
}

fn is_missing(error: std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::NotFound
}

fn pids() -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Whether a descriptor may read and write (`flags` of /proc/PID/fdinfo, octal). Both, if unknown.
fn access(pid: u32, descriptor: u32) -> (bool, bool) {
    let text = read_text(format!("/proc/{pid}/fdinfo/{descriptor}")).unwrap_or_default();
    let flags = text.lines().find_map(|line| line.strip_prefix("flags:"));
    match flags.and_then(|text| u32::from_str_radix(text.trim(), 8).ok()).map(|flags| flags & 3) {
        Some(0) => (true, false),
        Some(1) => (false, true),
        _ => (true, true),
    }
}

/// The inodes of the sockets connected to sockets of this machine.
#[derive(Debug, Default)]
pub struct SocketPeers {
    unix: HashMap<u32, u32>,
    tcp: HashMap<u32, u32>,
}

impl SocketPeers {
    /// Reads the tables of the network namespace of a process.
    pub fn read(pid: u32) -> SocketPeers {
        let table = |name: &str| {
            let text = read_text(format!("/proc/{pid}/net/{name}")).unwrap_or_default();
            text.get(..MAX_TABLE_BYTES).map(str::to_owned).unwrap_or(text)
        };
        let mut tcp = tcp_peers(&table("tcp"));
        tcp.extend(tcp_peers(&table("tcp6")));
        SocketPeers { unix: sock_diag::unix_peers().unwrap_or_default(), tcp }
    }

    /// The inode of the socket that is connected to this one, and the protocol.
    pub fn of(&self, inode: u32) -> Option<(u32, &'static str)> {
        let unix = self.unix.get(&inode).map(|peer| (*peer, "unix socket"));
        unix.or_else(|| self.tcp.get(&inode).map(|peer| (*peer, "TCP connection")))
    }
}

/// Pairs of sockets of a table /proc/net/tcp whose addresses are each other's.
fn tcp_peers(text: &str) -> HashMap<u32, u32> {
    let rows: Vec<(&str, &str, u32)> = text.lines().filter_map(tcp_row).collect();
    let by_addresses: HashMap<(&str, &str), u32> =
        rows.iter().map(|(local, remote, inode)| ((*local, *remote), *inode)).collect();
    let peer = |(local, remote, inode): &(&str, &str, u32)| {
        Some((*inode, *by_addresses.get(&(*remote, *local))?)).filter(|(one, other)| one != other)
    };
    rows.iter().filter_map(peer).collect()
}

/// Local and remote address and the inode of an established connection.
fn tcp_row(line: &str) -> Option<(&str, &str, u32)> {
    const ESTABLISHED: &str = "01";
    let mut words = line.split_ascii_whitespace();
    let (local, remote, state) = (words.nth(1)?, words.next()?, words.next()?);
    let inode = words.nth(5)?.parse().ok().filter(|inode| *inode != 0)?;
    (state == ESTABLISHED).then_some((local, remote, inode))
}

/// The children of a process that have not ended.
pub fn children(pid: u32) -> Vec<u32> {
    let is_child = |child: &u32| {
        super::identity::read_stat(*child).is_ok_and(|stat| stat.parent_pid == pid && !stat.is_over())
    };
    pids().into_iter().filter(is_child).collect()
}

/// The processes that hold the file locks which other processes wait for, by waiting process.
pub fn file_lock_holders() -> HashMap<u32, Vec<u32>> {
    blocked_locks(&read_text("/proc/locks").unwrap_or_default())
}

/// Parses /proc/locks: the lines of waiting locks, with `->`, follow that of the lock that they
/// wait for. A process ID of -1 or 0 (a lock that no process owns, or of another PID namespace) is
/// left out.
fn blocked_locks(text: &str) -> HashMap<u32, Vec<u32>> {
    let mut holder = None;
    let mut found: HashMap<u32, Vec<u32>> = HashMap::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace().skip(1).peekable();
        let waits = words.next_if(|word| *word == "->").is_some();
        let pid = words.nth(3).and_then(|word| word.parse::<u32>().ok()).filter(|pid| *pid != 0);
        match (waits, pid, holder) {
            (false, ..) => holder = pid,
            (true, Some(waiter), Some(holder)) => found.entry(waiter).or_default().push(holder),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn waiting_locks_follow_the_lock_that_they_wait_for() {
        let text = "\
1: POSIX  ADVISORY  WRITE 700 fe:01:55 0 EOF
1: -> POSIX  ADVISORY  WRITE 701 fe:01:55 0 EOF
1: -> POSIX  ADVISORY  READ 702 fe:01:55 0 EOF
2: FLOCK  ADVISORY  WRITE 701 fe:01:56 0 EOF
2: -> FLOCK  ADVISORY  WRITE 700 fe:01:56 0 EOF
3: OFDLCK ADVISORY  WRITE -1 fe:01:57 0 EOF
3: -> OFDLCK ADVISORY  WRITE 703 fe:01:57 0 EOF
";
        let found = blocked_locks(text);
        assert_eq!((&found[&701], &found[&702], &found[&700]), (&vec![700], &vec![700], &vec![701]));
        assert_eq!(found.get(&703), None);
    }

    #[test]
    fn tcp_sockets_with_mirrored_addresses_are_peers() {
        let text =
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 10 1
   1: 0100007F:1F90 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 11 1
   2: 0100007F:D431 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 12 1
   3: 0100007F:D439 0B00007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 13 1
";
        assert_eq!(tcp_peers(text), HashMap::from([(11, 12), (12, 11)]));
    }

    #[test]
    fn the_process_that_has_a_pipe_open_is_found_with_its_access() {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        use std::os::fd::AsRawFd;
        let me = std::process::id();
        let name = link(me, reader.as_raw_fd() as u32).expect("a link");
        assert!(name.starts_with("pipe:[") && is_pipe(me, writer.as_raw_fd() as u32));
        let found = openers(&HashSet::from([name.clone()]));
        let mine: Vec<_> = found.by_link[&name].iter().filter(|opener| opener.pid == me).collect();
        assert_eq!(mine.iter().filter(|opener| opener.reads && !opener.writes).count(), 1);
        assert_eq!(mine.iter().filter(|opener| opener.writes && !opener.reads).count(), 1);
    }

    proptest! {
        #[test]
        fn arbitrary_tables_never_panic(text in "[ -~\n]{0,200}") {
            let _ = (blocked_locks(&text), tcp_peers(&text), socket_inode(&text));
        }
    }
}
