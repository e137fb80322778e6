//! Accepts connections and speaks HTTP/2 on them, within bounds, until the transport stops. What the
//! requests mean is the service's matter. It is hyper's server and not tonic's, because tonic's starts
//! a deadline of its own that answers CANCELLED, and has no way to close a connection by force.

use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;

use super::access::{Access, Handshakes, shake};
use super::client::Client;
use super::listen::{Accepted, Listener};
use super::phase::Phase;
use super::places::{Place, Places};
use super::service::Service;
use super::socket::Socket;

/// How many calls may be under way at once on one connection.
const MAX_STREAMS: u32 = 1024;

/// The largest head of a request, in bytes.
const MAX_HEADER_BYTES: u32 = 32 * 1024;

/// The bytes of one request that a client may send ahead of our reading.
const STREAM_WINDOW_BYTES: u32 = 1024 * 1024;

/// The bytes of all requests of a connection that a client may send ahead of our reading.
const CONNECTION_WINDOW_BYTES: u32 = 2 * 1024 * 1024;

/// The shortest and the longest wait after the system refused a connection.
const BACK_OFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// How often a client on another machine is asked whether it is still there, and how long it may take
/// to say so.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(20));

/// How often refused connections are reported at most.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What all listeners share.
#[derive(Clone)]
pub(super) struct Acceptor {
    service: Arc<Service>,
    phase: watch::Receiver<Phase>,
    access: watch::Receiver<Arc<Access>>,
    places: Arc<Places>,
    handshakes: Arc<Handshakes>,
    refusals: Arc<Refusals>,
    http2: http2::Builder<TokioExecutor>,
}

impl Acceptor {
    /// Accepts for `service` until `phase` says to stop.
    pub(super) fn new(
        service: Service,
        phase: watch::Receiver<Phase>,
        access: watch::Receiver<Arc<Access>>,
        places: Arc<Places>,
    ) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEADER_BYTES)
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            // The kernel tells when a local client is gone, and gRPC has no use for a date.
            .keep_alive_interval(None)
            .auto_date_header(false);
        Self {
            service: Arc::new(service),
            phase,
            access,
            places,
            handshakes: Arc::default(),
            refusals: Arc::default(),
            http2,
        }
    }

    /// Accepts on one socket until the transport drains; connections go on in tasks of their own.
    pub(super) async fn run(self, listener: Listener) {
        let mut phase = self.phase.clone();
        let mut trouble = Trouble::default();
        loop {
            let accepted = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(accepted) => {
                    trouble.back_off = BACK_OFF.0;
                    self.take(accepted);
                    // Else many at once, which somebody may open on purpose, hold up every call.
                    tokio::task::yield_now().await;
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => trouble.wait(&listener, &error).await,
            }
        }
    }

    fn take(&self, accepted: Accepted) {
        match accepted {
            Accepted::Local(socket, caller) => {
                self.welcome(socket, Client::local(caller, self.access.clone()));
            }
            Accepted::Tls(stream, from) => self.greet(stream, from),
        }
    }

    /// Shakes hands with a client over TLS, in a task of its own.
    fn greet(&self, stream: TcpStream, from: SocketAddr) {
        let mut known_by = self.access.clone();
        let access = Arc::clone(&known_by.borrow_and_update());
        let Some(tls) = access.tls.clone() else {
            return self.refusals.tell(&from, &"the configuration has no TLS any more");
        };
        let slot = match self.handshakes.take(from.ip(), tls.max_handshakes) {
            Ok(slot) => slot,
            Err(error) => return self.refusals.tell(&from, &error),
        };
        let acceptor = self.clone();
        tokio::spawn(async move {
            let mut phase = acceptor.phase.clone();
            let shaken = tokio::select! {
                biased;
                _ = phase.wait_for(|phase| *phase >= Phase::Draining) => return,
                shaken = shake(stream, &tls) => shaken,
            };
            drop(slot);
            match shaken {
                Ok((stream, certificate)) => {
                    let client = Client::remote(format!("tcp:{from}"), certificate, known_by);
                    acceptor.welcome(Socket::tls(stream), client);
                }
                Err(error) => acceptor.refusals.tell(&from, &error),
            }
        });
    }

    /// Serves a connection if there is a place for it.
    fn welcome(&self, socket: Socket, client: Client) {
        match self.places.take(&client.caller) {
            Ok(place) => {
                tokio::spawn(self.clone().serve(socket, client, place));
            }
            Err(error) => {
                self.refusals.tell(&client.caller, &error);
                socket.refuse(error.message());
            }
        }
    }

    /// Serves one connection.
    async fn serve(self, socket: Socket, client: Client, _place: Place) {
        let Self { service, mut phase, mut http2, .. } = self;
        if client.is_remote() {
            http2.timer(TokioTimer::new());
            http2.keep_alive_interval(KEEP_ALIVE.0).keep_alive_timeout(KEEP_ALIVE.1);
        }
        let client = Arc::new(client);
        let answering = (Arc::clone(&service), Arc::clone(&client));
        let answer = service_fn(move |request| {
            let (service, client) = answering.clone();
            async move { Ok::<_, Infallible>(service.answer(client, request).await) }
        });
        let mut connection = pin!(http2.serve_connection(TokioIo::new(socket), answer));
        let ended = tokio::select! {
            biased;
            ended = &mut connection => Some(ended),
            _ = phase.wait_for(|phase| *phase >= Phase::Draining) => None,
            () = client.outdated() => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                tokio::select! {
                    ended = &mut connection => ended,
                    _ = phase.wait_for(|phase| *phase == Phase::Closed) => return,
                }
            }
        };
        let address = &client.caller.address;
        if let Err(error) = ended {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::debug!(client = %address, %error, cause, "a gRPC connection broke");
        }
        service.client_gone(address);
    }
}

/// True if only the connection that was to be accepted is gone.
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
            | io::ErrorKind::NotConnected
            | io::ErrorKind::InvalidInput
    )
}

/// What keeps one listener from taking connections.
struct Trouble {
    back_off: Duration,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { back_off: BACK_OFF.0 }
    }
}

impl Trouble {
    /// Waits before the next try, longer each time: out of descriptors or memory, only time helps.
    async fn wait(&mut self, listener: &Listener, error: &io::Error) {
        if self.back_off == BACK_OFF.0 {
            let listener = listener.address();
            tracing::error!(listener, %error, "gRPC connections cannot be accepted; trying again");
        }
        tokio::time::sleep(self.back_off).await;
        self.back_off = (self.back_off * 2).min(BACK_OFF.1);
    }
}

/// When a refused connection was last reported.
#[derive(Default)]
struct Refusals(Mutex<Option<Instant>>);

impl Refusals {
    /// Reports, not too often, that a connection was refused.
    fn tell(&self, of: &dyn Display, problem: &dyn Display) {
        // Replaced by one operation, so a panic elsewhere leaves nothing half-done.
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if told.is_none_or(|told| told.elapsed() >= REPORT_INTERVAL) {
            *told = Some(Instant::now());
            tracing::error!("a gRPC connection of {of} was closed: {problem}");
        } else {
            tracing::debug!("a gRPC connection of {of} was closed: {problem}");
        }
    }
}
