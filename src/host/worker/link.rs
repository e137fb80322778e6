//! The connection to one worker: calls and streams go over it as they are, still encoded. The worker
//! belongs to its user, so that nothing which it says is trusted beyond its own calls.

use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{self, Connection, SendRequest};
use h2::{Ping, PingPong};
use http::header::{CONTENT_TYPE, TE};
use http::{HeaderValue, Method, Request};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use super::Config;
use super::answer::Answer;
use super::outgoing::Outgoing;
use crate::agents::WorkerSettings;
use crate::call::Context;
use crate::contract::{decode, encode};
use crate::error::{Error, ErrorKind};
use crate::host::gate::{Entry, Gate};
use crate::proto::opdbus::worker::v1::{
    ConfigureRequest, ConfigureResponse, GetGoingOnRequest, GetGoingOnResponse,
};
use crate::wire::{self, LocalStream};

/// Where a worker stands: it is never ready after it has ended.
const STARTING: u8 = 0;
const READY: u8 = 1;
const ENDED: u8 = 2;

/// The connection, which must be polled for anything to happen on it.
pub(super) type Wire = Connection<LocalStream, Bytes>;

/// Asks a worker whether it is alive.
pub(super) struct Pings {
    pings: PingPong,
    every: Duration,
    timeout: Duration,
}

impl Pings {
    /// Asks again and again until there is no answer. What becomes of the connection, whoever polls it
    /// is told.
    pub(super) async fn until_silent(&mut self) {
        loop {
            sleep(self.every).await;
            match timeout(self.timeout, self.pings.ping(Ping::opaque())).await {
                Ok(Ok(_)) => {}
                Ok(Err(_)) | Err(_) => return,
            }
        }
    }
}

/// A call on its way to a worker.
pub(super) struct Call {
    head: Request<()>,
    body: Outgoing,
}

/// One worker, while it runs.
pub(super) struct Link {
    uid: u32,
    pid: u32,
    sender: SendRequest<Bytes>,
    /// True once the connection has ended.
    gone: AtomicBool,
    max_response_bytes: usize,
    gate: Gate,
    began: Instant,
    /// When the last call ended, in milliseconds since `began`.
    used: AtomicU64,
    /// How many calls have ended.
    uses: AtomicU64,
    /// How much went on between calls when the worker was last asked.
    going_on: AtomicI64,
    phase: AtomicU8,
    /// Whoever found the worker ready says so to the keeper.
    pub(super) ready: Notify,
    /// Whoever found that it never will be does, too.
    pub(super) given_up: Notify,
    /// And whoever closed the gate.
    pub(super) closed: Notify,
}

