//! Which user owns a TCP socket of this machine: one question to the kernel's `sock_diag`, answered
//! at once. It says nothing about sockets of other machines.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::net::netlink::SOCK_DIAG;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};

/// `SOCK_DIAG_BY_FAMILY` in `linux/sock_diag.h`.
const BY_FAMILY: u16 = 20;
/// `NLM_F_REQUEST` in `linux/netlink.h`.
const REQUEST: u16 = 1;
/// `NLMSG_ERROR` in `linux/netlink.h`.
const ERROR: u16 = 2;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
/// `TCP_ESTABLISHED` in the kernel's `net/tcp_states.h`.
const ESTABLISHED: u8 = 1;
const ENOENT: i32 = 2;

/// The bytes of `nlmsghdr`.
const HEADER: usize = 16;
/// The bytes of `inet_diag_req_v2` before the addresses.
const PREAMBLE: usize = 8;
/// The bytes of ports and addresses in `inet_diag_sockid`, which the answer repeats.
const ADDRESSES: usize = 36;
const QUESTION: usize = HEADER + 56;
const ANSWER: usize = HEADER + 72;

/// The user who owns the socket at `socket` that is connected to `peer`; `None` if there is no such
/// socket or it is being closed.
///
/// # Errors
/// What the kernel says if it cannot be asked.
pub(super) fn socket_owner(socket: SocketAddr, peer: SocketAddr) -> io::Result<Option<u32>> {
    let question = question(socket, peer);
    let netlink = rustix::net::socket_with(
        AddressFamily::NETLINK,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        Some(SOCK_DIAG),
    )?;
    rustix::net::send(&netlink, &question, SendFlags::empty())?;
    let mut answer = [0; 1024];
    // The kernel has the answer ready when `send` returns.
    let (_, length) = rustix::net::recv(&netlink, &mut answer, RecvFlags::empty())?;
    owner_in(answer.get(..length).unwrap_or(&answer), &question)
}

fn question(socket: SocketAddr, peer: SocketAddr) -> [u8; QUESTION] {
    let mut bytes = [0; QUESTION];
    put(&mut bytes, 0, &72_u32.to_ne_bytes());
    put(&mut bytes, 4, &BY_FAMILY.to_ne_bytes());
    put(&mut bytes, 6, &REQUEST.to_ne_bytes());
    let family = if socket.is_ipv4() { AF_INET } else { AF_INET6 };
    put(&mut bytes, HEADER, &[family, IPPROTO_TCP]);
    // Every state: the answer's is looked at.
    put(&mut bytes, HEADER + 4, &u32::MAX.to_ne_bytes());
    let id = HEADER + PREAMBLE;
    put(&mut bytes, id, &socket.port().to_be_bytes());
    put(&mut bytes, id + 2, &peer.port().to_be_bytes());
    put_ip(&mut bytes, id + 4, socket.ip());
    put_ip(&mut bytes, id + 20, peer.ip());
    // No cookie is known.
    put(&mut bytes, id + 40, &[0xff; 8]);
    bytes
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

fn put_ip(bytes: &mut [u8], at: usize, ip: IpAddr) {
    match ip {
        IpAddr::V4(ip) => put(bytes, at, &ip.octets()),
        IpAddr::V6(ip) => put(bytes, at, &ip.octets()),
    }
}

fn owner_in(answer: &[u8], question: &[u8; QUESTION]) -> io::Result<Option<u32>> {
    let short = || io::Error::new(io::ErrorKind::InvalidData, "sock_diag's answer is too short");
    let word = |at: usize| -> io::Result<u32> {
        let bytes = answer.get(at..at + 4).ok_or_else(short)?;
        bytes.try_into().map(u32::from_ne_bytes).map_err(|_| short())
    };
    let kind = answer.get(4..6).ok_or_else(short)?;
    if kind == ERROR.to_ne_bytes() {
        let errno = word(HEADER)?.cast_signed().wrapping_neg();
        return match errno {
            ENOENT => Ok(None),
            _ => Err(io::Error::from_raw_os_error(errno)),
        };
    }
    if answer.len() < ANSWER {
        return Err(short());
    }
    let state = answer[HEADER + 1];
    let addresses = &answer[HEADER + 4..HEADER + 4 + ADDRESSES];
    let asked = &question[HEADER + PREAMBLE..HEADER + PREAMBLE + ADDRESSES];
    let (uid, inode) = (word(HEADER + 64)?, word(HEADER + 68)?);
    // A socket that its process has closed is reported as root's, and where none matches the kernel
    // may answer with one that listens: neither is the client's.
    let is_clients =
        kind == BY_FAMILY.to_ne_bytes() && state == ESTABLISHED && inode != 0 && addresses == asked;
    Ok(is_clients.then_some(uid))
}

#[cfg(test)]
mod tests;
