//! Who is at the other end of a connection, as the kernel attests it. Asked once, when the connection
//! is accepted; what the caller may do is not decided here.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nix::libc;
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::UnixStream;

use super::socket_owner::socket_owner;
use crate::call::{Attested, Caller, Identity, MAX_GROUPS, Process};

/// The connections that were accepted on Unix sockets.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// The caller behind a connection on a Unix socket.
pub(super) fn of_unix(stream: &UnixStream) -> Arc<Caller> {
    // A number, because the other end of such a socket has no address of its own.
    let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed) + 1;
    let address = format!("unix:{number}");
    let peer = match stream.peer_cred() {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%error, "the kernel does not say who connected to the gRPC socket");
            return Arc::new(Caller::new(Identity::Unknown, Attested::Nobody, address));
        }
    };
    let identity = Identity::User { uid: peer.uid(), gid: Some(peer.gid()) };
    let groups = peer_groups(stream).map(|mut groups| {
        groups.push(peer.gid());
        groups
    });
    let groups = groups.inspect_err(|error| {
        tracing::debug!(%error, "the kernel does not say which groups a client is in");
    });
    let mut caller = Caller::new(identity, Attested::Kernel, address).with_groups(groups.ok());
    caller.pid = peer.pid().and_then(|pid| u32::try_from(pid).ok());
    // Kernels before 6.5 know no pidfd of a peer.
    let pidfd = getsockopt(stream, sockopt::PeerPidfd).ok();
    let process = caller.pid.and_then(|pid| Process::running(pid, pidfd.as_ref().map(AsFd::as_fd)));
    caller.process = process.map(Arc::new);
    caller.process.iter().for_each(Process::look_up_soon);
    Arc::new(caller)
}

/// The supplementary groups that the process at the other end had when it connected.
fn peer_groups(socket: &impl AsFd) -> io::Result<Vec<u32>> {
    let mut groups = vec![0_u32; MAX_GROUPS];
    let mut length = libc::socklen_t::try_from(size_of_val(groups.as_slice())).unwrap_or_default();
    let descriptor = socket.as_fd().as_raw_fd();
    let (level, option) = (libc::SOL_SOCKET, libc::SO_PEERGROUPS);
    #[expect(unsafe_code, reason = "no crate that is used here wraps this option")]
    // SAFETY: the kernel writes at most `length` bytes, which are those of `groups`, any content of
    // which is valid; the descriptor is open while `socket` is borrowed.
    let outcome = unsafe {
        libc::getsockopt(descriptor, level, option, groups.as_mut_ptr().cast(), &raw mut length)
    };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    groups.truncate(length as usize / size_of::<u32>());
    Ok(groups)
}

/// The caller behind a TCP connection from `peer` to `local` on this machine.
pub(super) fn of_tcp(peer: SocketAddr, local: SocketAddr) -> Arc<Caller> {
    let owner = socket_owner(peer, local);
    if let Err(error) = &owner {
        tracing::warn!(%peer, %error, "the kernel does not say who owns the client's TCP socket");
    }
    let (identity, attested) = match owner {
        Ok(Some(uid)) => (Identity::User { uid, gid: None }, Attested::Kernel),
        Ok(None) | Err(_) => (Identity::Unknown, Attested::Nobody),
    };
    Arc::new(Caller::new(identity, attested, format!("tcp:{peer}")))
}
