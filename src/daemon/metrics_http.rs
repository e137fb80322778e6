//! The metrics over HTTP, for Prometheus: `GET /metrics` on a Unix socket and on a loopback address.
//! It renders what `metrics` recorded, and nothing else can be had here.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use super::{Exit, Failure};
use crate::config::MetricsEndpoint;
use crate::metrics::Metrics;

/// How many connections are served at once on each listener; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 16;

/// How long a client may take to send its request.
const REQUEST_TIME: Duration = Duration::from_secs(5);

/// How long a connection may last in all, so that a client that does not read ends as well.
const CONNECTION_TIME: Duration = Duration::from_secs(15);

/// How many bytes of a request are read.
const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// The pause after a connection could not be accepted, as when there are no more descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The mode of the Unix socket.
const SOCKET_MODE: u32 = 0o660;

/// The media type of the Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The media type of everything else.
const TEXT_TYPE: &str = "text/plain; charset=utf-8";

/// The running endpoint.
#[derive(Default)]
pub(super) struct Endpoint {
    listeners: Vec<JoinHandle<()>>,
    socket: Option<PathBuf>,
}

impl Endpoint {
    /// Binds what `config` names and serves `metrics` there.
    pub(super) fn start(config: &MetricsEndpoint, metrics: Arc<Metrics>) -> Result<Self, Failure> {
        let mut endpoint = Self::default();
        if let Some(path) = &config.unix {
            let listener = bind_unix(path).map_err(|error| cannot_bind(path.display(), &error))?;
            endpoint.socket = Some(path.clone());
            let metrics = Arc::clone(&metrics);
            endpoint.listeners.push(tokio::spawn(serve(
                async move || listener.accept().await.map(|(stream, _)| stream),
                metrics,
            )));
        }
        if let Some(address) = config.tcp {
            let listener = bind_tcp(address).map_err(|error| cannot_bind(address, &error))?;
            endpoint.listeners.push(tokio::spawn(serve(
                async move || listener.accept().await.map(|(stream, _)| stream),
                metrics,
            )));
        }
        Ok(endpoint)
    }
}

impl Drop for Endpoint {
    /// Closes the listeners and removes the socket.
    fn drop(&mut self) {
        for listener in &self.listeners {
            listener.abort();
        }
        if let Some(socket) = &self.socket
            && let Err(error) = fs::remove_file(socket)
        {
            tracing::warn!("the socket {} cannot be removed: {error}", socket.display());
        }
    }
}

/// Binds a Unix socket. A socket that a process left behind when it was killed is replaced; one that
/// somebody listens on, and a file that is no socket, are not.
fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    match fs::symlink_metadata(path) {
        Ok(found) if !found.file_type().is_socket() => {
            let problem = "a file that is no socket has this name";
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, problem));
        }
        Ok(_) if UnixStream::connect(path).is_ok() => {
            let problem = "another process listens there";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, problem));
        }
        Ok(_) => fs::remove_file(path)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    Ok(listener)
}

fn bind_tcp(address: std::net::SocketAddr) -> io::Result<TcpListener> {
    // SO_REUSEADDR, which std sets, lets a restarted service have its address at once.
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

fn cannot_bind(address: impl std::fmt::Display, error: &io::Error) -> Failure {
    let exit = match error.kind() == io::ErrorKind::PermissionDenied {
        true => Exit::Permission,
        false => Exit::Temporary,
    };
    Failure::new(exit, format_args!("the metrics cannot be served at {address}"), error).then(
        "Look at [metrics] unix and tcp in the configuration (an empty value serves them nowhere), \
         and whether another op-dbusd runs.",
    )
}

async fn serve<S>(mut accept: impl AsyncFnMut() -> io::Result<S>, metrics: Arc<Metrics>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    // The semaphore is never closed, so this goes on until the task is aborted.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let stream = match accept().await {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!("a client of the metrics cannot be accepted: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let metrics = Arc::clone(&metrics);
        tokio::spawn(async move {
            serve_connection(stream, metrics).await;
            drop(place);
        });
    }
}

async fn serve_connection(stream: impl AsyncRead + AsyncWrite + Unpin, metrics: Arc<Metrics>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_TIME)
        .max_buf_size(MAX_REQUEST_BYTES)
        .keep_alive(false)
        .serve_connection(
            TokioIo::new(stream),
            service_fn(|request: Request<Incoming>| {
                std::future::ready(Ok::<_, Infallible>(answer(&request, &metrics)))
            }),
        );
    match tokio::time::timeout(CONNECTION_TIME, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("a client of the metrics went wrong: {error}"),
        Err(_) => tracing::debug!("a client of the metrics took too long and was disconnected"),
    }
}

fn answer(request: &Request<Incoming>, metrics: &Metrics) -> Response<Full<Bytes>> {
    if request.uri().path() != "/metrics" {
        return text(StatusCode::NOT_FOUND, "There is only /metrics here.\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "Use GET.\n");
        response.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match metrics.render() {
        Ok(metrics) => response(StatusCode::OK, METRICS_TYPE, metrics),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    response(status, TEXT_TYPE, body)
}

fn response(
    status: StatusCode,
    media_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let media_type = header::HeaderValue::from_static(media_type);
    response.headers_mut().insert(header::CONTENT_TYPE, media_type);
    response
}
