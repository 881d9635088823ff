//! Facts about a process from /proc, as texts for later analysis (proc(5)).
//!
//! The environment and the memory are left out because they hold secrets. Not here: stacks,
//! profiles.

use std::{collections::BTreeMap, fmt::Write, fs, path::Path};

use super::{ProcessError, cgroup, maps};
use crate::sys::proc::read_text;

/// The maximum number of lines of a list.
const MOST_LINES: usize = 1000;

/// One text, or the reason why there is none.
pub struct Fact {
    /// A file name without extension.
    pub name: &'static str,
    /// The text.
    pub text: Result<String, ProcessError>,
}

/// All facts about a process now.
pub fn all(pid: u32) -> Vec<Fact> {
    let whole = |name: &'static str| Fact { name, text: read(pid, name) };
    let made = |name, text| Fact { name, text };
    vec![
        whole("status"),
        whole("limits"),
        whole("io"),
        whole("schedstat"),
        whole("smaps_rollup"),
        made("cgroup", control_group(pid)),
        made("maps-summary", memory(pid)),
        made("fds", open_files(pid)),
        made("sockets", sockets(pid)),
    ]
}

fn read(pid: u32, what: &'static str) -> Result<String, ProcessError> {
    fs::read(format!("/proc/{pid}/{what}"))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|error| ProcessError::reading(pid, what, error))
}

/// Its control group, and the group's limits and statistics (cgroup v2).
fn control_group(pid: u32) -> Result<String, ProcessError> {
    let mut text = read(pid, "cgroup")?;
    let folder = cgroup::own_folder(&[pid]);
    for file in [
        "cpu.max",
        "cpu.stat",
        "cpu.pressure",
        "memory.max",
        "memory.high",
        "memory.current",
        "memory.events",
        "memory.pressure",
        "io.pressure",
        "pids.max",
        "pids.current",
    ] {
        let content = folder.as_ref().and_then(|folder| read_text(folder.join(file)).ok());
        if let Some(content) = content {
            let _ = write!(text, "\n{file}:\n{content}");
        }
    }
    Ok(text)
}

/// The address space by file, the largest first.
fn memory(pid: u32) -> Result<String, ProcessError> {
    let mut by_name: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for mapping in maps::read_mappings(pid)? {
        let name = if mapping.path.is_empty() { "[anonymous]" } else { &mapping.path };
        let (count, bytes) = by_name.entry(name.to_owned()).or_default();
        *count += 1;
        *bytes += mapping.end.0 - mapping.start.0;
    }
    let mut rows: Vec<_> = by_name.into_iter().collect();
    rows.sort_by_key(|(_, (_, bytes))| std::cmp::Reverse(*bytes));
    let mut text = "   KiB of address space   mappings   of\n".to_owned();
    for (name, (count, bytes)) in rows.into_iter().take(MOST_LINES) {
        let _ = writeln!(text, "{:23}   {count:8}   {name}", bytes >> 10);
    }
    Ok(text)
}

/// The number of open files of each kind.
fn open_files(pid: u32) -> Result<String, ProcessError> {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let links = links(pid)?;
    for link in &links {
        *kinds.entry(kind_of(link)).or_default() += 1;
    }
    let mut rows: Vec<_> = kinds.into_iter().collect();
    rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let mut text = format!("{} open\n\n", links.len());
    for (kind, count) in rows.into_iter().take(MOST_LINES) {
        let _ = writeln!(text, "{count:8}   {kind}");
    }
    Ok(text)
}

fn links(pid: u32) -> Result<Vec<String>, ProcessError> {
    let entries =
        fs::read_dir(format!("/proc/{pid}/fd")).map_err(|error| ProcessError::reading(pid, "fd", error))?;
    let link = |entry: fs::DirEntry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned());
    Ok(entries.flatten().filter_map(link).collect())
}

/// The kind of an open file: `socket:[123]` is a socket; all files of one folder are one kind.
fn kind_of(link: &str) -> String {
    match link.split_once(':') {
        Some(("anon_inode", what)) => what.trim_matches(['[', ']']).to_owned(),
        Some((kind, _)) if !link.starts_with('/') => kind.to_owned(),
        _ if link.starts_with("/dev/") => link.to_owned(),
        _ => {
            let folder = Path::new(link).parent().unwrap_or(Path::new("/"));
            format!("file in {}", folder.display())
        }
    }
}

