//! Waits that other processes can end: pipes, sockets, file locks, children.
//!
//! A process is one vertex, whose wait is that of all of its threads: it is blocked if all of them
//! are.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{
    build::Builder,
    graph::{Strength, VertexId},
    look::Call,
    model::{Holder, Vertex, VertexKind, Wait},
};
use crate::process::{
    comm,
    ends::{self, Opener, Openers, SocketPeers},
    threads,
};

/// The most processes that are added.
const MAX_PROCESSES: usize = 200;
/// The most threads of one process that are added.
const MAX_THREADS: usize = 512;
/// F_SETLKW of fcntl(2).
const F_SETLKW: u64 = 7;
/// F_OFD_SETLKW of fcntl(2).
const F_OFD_SETLKW: u64 = 38;
/// P_PID of waitid(2).
const P_PID: u64 = 1;

/// A wait whose other end is not known yet.
pub struct Pending {
    id: VertexId,
    pid: u32,
    end: End,
}

enum End {
    /// The link of a pipe, whether the thread reads, and its descriptor.
    Pipe(String, bool, u32),
    /// The inode of a socket, whether the thread reads, and its descriptor.
    Socket(u32, bool, u32),
    /// A lock of a file.
    FileLock(String),
    /// A child, or any child.
    Child(Option<u32>),
}

/// The wait of a system call that another process may end; `None`: it is none.
pub fn pending(id: VertexId, pid: u32, call: &Call) -> Option<Pending> {
    let end = match call.name {
        "read" | "readv" | "recvfrom" | "recvmsg" | "recvmmsg" => file_end(pid, call.arguments[0], true),
        "write" | "writev" | "sendto" | "sendmsg" | "sendmmsg" => file_end(pid, call.arguments[0], false),
        "flock" => Some(End::FileLock(link(pid, call.arguments[0]))),
        "fcntl" if matches!(call.arguments[1] & 0xffff_ffff, F_SETLKW | F_OFD_SETLKW) => {
            Some(End::FileLock(link(pid, call.arguments[0])))
        }
        "wait4" => Some(End::Child(u32::try_from(call.arguments[0] as i32).ok().filter(|child| *child > 0))),
        "waitid" => {
            let one = call.arguments[0] & 0xffff_ffff == P_PID;
            Some(End::Child(one.then_some(call.arguments[1] as u32)))
        }
        _ => None,
    }?;
    Some(Pending { id, pid, end })
}

fn link(pid: u32, descriptor: u64) -> String {
    ends::link(pid, descriptor as u32).unwrap_or_default()
}

fn file_end(pid: u32, descriptor: u64, reads: bool) -> Option<End> {
    let descriptor = descriptor as u32;
    let link = ends::link(pid, descriptor)?;
    if let Some(inode) = ends::socket_inode(&link) {
        return Some(End::Socket(inode, reads, descriptor));
    }
    ends::is_pipe(pid, descriptor).then_some(End::Pipe(link, reads, descriptor))
}

/// The tables that are read once for all waits.
struct Tables {
    openers: Openers,
    sockets: HashMap<u32, SocketPeers>,
    locks: HashMap<u32, Vec<u32>>,
}

impl Tables {
    fn read(pending: &[Pending]) -> Tables {
        let mut tables =
            Tables { openers: Openers::default(), sockets: HashMap::new(), locks: HashMap::new() };
        let mut links = HashSet::new();
        for one in pending {
            match &one.end {
                End::Pipe(link, ..) => drop(links.insert(link.clone())),
                End::Socket(inode, ..) => {
                    let peers = tables.sockets.entry(one.pid).or_insert_with(|| SocketPeers::read(one.pid));
                    links.extend(peers.of(*inode).map(|(peer, _)| format!("socket:[{peer}]")));
                }
                End::FileLock(_) if tables.locks.is_empty() => tables.locks = ends::file_lock_holders(),
                End::FileLock(_) | End::Child(_) => {}
            }
        }
        if !links.is_empty() {
            tables.openers = ends::openers(&links);
        }
        tables
    }

    fn openers_of(&self, link: &str, select: impl Fn(&Opener) -> bool) -> BTreeSet<u32> {
        let all = self.openers.by_link.get(link).into_iter().flatten();
        all.filter(|opener| select(opener)).map(|opener| opener.pid).collect()
    }
}