/// A worker that a call is in. It is not ended before this is dropped.
pub(super) struct Entered(Arc<Link>);

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.touch();
        self.0.uses.fetch_add(1, Ordering::SeqCst);
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
    NotSent(Box<Call>),
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
    ) -> Result<(Arc<Self>, Wire, Pings), Error> {
        let failed = |error: &dyn std::error::Error| {
            let text = format!("the worker of uid {uid} cannot be spoken to: {error}");
            Error::new(ErrorKind::BackendUnavailable, text)
        };
        // Not hyper, which has each request pass through two more tasks.
        let begun = client::Builder::new()
            .enable_push(false)
            .initial_window_size(wire::WORKER_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(wire::WORKER_WINDOW_BYTES)
            .max_frame_size(wire::WORKER_FRAME_BYTES)
            .initial_max_send_streams(wire::WORKER_STREAMS as usize)
            .max_header_list_size(wire::WORKER_HEADER_BYTES)
            .handshake(LocalStream::new(socket).map_err(|error| failed(&error))?);
        let (sender, mut connection) = begun.await.map_err(|error| failed(&error))?;
        let pings = connection.ping_pong();
        let pings = pings.ok_or_else(|| Error::internal("the pings were taken before"))?;
        let pings = Pings { pings, every: config.check, timeout: config.check_timeout };
        let gate = Gate::new();
        gate.open();
        let link = Self {
            uid,
            pid,
            sender,
            gone: AtomicBool::new(false),
            max_response_bytes: config.max_response_bytes,
            gate,
            began: Instant::now(),
            used: AtomicU64::new(0),
            uses: AtomicU64::new(0),
            going_on: AtomicI64::new(0),
            phase: AtomicU8::new(STARTING),
            ready: Notify::new(),
            given_up: Notify::new(),
            closed: Notify::new(),
        };
        Ok((Arc::new(link), connection, pings))
    }

    /// The largest message that the worker may answer with, in bytes.
    pub(super) fn max_response_bytes(&self) -> usize {
        self.max_response_bytes
    }

    /// As people call it.
    pub(super) fn name(&self) -> String {
        format!("the worker of uid {} (process {})", self.uid, self.pid)
    }

    /// Notes that the worker is ready; false if it has ended already.
    pub(super) fn set_ready(&self) -> bool {
        let set = self.phase.compare_exchange(STARTING, READY, Ordering::SeqCst, Ordering::SeqCst);
        self.ready.notify_one();
        set.is_ok()
    }

    /// Notes that the worker has ended; true if it was ready before.
    pub(super) fn set_ended(&self) -> bool {
        self.phase.swap(ENDED, Ordering::SeqCst) == READY
    }

    /// Notes that the connection has ended: it takes no calls any more.
    pub(super) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    /// True if it was started at this time or later.
    pub(super) fn has_begun_since(&self, time: Instant) -> bool {
        self.began >= time
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
        if self.gone.load(Ordering::Acquire) {
            return None;
        }
        match self.gate.enter() {
            Entry::Open { .. } => Some(Entered(Arc::clone(self))),
            Entry::Closed => None,
        }
    }

    /// Takes no calls any more, unless one is in.
    pub(super) fn close_if_empty(&self) -> bool {
        let closed = self.gate.close_if_empty();
        if closed {
            self.closed.notify_one();
        }
        closed
    }

    /// The same, unless calls have ended since there had been so many `uses`: they may have left something
    /// going on.
    pub(super) fn close_if_unused(&self, uses: u64) -> bool {
        if !self.gate.close_if_empty() {
            return false;
        }
        if self.uses() != uses {
            self.gate.open();
            return false;
        }
        self.closed.notify_one();
        true
    }

    /// How many calls have ended.
    pub(super) fn uses(&self) -> u64 {
        self.uses.load(Ordering::SeqCst)
    }

    /// Asks how much goes on between calls.
    ///
    /// # Errors
    /// That the worker is gone, or says nothing sensible.
    pub(super) async fn ask_what_goes_on(&self) -> Result<i64, Error> {
        let request = encode(&GetGoingOnRequest {})?;
        let answer: GetGoingOnResponse = decode(self.ask(wire::GOING_ON, request).await?)?;
        Ok(i64::from(u32::try_from(answer.count).unwrap_or(u32::MAX)))
    }

    /// Tells the worker its settings.
    ///
    /// # Errors
    /// What the worker says, that it is gone, or that it is of another version.
    pub(super) async fn configure(&self, settings: &WorkerSettings) -> Result<(), Error> {
        let settings = serde_json::to_string(settings)
            .map_err(|error| Error::internal(format!("settings cannot be told: {error}")))?;
        let request = encode(&ConfigureRequest { settings })?;
        let answer: ConfigureResponse = decode(self.ask(wire::CONFIGURE, request).await?)?;
        let own = env!("CARGO_PKG_VERSION");
        if answer.version == own {
            return Ok(());
        }
        // Of what the worker says, only its length is known to be harmless.
        let other: String =
            answer.version.chars().take(32).flat_map(char::escape_default).collect();
        let text = format!(
            "the worker is of version {other} and op-dbus of {own}; the exec service is to be \
             restarted (systemctl restart op-dbus-exec.service)"
        );
        Err(Error::new(ErrorKind::BackendUnavailable, text))
    }

    /// How much goes on between calls, as far as that is known.
    pub(super) fn going_on(&self) -> i64 {
        self.going_on.load(Ordering::Relaxed)
    }

    /// Notes how much goes on between calls; what was known before.
    pub(super) fn goes_on(&self, count: i64) -> i64 {
        self.going_on.swap(count, Ordering::Relaxed)
    }

    /// Notes that the worker is wanted now.
    pub(super) fn touch(&self) {
        let age = u64::try_from(self.age().as_millis()).unwrap_or(u64::MAX);
        self.used.store(age, Ordering::Relaxed);
    }

    /// What a call is told whose worker has gone.
    pub(super) fn lost(&self) -> Error {
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
    pub(super) async fn send(&self, call: Call) -> Result<Answer<'_>, Failed> {
        let Ok(mut sender) = self.sender.clone().ready().await else {
            return Err(Failed::NotSent(Box::new(call)));
        };
        let lost = |_| Failed::Error(self.lost());
        let (response, mut stream) = sender.send_request(call.head, false).map_err(lost)?;
        let sending = match call.body {
            Outgoing::Many(many) => Some(AbortOnDropHandle::new(tokio::spawn(many.send(stream)))),
            Outgoing::One { prefix, large } => {
                stream.send_data(prefix, large.is_none()).map_err(lost)?;
                if let Some(large) = large {
                    stream.send_data(large, true).map_err(lost)?;
                }
                None
            }
        };
        let response = response.await.map_err(lost)?;
        Answer::of(self, response, sending).map_err(Failed::Error)
    }

    /// One message there and one back, for op-dbus's own use.
    ///
    /// # Errors
    /// What the worker says, or that it is gone.
    pub(super) async fn ask(&self, path: &'static str, message: Bytes) -> Result<Bytes, Error> {
        let call = Call { head: head(path)?, body: Outgoing::one(message)? };
        match self.send(call).await {
            Ok(answer) => answer.only().await,
            Err(Failed::Error(error)) => Err(error),
            Err(Failed::NotSent(_)) => Err(self.lost()),
        }
    }
}

impl Call {
    /// A call of the operation at `path`.
    ///
    /// # Errors
    /// `Internal` if the context cannot travel.
    pub(super) fn new(path: &str, context: &Context, body: Outgoing) -> Result<Self, Error> {
        let mut head = head(path)?;
        wire::write_context(context, head.headers_mut())?;
        Ok(Self { head, body })
    }
}

fn head(path: &str) -> Result<Request<()>, Error> {
    Request::builder()
        .method(Method::POST)
        .uri(format!("http://worker{path}"))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/grpc"))
        .header(TE, HeaderValue::from_static("trailers"))
        .body(())
        .map_err(|error| Error::internal(format!("{path} is no path: {error}")))
}
