//! Which unix sockets are connected to each other: the netlink protocol NETLINK_SOCK_DIAG
//! (sock_diag(7)). Needs no rights. Shows the sockets of rprof's network namespace.

use std::{
    collections::HashMap,
    io,
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    time::{Duration, Instant},
};

/// SOCK_DIAG_BY_FAMILY (linux/sock_diag.h).
const SOCK_DIAG_BY_FAMILY: u16 = 20;
/// UDIAG_SHOW_PEER (linux/unix_diag.h).
const SHOW_PEER: u32 = 4;
/// UNIX_DIAG_PEER (linux/unix_diag.h).
const ATTRIBUTE_PEER: u16 = 2;
/// sizeof(struct nlmsghdr).
const HEADER_BYTES: usize = 16;
/// sizeof(struct unix_diag_msg).
const MESSAGE_BYTES: usize = 16;
/// How long the kernel may take.
const PATIENCE: Duration = Duration::from_millis(500);

/// The inode of each connected unix socket, and that of its peer. Errors: socket(2), send(2),
/// recv(2).
pub fn unix_peers() -> io::Result<HashMap<u32, u32>> {
    let socket = open()?;
    send(&socket, &request())?;
    let mut peers = HashMap::new();
    let mut buffer = vec![0u8; 64 << 10];
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        let count = receive(&socket, &mut buffer)?;
        if count == 0 || read_messages(&buffer[..count], &mut peers) {
            return Ok(peers);
        }
    }
    Ok(peers)
}

fn open() -> io::Result<OwnedFd> {
    // SAFETY: no pointers are passed; the result is checked, and owned by nothing else.
    let fd = unsafe {
        libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_SOCK_DIAG)
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just created.
    let socket = unsafe { OwnedFd::from_raw_fd(fd) };
    let limit = libc::timeval { tv_sec: 0, tv_usec: PATIENCE.subsec_micros() as libc::suseconds_t };
    // SAFETY: the pointer and the size are those of `limit`.
    let set = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            std::ptr::from_ref(&limit).cast(),
            size_of_val(&limit) as libc::socklen_t,
        )
    };
    if set < 0 { Err(io::Error::last_os_error()) } else { Ok(socket) }
}

/// A request for all unix sockets: `nlmsghdr`, then `unix_diag_req`.
fn request() -> Vec<u8> {
    const DUMP_REQUEST: u16 = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + 24);
    bytes.extend_from_slice(&(HEADER_BYTES as u32 + 24).to_ne_bytes());
    bytes.extend_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes.extend_from_slice(&DUMP_REQUEST.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes.extend_from_slice(&[libc::AF_UNIX as u8, 0, 0, 0]);
    // All states; all inodes.
    bytes.extend_from_slice(&u32::MAX.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(&SHOW_PEER.to_ne_bytes());
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

fn send(socket: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    // SAFETY: the pointer and the length are those of `bytes`.
    let sent = unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and the length are those of `buffer`.
    let count = unsafe { libc::recv(socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Reads the messages of one datagram. `true`: it has the last one.
fn read_messages(mut bytes: &[u8], peers: &mut HashMap<u32, u32>) -> bool {
    while let Some(length) = u32_at(bytes, 0).map(|length| length as usize) {
        let kind = bytes.get(4..6).map(|two| u16::from_ne_bytes([two[0], two[1]]));
        if kind != Some(SOCK_DIAG_BY_FAMILY) {
            return true;
        }
        let Some(message) = bytes.get(HEADER_BYTES..length) else { return true };
        if let (Some(inode), Some(peer)) = (u32_at(message, 4), peer_of(message)) {
            peers.insert(inode, peer);
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

/// The attribute UNIX_DIAG_PEER of a `unix_diag_msg`.
fn peer_of(message: &[u8]) -> Option<u32> {
    let mut attributes = message.get(MESSAGE_BYTES..)?;
    while let Some(head) = attributes.first_chunk::<4>() {
        let length = usize::from(u16::from_ne_bytes([head[0], head[1]]));
        if u16::from_ne_bytes([head[2], head[3]]) == ATTRIBUTE_PEER {
            return u32_at(attributes, 4).filter(|peer| *peer != 0);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
    None
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use std::os::{fd::AsRawFd, unix::net::UnixStream};

    use super::*;

    #[test]
    fn the_two_ends_of_a_socket_pair_are_peers() {
        let (one, other) = UnixStream::pair().expect("a pair");
        let inode = |socket: &UnixStream| -> u32 {
            let link = std::fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("a link");
            let text = link.to_str().expect("text").to_owned();
            text.trim_start_matches("socket:[").trim_end_matches(']').parse().expect("an inode")
        };
        let peers = unix_peers().expect("netlink");
        assert_eq!(peers.get(&inode(&one)), Some(&inode(&other)));
        assert_eq!(peers.get(&inode(&other)), Some(&inode(&one)));
    }

    #[test]
    fn cut_messages_are_not_read_beyond_their_end() {
        let mut peers = HashMap::new();
        for length in 0..40 {
            let mut bytes = request();
            bytes.truncate(length);
            read_messages(&bytes, &mut peers);
        }
        assert_eq!(peer_of(&[0; 20]), None);
    }
}
