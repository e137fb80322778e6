//! Accepts connections and speaks HTTP/2 on them, within bounds, until the transport stops. What the
//! requests mean is the service's matter. It is hyper's server and not tonic's, because tonic's starts
//! a deadline of its own that answers CANCELLED, and has no way to close a connection by force.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::watch;
use tokio::time::Instant;

use super::listen::Listener;
use super::phase::Phase;
use super::places::{Place, Places};
use super::service::{Peer, Service};
use super::socket::Socket;
use super::value::Outgoing;
use crate::call::Caller;
use crate::error::Error;

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

/// How often refused connections are reported at most.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);

/// What all listeners share.
#[derive(Clone)]
pub(super) struct Acceptor {
    service: Arc<Service>,
    phase: watch::Receiver<Phase>,
    places: Arc<Places>,
    http2: http2::Builder<TokioExecutor>,
}

impl Acceptor {
    /// Accepts for `service` until `phase` says to stop.
    pub(super) fn new(
        service: Service,
        phase: watch::Receiver<Phase>,
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
        Self { service: Arc::new(service), phase, places, http2 }
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
                Ok((socket, caller)) => self.take(socket, caller, &mut trouble),
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => trouble.wait(&listener, &error).await,
            }
        }
    }

    fn take(&self, socket: Socket, caller: Arc<Caller>, trouble: &mut Trouble) {
        trouble.back_off = BACK_OFF.0;
        let place = match self.places.take(&caller) {
            Ok(place) => place,
            Err(error) => {
                trouble.refused(&caller, &error);
                return socket.refuse(error.message());
            }
        };
        tokio::spawn(self.clone().serve(socket, caller, place));
    }

    /// Serves one connection.
    async fn serve(self, socket: Socket, caller: Arc<Caller>, _place: Place) {
        let Self { service, mut phase, http2, .. } = self;
        let peer = Peer { caller, outgoing: Outgoing::default() };
        let address = Arc::clone(&peer.caller.address);
        let answering = Arc::clone(&service);
        let answer = service_fn(move |request| {
            let (service, peer) = (Arc::clone(&answering), peer.clone());
            async move { Ok::<_, Infallible>(service.answer(peer, request).await) }
        });
        let mut connection = pin!(http2.serve_connection(TokioIo::new(socket), answer));
        let ended = tokio::select! {
            biased;
            ended = &mut connection => Some(ended),
            _ = phase.wait_for(|phase| *phase >= Phase::Draining) => None,
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
        if let Err(error) = ended {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::debug!(client = %address, %error, cause, "a gRPC connection broke");
        }
        service.client_gone(&address);
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
    /// When a refusal was last reported.
    told: Option<Instant>,
}

impl Default for Trouble {
    fn default() -> Self {
        Self { back_off: BACK_OFF.0, told: None }
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

    /// Reports, not too often, that a connection was refused.
    fn refused(&mut self, caller: &Caller, error: &Error) {
        if self.told.is_none_or(|told| told.elapsed() >= REPORT_INTERVAL) {
            self.told = Some(Instant::now());
            tracing::error!("a gRPC connection of {caller} was closed: {error}");
        }
    }
}