/// Its TCP and UDP sockets by state: the number, and the addresses of each.
fn sockets(pid: u32) -> Result<String, ProcessError> {
    let own: Vec<u64> = links(pid)?
        .iter()
        .filter_map(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok())
        .collect();
    let mut by_state: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut named = 0;
    for protocol in ["tcp", "tcp6", "udp", "udp6"] {
        // Of its network namespace.
        let table = read_text(format!("/proc/{pid}/net/{protocol}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            if let Some(socket) = Socket::parse(line).filter(|socket| own.contains(&socket.inode)) {
                named += 1;
                by_state.entry(format!("{protocol} {}", socket.state)).or_default().push(socket.addresses);
            }
        }
    }
    let mut text = format!("{} sockets, {named} of them TCP or UDP\n", own.len());
    for (state, addresses) in by_state {
        let _ = writeln!(text, "\n{} {state}", addresses.len());
        addresses.iter().take(MOST_LINES).for_each(|address| {
            let _ = writeln!(text, "    {address}");
        });
    }
    Ok(text)
}

/// A line of /proc/PID/net/tcp and its like.
#[derive(Debug, PartialEq, Eq)]
struct Socket {
    state: &'static str,
    /// `local -> remote`
    addresses: String,
    inode: u64,
}

impl Socket {
    fn parse(line: &str) -> Option<Socket> {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let state = usize::from_str_radix(fields.get(3)?, 16).ok()?;
        // include/net/tcp_states.h
        const STATES: [&str; 13] = [
            "",
            "established",
            "syn sent",
            "syn received",
            "fin wait 1",
            "fin wait 2",
            "time wait",
            "closed",
            "close wait",
            "last ack",
            "listening",
            "closing",
            "new syn received",
        ];
        Some(Socket {
            state: STATES.get(state).copied().unwrap_or("unknown"),
            addresses: format!("{} -> {}", endpoint(fields.get(1)?)?, endpoint(fields.get(2)?)?),
            inode: fields.get(9)?.parse().ok()?,
        })
    }
}

/// Parses `0100007F:0016`: an address in the machine's byte order (for IPv6 each of its four
/// words), a port.
fn endpoint(text: &str) -> Option<String> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut bytes = Vec::with_capacity(16);
    for word in 0..address.len() / 8 {
        bytes.extend(u32::from_str_radix(address.get(word * 8..word * 8 + 8)?, 16).ok()?.to_ne_bytes());
    }
    let address = match <[u8; 4]>::try_from(&bytes[..]) {
        Ok(four) => std::net::IpAddr::from(four),
        Err(_) => std::net::IpAddr::from(<[u8; 16]>::try_from(&bytes[..]).ok()?),
    };
    Some(std::net::SocketAddr::new(address, port).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_facts_of_this_process_are_read() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let facts = all(std::process::id());
        let text = |name: &str| {
            let fact = facts.iter().find(|fact| fact.name == name).expect("a fact");
            fact.text.as_deref().unwrap_or_else(|error| panic!("{name}: {error}"))
        };
        assert!(text("status").contains("VmRSS") && text("limits").contains("Max open files"));
        assert!(text("maps-summary").contains("[stack]") && text("fds").contains("socket"));
        let own = format!("    {} -> 0.0.0.0:0\n", listener.local_addr().expect("bound"));
        assert!(
            text("sockets").contains("tcp listening") && text("sockets").contains(&own),
            "{}",
            text("sockets")
        );
        assert!(facts.iter().all(|fact| fact.name != "environ"));
    }

    #[test]
    fn endpoints_are_read_in_the_machines_byte_order() {
        let word = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        assert_eq!(endpoint(&format!("{}:0016", word([127, 0, 0, 1]))).as_deref(), Some("127.0.0.1:22"));
        let six = format!("{}{}{}{}:1F90", word([0; 4]), word([0; 4]), word([0; 4]), word([0, 0, 0, 1]));
        assert_eq!(endpoint(&six).as_deref(), Some("[::1]:8080"));
        for text in ["", ":", "0100007F", "xx:1", "0100:0016", "0100007F:fffff"] {
            assert_eq!(endpoint(text), None, "{text}");
        }
    }

    #[test]
    fn files_are_counted_by_kind() {
        for (link, kind) in [
            ("socket:[5]", "socket"),
            ("pipe:[5]", "pipe"),
            ("anon_inode:[eventpoll]", "eventpoll"),
            ("/dev/null", "/dev/null"),
            ("/var/lib/db/1:2", "file in /var/lib/db"),
        ] {
            assert_eq!(kind_of(link), kind);
        }
    }
}
