//! The sockets that clients connect to: our own Unix socket, those that systemd passed, TCP.
//! What happens on a connection is not known here.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketType, sockopt};
use tokio::net::{TcpListener, TcpStream, UnixListener};

use super::socket::Socket;
use super::unix_socket::{self, SocketFile};
use super::{Config, caller};
use crate::call::Caller;
use crate::error::{Error, ErrorKind};

/// A listening socket.
pub(super) enum Listener {
    /// A Unix socket and its path.
    Unix(UnixListener, String),
    /// A TCP socket on a loopback address.
    Tcp(TcpListener, SocketAddr),
    /// A TCP socket on which TLS is spoken.
    Tls(TcpListener, SocketAddr),
}

/// A connection that was just made.
pub(super) enum Accepted {
    /// One whose client the kernel was asked about.
    Local(Socket, Arc<Caller>),
    /// One that begins with a TLS handshake, and where its client is.
    Tls(TcpStream, SocketAddr),
}

/// Binds what is configured and takes over what was passed.
///
/// # Errors
/// See [`super::start`].
pub(super) fn bind(config: Config) -> Result<(Vec<Listener>, Option<SocketFile>), Error> {
    let mut listeners = Vec::new();
    let mut file = None;
    if config.inherited.is_empty()
        && let Some(unix) = &config.unix
    {
        let (listener, socket_file) = unix_socket::bind(unix)?;
        listeners.push(unix_listener(listener, unix.path.display().to_string())?);
        file = Some(socket_file);
    }
    for descriptor in config.inherited {
        listeners.push(inherited(descriptor)?);
    }
    if let Some(address) = config.tcp {
        if !address.ip().is_loopback() {
            let problem = format!(
                "{address} is no loopback address; use 127.0.0.1 or [::1], or tls.listen for others"
            );
            return Err(Error::invalid("grpc.tcp", problem));
        }
        let (listener, address) = tcp("grpc.tcp", address)?;
        listeners.push(Listener::Tcp(listener, address));
    }
    if let Some(address) = config.tls {
        let (listener, address) = tcp("tls.listen", address)?;
        listeners.push(Listener::Tls(listener, address));
    }
    if listeners.is_empty() {
        return Err(Error::invalid(
            "grpc.unix",
            "no socket is configured; set grpc.unix, grpc.tcp or tls.listen, or turn gRPC off",
        ));
    }
    Ok((listeners, file))
}

fn unix_listener(
    listener: std::os::unix::net::UnixListener,
    path: String,
) -> Result<Listener, Error> {
    let taken = listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
    taken.map(|listener| Listener::Unix(listener, path)).map_err(|error| not_usable(&error))
}

fn tcp_listener(listener: std::net::TcpListener) -> Result<(TcpListener, SocketAddr), Error> {
    let taken = || {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok((TcpListener::from_std(listener)?, address))
    };
    taken().map_err(|error: io::Error| not_usable(&error))
}

fn tcp(setting: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let listener = std::net::TcpListener::bind(address).map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            let text = format!("another server listens on {address}; stop it or change {setting}");
            return Error::new(ErrorKind::AlreadyExists, text);
        }
        // What the installed unit answers without its drop-in.
        let hint = match error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
        {
            true => "; the unit gives this service no network, see op-dbus-network.conf",
            false => "",
        };
        Error::new(ErrorKind::Unavailable, format!("{address} cannot be bound: {error}{hint}"))
    })?;
    tcp_listener(listener)
}

/// Takes over a listening socket that systemd passed.
fn inherited(descriptor: OwnedFd) -> Result<Listener, Error> {
    let passed = |problem: &str| Error::invalid("LISTEN_FDS", problem);
    let is_listening = sockopt::socket_acceptconn(&descriptor).unwrap_or(false);
    let is_stream = sockopt::socket_type(&descriptor).is_ok_and(|kind| kind == SocketType::STREAM);
    if !is_listening || !is_stream {
        return Err(passed("a passed descriptor is no listening stream socket"));
    }
    rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC)
        .map_err(|error| not_usable(&error))?;
    let address = rustix::net::getsockname(&descriptor).map_err(|error| not_usable(&error))?;
    match address.address_family() {
        AddressFamily::UNIX => {
            let listener = std::os::unix::net::UnixListener::from(descriptor);
            let path = listener
                .local_addr()
                .ok()
                .and_then(|address| Some(address.as_pathname()?.display().to_string()))
                .unwrap_or_else(|| "a socket without a path".to_owned());
            unix_listener(listener, path)
        }
        AddressFamily::INET | AddressFamily::INET6 => {
            let listener = std::net::TcpListener::from(descriptor);
            let address = listener.local_addr().map_err(|error| not_usable(&error))?;
            if !address.ip().is_loopback() {
                return Err(passed(&format!(
                    "the passed socket listens on {address}, which is no loopback address"
                )));
            }
            let (listener, address) = tcp_listener(listener)?;
            Ok(Listener::Tcp(listener, address))
        }
        _ => Err(passed("a passed socket is neither a Unix nor a TCP socket")),
    }
}

fn not_usable(error: &dyn std::error::Error) -> Error {
    Error::new(ErrorKind::Unavailable, format!("a listening socket cannot be used: {error}"))
}

impl Listener {
    /// Where clients find it.
    pub(super) fn address(&self) -> String {
        match self {
            Self::Unix(_, path) => format!("unix:{path}"),
            Self::Tcp(_, address) => address.to_string(),
            Self::Tls(_, address) => format!("https://{address}"),
        }
    }

    /// The next connection.
    ///
    /// # Errors
    /// What the system says.
    ///
    /// # Cancel safety
    /// No connection is lost.
    pub(super) async fn accept(&self) -> io::Result<Accepted> {
        match self {
            Self::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                let caller = caller::of_unix(&stream);
                Ok(Accepted::Local(Socket::unix(stream), caller))
            }
            Self::Tcp(listener, _) => {
                let (stream, peer) = listener.accept().await?;
                // Small answers must not wait for the client's acknowledgement of earlier ones.
                stream.set_nodelay(true)?;
                let caller = caller::of_tcp(peer, stream.local_addr()?);
                Ok(Accepted::Local(Socket::tcp(stream), caller))
            }
            Self::Tls(listener, _) => {
                let (stream, peer) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Accepted::Tls(stream, peer))
            }
        }
    }
}
