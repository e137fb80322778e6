//! Who is at the other end of a connection, as the kernel attests it. Asked once, when the connection
//! is accepted; what the caller may do is not decided here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UnixStream;

use super::socket_owner::socket_owner;
use crate::call::{Caller, Identity};

/// The connections that were accepted on Unix sockets.
static CONNECTIONS: AtomicU64 = AtomicU64::new(0);

/// The caller behind a connection on a Unix socket.
pub(super) fn of_unix(stream: &UnixStream) -> Arc<Caller> {
    let credentials = stream.peer_cred();
    if let Err(error) = &credentials {
        tracing::warn!(%error, "the kernel does not say who connected to the gRPC socket");
    }
    let (identity, pid) = match credentials {
        Ok(peer) => (
            Identity::User { uid: peer.uid(), gid: Some(peer.gid()) },
            peer.pid().and_then(|pid| u32::try_from(pid).ok()),
        ),
        Err(_) => (Identity::Unknown, None),
    };
    // A number, because the other end of such a socket has no address of its own.
    let number = CONNECTIONS.fetch_add(1, Ordering::Relaxed) + 1;
    Arc::new(Caller { identity, pid, address: format!("unix:{number}").into() })
}

/// The caller behind a TCP connection from `peer` to `local` on this machine.
pub(super) fn of_tcp(peer: SocketAddr, local: SocketAddr) -> Arc<Caller> {
    let owner = socket_owner(peer, local);
    if let Err(error) = &owner {
        tracing::warn!(%peer, %error, "the kernel does not say who owns the client's TCP socket");
    }
    let identity = match owner {
        Ok(Some(uid)) => Identity::User { uid, gid: None },
        Ok(None) | Err(_) => Identity::Unknown,
    };
    Arc::new(Caller { identity, pid: None, address: peer.to_string().into() })
}
