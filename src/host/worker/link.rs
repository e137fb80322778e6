//! The connection to one worker: calls and streams go over it as they are, still encoded. The worker
//! belongs to its user, so that nothing which it says is trusted beyond its own calls.

use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, Connection, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::UnixStream;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::Config;
use super::outgoing::{Broken, Outgoing};
use crate::call::Context;
use crate::error::{Error, ErrorKind};
use crate::host::gate::{Entry, Gate};
use crate::wire::{self, Lost, Malformed, Messages};

/// The largest head of an answer, in bytes.
const MAX_HEADER_BYTES: u32 = 32 * 1024;

/// The connection, which must be polled for anything to happen on it.
pub(super) type Wire = Connection<TokioIo<UnixStream>, Outgoing, TokioExecutor>;

/// One worker, while it runs.
pub(super) struct Link {
    uid: u32,
    pid: u32,
    sender: SendRequest<Outgoing>,
    max_response_bytes: usize,
    gate: Gate,
    began: Instant,
    /// When the last call ended, in milliseconds since `began`.
    used: AtomicU64,
    /// True once the worker has said that it is ready.
    ready: AtomicBool,
    /// Whoever closed the gate says so to the keeper.
    pub(super) closed: Notify,
}

/// A worker that a call is in. It is not ended before this is dropped.
pub(super) struct Entered(Arc<Link>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.touch();
        self.0.gate.leave();
    }
}

impl std::ops::Deref for Entered {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.0
    }
}

/// A request that did not become a call.
pub(super) enum Failed {
    /// The worker has gone before it had any of it.
    NotSent(Box<Request<Outgoing>>),
    Error(Error),
}

impl Link {
    /// Speaks HTTP/2 on `socket`, with the process `pid` of the user `uid` at its other end.
    ///
    /// # Errors
    /// `BackendUnavailable` if that does not even begin.
    pub(super) async fn new(
        socket: UnixStream,
        uid: u32,
        pid: u32,
        config: &Config,
    ) -> Result<(Arc<Self>, Wire), Error> {
        let begun = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(config.check)
            .keep_alive_timeout(config.check_timeout)
            .keep_alive_while_idle(true)
            .initial_stream_window_size(wire::WORKER_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(wire::WORKER_WINDOW_BYTES)
            .initial_max_send_streams(wire::WORKER_STREAMS as usize)
            .max_header_list_size(MAX_HEADER_BYTES)
            .handshake(TokioIo::new(socket));
        let (sender, connection) = begun.await.map_err(|error| {
            let text = format!("the worker of uid {uid} cannot be spoken to: {error}");
            Error::new(ErrorKind::BackendUnavailable, text)
        })?;
        let gate = Gate::new();
        gate.open();
        let link = Self {
            uid,
            pid,
            sender,
            max_response_bytes: config.max_response_bytes,
            gate,
            began: Instant::now(),
            used: AtomicU64::new(0),
            ready: AtomicBool::new(false),
            closed: Notify::new(),
        };
        Ok((Arc::new(link), connection))
    }

    /// As people call it.
    pub(super) fn name(&self) -> String {
        format!("the worker of uid {} (process {})", self.uid, self.pid)
    }

    /// Notes that the worker is ready.
    pub(super) fn set_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    /// True if the worker was ever ready.
    pub(super) fn was_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// How long it has run.
    pub(super) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// How long no call has been in it; zero if one is.
    pub(super) fn idle(&self) -> Duration {
        match self.gate.is_busy() {
            true => Duration::ZERO,
            false => {
                let used = Duration::from_millis(self.used.load(Ordering::Relaxed));
                self.age().saturating_sub(used)
            }
        }
    }

    /// Begins a call; `None` if the worker takes none any more.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Entered> {
        if self.sender.is_closed() {
            return None;
        }
        match self.gate.enter() {
            Entry::Open { .. } => Some(Entered(Arc::clone(self))),
            Entry::Closed => None,
        }
    }

    /// Takes no calls any more, unless one is in.
    pub(super) fn close_if_idle(&self) -> bool {
        let closed = self.gate.close_if_empty();
        if closed {
            self.closed.notify_one();
        }
        closed
    }

    fn touch(&self) {
        let age = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.used.store(age, Ordering::Relaxed);
    }