/// What a pending wait turned out to be, without the vertices.
struct Resolved {
    wait: Wait,
    pids: BTreeSet<u32>,
}

/// Adds the waits, and the processes that can end them with their threads.
pub fn resolve(builder: &mut Builder<'_>, pending: Vec<Pending>) {
    let tables = Tables::read(&pending);
    for one in pending {
        let Resolved { mut wait, pids } = resolved(&one, &tables);
        let is_own_only = pids.len() == 1 && pids.contains(&one.pid);
        if is_own_only && matches!(one.end, End::Pipe(..)) {
            wait.note.push_str("; only this process has the other end open");
        } else {
            let holders = pids.into_iter().map(|pid| process(builder, pid));
            let holders: Vec<Option<VertexId>> = holders.collect();
            wait.complete &= holders.iter().all(Option::is_some);
            let holder = |vertex| Holder { vertex, strength: Strength::OneOf, evidence: String::new() };
            wait.holders = holders.into_iter().flatten().map(holder).collect();
        }
        builder.vertices[one.id].wait = Some(wait);
    }
}

fn resolved(one: &Pending, tables: &Tables) -> Resolved {
    let wait = |kind: &str, name: String, note: String, complete| Wait {
        kind: kind.to_owned(),
        name,
        note,
        complete,
        ..Wait::default()
    };
    match &one.end {
        End::Pipe(link, reads, descriptor) => {
            let pids = tables.openers_of(link, |opener| if *reads { opener.writes } else { opener.reads });
            let kind = if *reads { "data in a pipe" } else { "room in a pipe" };
            let note = format!("descriptor {descriptor}");
            Resolved { wait: wait(kind, link.clone(), note, tables.openers.complete), pids }
        }
        End::Socket(inode, reads, descriptor) => {
            let peer = tables.sockets.get(&one.pid).and_then(|peers| peers.of(*inode));
            let pids = peer
                .map(|(peer, _)| tables.openers_of(&format!("socket:[{peer}]"), |_| true))
                .unwrap_or_default();
            let protocol = peer.map_or("socket", |(_, protocol)| protocol);
            let kind =
                if *reads { format!("data from a {protocol}") } else { format!("room in a {protocol}") };
            let note = format!("descriptor {descriptor}");
            // A socket may have a timeout of its own (SO_RCVTIMEO), which is not visible.
            Resolved { wait: wait(&kind, format!("socket:[{inode}]"), note, false), pids }
        }
        End::FileLock(link) => {
            let pids: BTreeSet<u32> = tables.locks.get(&one.pid).into_iter().flatten().copied().collect();
            Resolved { wait: wait("file lock", link.clone(), String::new(), true), pids }
        }
        End::Child(child) => {
            let children: BTreeSet<u32> = ends::children(one.pid).into_iter().collect();
            let pids = match child {
                Some(child) if children.contains(child) => BTreeSet::from([*child]),
                _ => children,
            };
            Resolved { wait: wait("end of a child", String::new(), String::new(), true), pids }
        }
    }
}

/// The vertex of a process. `None`: it is gone, or beyond a limit.
fn process(builder: &mut Builder<'_>, pid: u32) -> Option<VertexId> {
    let kind = VertexKind::Process { pid };
    if let Some(known) = builder.ids.get(&kind) {
        return Some(*known);
    }
    let processes = builder.ids.keys().filter(|kind| matches!(kind, VertexKind::Process { .. })).count();
    let tids = threads::list(pid);
    if processes >= MAX_PROCESSES || tids.is_empty() {
        return None;
    }
    let name = threads::name(pid, pid).unwrap_or_default();
    let name = comm::printable(name.as_bytes());
    let complete = tids.len() <= MAX_THREADS;
    let (place, doing) = Default::default();
    let id = builder.push(Vertex { kind, name, place, doing, wait: None, waited_ns: None }, None);
    let added = tids.into_iter().take(MAX_THREADS).map(|tid| builder.add_other_thread(pid, tid));
    let added: Vec<Option<VertexId>> = added.collect();
    let holder = |vertex| Holder { vertex, strength: Strength::OneOf, evidence: String::new() };
    let holders = added.into_iter().flatten().map(holder).collect();
    builder.vertices[id].wait = Some(Wait { complete, holders, ..Wait::default() });
    Some(id)
}
