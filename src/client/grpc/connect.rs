//! Connects to a gRPC address: the socket, TLS where the address asks for it, and HTTP/2 on it. It keeps no
//! connection.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tonic::codegen::Service as _;

use super::exchange::Connection;
use crate::client::address::GrpcAddress;
use crate::client::credentials::{Credentials, HTTP2};
use crate::wire::LocalStream;

/// How much of a response may come before it is read, in bytes, and of all those of a connection.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 5 * 1024 * 1024;

/// The largest head of a response, in bytes.
const MAX_HEAD_BYTES: u32 = 16 * 1024;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Where to connect to.
#[derive(Debug)]
pub(super) struct Place {
    socket: Socket,
    /// What requests name as where they go.
    origin: Uri,
}

#[derive(Debug)]
enum Socket {
    Unix(PathBuf),
    Tcp(HttpConnector),
    Tls(HttpConnector, Tls),
}

struct Tls {
    connector: TlsConnector,
    /// Whose certificate it must be.
    server: ServerName<'static>,
}

impl Place {
    /// The place of `address`, each of whose hosts is waited for `patience` at most.
    ///
    /// # Errors
    /// Why there can be none.
    pub(super) fn new(
        address: &GrpcAddress,
        credentials: &Credentials,
        patience: Duration,
    ) -> Result<Self, String> {
        let (socket, origin) = match address {
            GrpcAddress::Unix(path) => {
                (Socket::Unix(path.clone()), Uri::from_static("http://localhost"))
            }
            GrpcAddress::Http(uri) => (Socket::Tcp(tcp(patience)), parsed(uri)?),
            GrpcAddress::Https(uri) => {
                let uri = parsed(uri)?;
                let tls = Tls {
                    connector: TlsConnector::from(Arc::new(credentials.tls()?)),
                    server: server(&uri)?,
                };
                (Socket::Tls(tcp(patience), tls), uri)
            }
        };
        Ok(Self { socket, origin })
    }

    pub(super) const fn origin(&self) -> &Uri {
        &self.origin
    }

    /// A connection.
    ///
    /// # Errors
    /// Why none came about, as the last of its sources.
    ///
    /// # Cancel safety
    /// What came about of it is closed.
    pub(super) async fn connect(&self) -> Result<Connection, BoxError> {
        match &self.socket {
            Socket::Unix(path) => {
                let socket = UnixStream::connect(path).await?.into_std()?;
                http2(LocalStream::new(socket)?).await
            }
            Socket::Tcp(tcp) => http2(self.dial(tcp).await?).await,
            Socket::Tls(tcp, Tls { connector, server }) => {
                let stream = self.dial(tcp).await?;
                let stream = connector.connect(server.clone(), stream).await?;
                if stream.get_ref().1.alpn_protocol() != Some(HTTP2) {
                    return Err("there is TLS, but no HTTP/2 in it".into());
                }
                http2(stream).await
            }
        }
    }

    async fn dial(&self, tcp: &HttpConnector) -> Result<TcpStream, BoxError> {
        Ok(tcp.clone().call(self.origin.clone()).await?.into_inner())
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("server", &self.server).finish_non_exhaustive()
    }
}

fn parsed(uri: &str) -> Result<Uri, String> {
    uri.parse().map_err(|error| format!("{uri:?} is no address: {error}"))
}

/// The host of an address as certificates name it.
fn server(uri: &Uri) -> Result<ServerName<'static>, String> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    ServerName::try_from(host.to_owned())
        .map_err(|_| format!("{host:?} is no name that a certificate could be for"))
}

fn tcp(patience: Duration) -> HttpConnector {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(patience));
    tcp
}

/// HTTP/2 on a stream of bytes.
async fn http2<T>(stream: T) -> Result<Connection, BoxError>
where
    T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (requests, connection) = h2::client::Builder::new()
        .enable_push(false)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(MAX_HEAD_BYTES)
        .handshake::<T, Bytes>(stream)
        .await?;
    // How it ends, every call learns that it has then.
    tokio::spawn(async move { drop(connection.await) });
    Ok(Connection::new(requests))
}