    /// What a call is told whose worker has gone.
    fn lost(&self) -> Error {
        let text = format!(
            "{} has gone or does not answer any more, so that the call may or may not have been \
             carried out; the next call starts another",
            self.name()
        );
        Error::new(ErrorKind::Unavailable, text)
            .with_fact("worker_uid", self.uid.to_string())
            .with_fact("worker_pid", self.pid.to_string())
    }

    /// Sends a request and waits for the head of its answer.
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up, in the worker too.
    pub(super) async fn send(&self, request: Request<Outgoing>) -> Result<Answer<'_>, Failed> {
        let response = self.sender.clone().try_send_request(request).await;
        match response {
            Ok(response) => Answer::of(self, response).map_err(Failed::Error),
            Err(mut error) => Err(match error.take_message() {
                Some(request) => Failed::NotSent(Box::new(request)),
                None => Failed::Error(self.lost()),
            }),
        }
    }

    /// One message there and one back, for op-dbus's own use.
    ///
    /// # Errors
    /// What the worker says, or that it is gone.
    pub(super) async fn ask(&self, path: &'static str, message: Bytes) -> Result<Bytes, Error> {
        let request = head(path, Outgoing::one(message)?)?;
        match self.send(request).await {
            Ok(answer) => answer.only().await,
            Err(Failed::Error(error)) => Err(error),
            Err(Failed::NotSent(_)) => Err(self.lost()),
        }
    }
}

/// The request of a call.
///
/// # Errors
/// `Internal` if the context cannot travel.
pub(super) fn request(
    path: &str,
    context: &Context,
    body: Outgoing,
) -> Result<Request<Outgoing>, Error> {
    let mut request = head(path, body)?;
    wire::write_context(context, request.headers_mut())?;
    Ok(request)
}

fn head(path: &str, body: Outgoing) -> Result<Request<Outgoing>, Error> {
    Request::builder()
        .method(Method::POST)
        .uri(format!("http://worker{path}"))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .header(TE, HeaderValue::from_static("trailers"))
        .body(body)
        .map_err(|error| Error::internal(format!("{path} is no path: {error}")))
}

/// What a worker answers.
pub(super) struct Answer<'a> {
    link: &'a Link,
    messages: Messages<Incoming>,
}

impl<'a> Answer<'a> {
    fn of(link: &'a Link, response: Response<Incoming>) -> Result<Self, Error> {
        if response.status() != StatusCode::OK {
            return Err(link.nonsense(&response.status().to_string()));
        }
        // An answer without messages may say so in its head.
        if let Some(outcome) = wire::outcome(response.headers()) {
            outcome?;
            return Err(link.nonsense("an end without a message"));
        }
        let messages = Messages::new(response.into_body(), link.max_response_bytes);
        Ok(Self { link, messages })
    }

    /// The next message; `None` at the end of a call that went well.
    ///
    /// # Errors
    /// What the worker says, or that it is gone.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let next = poll_fn(|context| self.messages.poll_next(context)).await;
        match next {
            Ok(Some(message)) => Ok(Some(message)),
            Ok(None) => match self.messages.trailers().and_then(wire::outcome) {
                Some(outcome) => outcome.map(|()| None),
                None => Err(self.link.nonsense("no outcome")),
            },
            Err(Lost::BrokenOff) => Err(self.link.lost()),
            Err(Lost::Malformed(Malformed::TooLarge { length, limit })) => {
                let problem = format_args!("the response has {length} bytes, which is too large");
                Err(Error::limit("worker.max_response_bytes", limit, problem))
            }
            Err(Lost::Malformed(Malformed::Compressed)) => {
                Err(self.link.nonsense("a compressed message"))
            }
            Err(Lost::Malformed(Malformed::Broken(problem))) => Err(self.link.nonsense(&problem)),
        }
    }

    /// The one message of a call that gives one.
    ///
    /// # Errors
    /// As [`Answer::next`].
    pub(super) async fn only(mut self) -> Result<Bytes, Error> {
        let Some(message) = self.next().await? else {
            return Err(self.link.nonsense("no message"));
        };
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(self.link.nonsense("more than one message")),
        }
    }
}

impl Link {
    fn nonsense(&self, what: &str) -> Error {
        let text = format!("{} answers with {what}", self.name());
        Error::new(ErrorKind::BackendFailed, text)
    }
}

/// The error of a call whose client's stream broke is the client's, whatever the worker made of it.
pub(super) fn blame(broken: &Broken, error: Error) -> Error {
    broken.take().unwrap_or(error)
}
