//! The gRPC transport: native, typed paths for every operation of every agent, beside the standard
//! health and reflection services, on a Unix socket and on loopback TCP. It translates between
//! HTTP/2 and the executor and decides nothing.
//!
//! A request goes from `listen` (a connection and its caller) through `connection` (HTTP/2) to
//! `service`, which reads `metadata` and `value`, asks the executor, and answers with a `value` or an
//! `error`; what has a stream on either side goes through `stream`. `authority` mends what some clients send on Unix sockets; `phase` says when to stop.

#![expect(clippy::disallowed_types, reason = "this is where gRPC is spoken")]

mod access;
mod authority;
mod caller;
mod client;
mod connection;
mod error;
mod health;
mod listen;
mod metadata;
mod phase;
mod places;
mod service;
mod socket;
mod socket_owner;
mod standard;
mod stream;
mod unix_socket;
mod value;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;

use crate::call::Transport;
use crate::error::Error;
use crate::executor::Executor;
use crate::status::Status;

pub use crate::wire::NewToken;
pub use access::{Access, CertificateRule, ClientCertificates, Rules, TlsRules, TokenRule};
use connection::Acceptor;
use phase::Phase;
use places::Places;
use service::Service;
use unix_socket::SocketFile;

/// How long the ends of streams have to reach their clients.
const FAREWELL: Duration = Duration::from_millis(200);

/// How long closing a connection by force may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The transport's settings.
#[derive(Debug)]
pub struct Config {
    /// A Unix socket to bind.
    pub unix: Option<UnixSocket>,
    /// Listening sockets that systemd passed, Unix or TCP; the Unix socket is then not bound.
    pub inherited: Vec<OwnedFd>,
    /// A loopback TCP address to bind (`[grpc] tcp`).
    pub tcp: Option<SocketAddr>,
    /// A TCP address to bind on which TLS is spoken (`[tls] listen`).
    pub tls: Option<SocketAddr>,
    /// How clients are known whom the kernel does not name.
    pub access: Access,
    /// The largest request, in bytes (`[grpc] max_request_bytes`).
    pub max_request_bytes: usize,
    /// The largest response, in bytes (`[grpc] max_response_bytes`).
    pub max_response_bytes: usize,
    /// How many connections there may be at once (`[grpc] max_connections`), as far as the limit on
    /// open files leaves room.
    pub max_connections: usize,
    /// How many of them one user may have (`[grpc] max_connections_per_uid`).
    pub max_connections_per_uid: usize,
}

/// A Unix socket to bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnixSocket {
    /// Where (`[grpc] unix`).
    pub path: PathBuf,
    /// Its permission bits (`[grpc] unix_mode`).
    pub mode: u32,
    /// The group that owns it, by name (`[grpc] unix_group`); not changed when `None`.
    pub group: Option<String>,
}

/// The running transport. Dropping it closes every connection at once.
pub struct Server {
    phase: watch::Sender<Phase>,
    access: watch::Sender<Arc<Access>>,
    socket_file: Option<SocketFile>,
    executor: Arc<Executor>,
    status: Arc<Status>,
}

/// Binds every listener and serves.
///
/// # Errors
/// `Unavailable` if a listener cannot be bound, `AlreadyExists` if another process listens there or
/// the path is no socket, `InvalidArgument` naming the setting that makes no sense.
pub async fn start(
    mut config: Config,
    executor: Arc<Executor>,
    status: Arc<Status>,
) -> Result<Server, Error> {
    let (phase, watched) = watch::channel(Phase::Serving);
    let (access, known_by) = watch::channel(Arc::new(std::mem::take(&mut config.access)));
    let service = Service::new(
        Arc::clone(&executor),
        phase.clone(),
        config.max_request_bytes,
        config.max_response_bytes,
    );
    // A handshake has a descriptor, too, but no place yet.
    let handshakes = known_by.borrow().tls.as_ref().map_or(0, |tls| tls.max_handshakes);
    let (all, per_uid) = (config.max_connections, config.max_connections_per_uid);
    let places = Places::new(all, per_uid, handshakes);
    let max_connections = places.all();
    // Looking up a group may ask a directory service, so it must not hold up the runtime.
    let bound = tokio::task::spawn_blocking({
        let runtime = tokio::runtime::Handle::current();
        move || {
            let _entered = runtime.enter();
            listen::bind(config)
        }
    });
    let (listeners, socket_file) = bound
        .await
        .map_err(|error| Error::internal(format!("binding the gRPC sockets broke: {error}")))??;

    let addresses: Vec<String> = listeners.iter().map(listen::Listener::address).collect();
    let acceptor = Acceptor::new(service, watched, known_by, places);
    for listener in listeners {
        tokio::spawn(acceptor.clone().run(listener));
    }
    tracing::info!(max_connections, "gRPC is served on {}", addresses.join(", "));
    status.serving(Transport::Grpc, addresses);
    executor.metrics().transport_up(Transport::Grpc, true);
    Ok(Server { phase, access, socket_file, executor, status })
}

impl Server {
    /// Replaces tokens and TLS. Requests that bear a token are known by the new ones from here on;
    /// clients over TLS are asked to connect anew once what they called has ended.
    pub fn replace_access(&self, access: Access) {
        self.access.send_replace(Arc::new(access));
    }

    /// Says NOT_SERVING in the health service; calls are still taken.
    pub fn not_serving(&self) {
        self.phase.send_if_modified(|phase| {
            let serves = *phase == Phase::Serving;
            *phase = (*phase).max(Phase::NotServing);
            serves
        });
    }

    /// Stops accepting, asks clients to go away, lets calls that run end, ends streams and closes
    /// what is left after `grace`. True if everything ended by itself.
    ///
    /// # Cancel safety
    /// Dropping the future closes every connection at once.
    pub async fn stop(mut self, grace: Duration) -> bool {
        self.status.not_serving(Transport::Grpc, "the service is stopping");
        self.executor.metrics().transport_up(Transport::Grpc, false);
        self.phase.send_replace(Phase::Draining);
        // From here on clients see that there is no server rather than one that does not answer.
        drop(self.socket_file.take());
        if timeout(grace, self.phase.closed()).await.is_ok() {
            return true;
        }
        self.executor.tasks().stop(FAREWELL).await;
        if timeout(FAREWELL, self.phase.closed()).await.is_ok() {
            return false;
        }
        tracing::warn!("closing {} gRPC connections by force", self.phase.receiver_count());
        self.phase.send_replace(Phase::Closed);
        if timeout(CLOSE_TIMEOUT, self.phase.closed()).await.is_err() {
            tracing::error!("a gRPC connection does not close");
        }
        false
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Closed);
    }
}
