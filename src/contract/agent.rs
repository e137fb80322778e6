//! What the generated adapters stand on: the object-safe agent, encoding, and bounded streams of
//! messages. It knows no particular agent.

use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::marker::PhantomData;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{self, Poll};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use prost::Message;
use tokio::sync::mpsc;

use crate::call::{Context, SessionScope};
use crate::error::Error;

/// A call that runs. Dropping it cancels the call.
pub type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// An agent over encoded protobuf messages; `build.rs` generates the implementation for each service.
///
/// Operations go by their position in the service. Dropping a [`Running`] cancels the work: an agent
/// leaves its state as before or as after the operation, never between.
pub trait Agent: Send + Sync {
    /// The full name of the protobuf service.
    fn service(&self) -> &'static str;

    /// Runs an operation with one request and one response.
    fn call<'a>(
        &'a self,
        operation: usize,
        context: &'a Context,
        request: Bytes,
    ) -> Running<'a, Bytes>;

    /// Runs an operation with a stream on one side or both.
    fn stream<'a>(
        &'a self,
        operation: usize,
        context: &'a Context,
        requests: RawRequests,
        replies: RawReplies,
    ) -> Running<'a, ()>;

    /// Drops what is kept for a session that has ended.
    fn session_ended<'a>(&'a self, session: &'a SessionScope) -> Running<'a, ()>;

    /// How much goes on between calls, as programs that run. While it is not 0, the agent is not idle.
    fn going_on(&self) -> usize {
        0
    }
}

/// Decodes a request.
///
/// # Errors
/// `InvalidArgument` if the bytes are no such message.
pub fn decode<T: Message + Default>(bytes: Bytes) -> Result<T, Error> {
    T::decode(bytes).map_err(|error| Error::invalid("request", error))
}

/// Encodes a response.
///
/// # Errors
/// None today; the form leaves room for a size limit.
pub fn encode<T: Message>(message: &T) -> Result<Bytes, Error> {
    Ok(message.encode_to_vec().into())
}

/// The answer to a call whose shape (unary or streaming) is not the operation's.
#[must_use]
pub fn wrong_shape<T: Send + 'static>(service: &str, operation: usize) -> Running<'static, T> {
    let message =
        format!("operation {operation} of {service} was called with the wrong streaming shape");
    Box::pin(ready(Err(Error::internal(message))))
}

/// Notices when an agent waits for its client.
pub trait InputWatch: Send + Sync {
    /// The agent begins (`true`) or ceases (`false`) to wait for the next request.
    fn waits_for_input(&self, waits: bool);
}

/// The requests of a call with streams, still encoded.
pub struct RawRequests {
    source: Source,
    watch: Option<Arc<dyn InputWatch>>,
}

enum Source {
    /// The one request of an operation that takes one.
    One(Option<Bytes>),
    Many(mpsc::Receiver<Result<Bytes, Error>>),
    /// Nothing is read before the agent asks for it.
    Read(Pin<Box<dyn Stream<Item = Result<Bytes, Error>> + Send>>),
}

impl Source {
    /// The next request, or `None` at the end.
    ///
    /// # Cancel safety
    /// A message is either returned or still in the source.
    async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        match self {
            Self::One(request) => request.take().map(Ok),
            Self::Many(receiver) => receiver.recv().await,
            Self::Read(stream) => stream.next().await,
        }
    }
}

impl RawRequests {
    /// A stream of the one message `request`.
    #[must_use]
    pub fn one(request: Bytes) -> Self {
        Self { source: Source::One(Some(request)), watch: None }
    }

    /// A stream that holds at most `capacity` messages which the agent has not taken yet. The sender
    /// ends the stream by being dropped, and breaks it by sending an error.
    #[must_use]
    pub fn bounded(capacity: usize) -> (mpsc::Sender<Result<Bytes, Error>>, Self) {
        let (sender, receiver) = mpsc::channel(capacity);
        (sender, Self { source: Source::Many(receiver), watch: None })
    }

    /// A stream that is read from `stream` as the agent takes it. It breaks with the first error.
    #[must_use]
    pub fn read(stream: impl Stream<Item = Result<Bytes, Error>> + Send + 'static) -> Self {
        Self { source: Source::Read(Box::pin(stream)), watch: None }
    }

    /// The same stream; `watch` hears when the agent waits for more of it.
    #[must_use]
    pub fn watched(mut self, watch: Arc<dyn InputWatch>) -> Self {
        self.watch = Some(watch);
        self
    }

    /// The same stream without its watch, and that: for who passes the stream on, whose waiting is not
    /// the agent's.
    #[must_use]
    pub fn unwatched(self) -> (Self, Option<Arc<dyn InputWatch>>) {
        (Self { source: self.source, watch: None }, self.watch)
    }

    /// The same stream, decoded.
    #[must_use]
    pub fn decoded<T>(self) -> Requests<T> {
        Requests { raw: self, message: PhantomData }
    }

    /// The one message of an operation that takes one.
    ///
    /// # Errors
    /// `InvalidArgument` if there is none, if it cannot be decoded or if a second follows.
    pub async fn only<T: Message + Default>(mut self) -> Result<T, Error> {
        let Some(request) = self.next().await.transpose()? else {
            return Err(Error::invalid("request", "is missing"));
        };
        if self.next().await.transpose()?.is_some() {
            return Err(Error::invalid("request", "this operation takes one message"));
        }
        decode(request)
    }

    /// The next request, still encoded; `None` when the client has sent all.
    ///
    /// # Cancel safety
    /// A message is either returned or still in the stream.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let Some(watch) = &self.watch else { return self.source.next().await };
        let mut next = pin!(self.source.next());
        let mut waiting = None;
        poll_fn(|context| {
            let polled = next.as_mut().poll(context);
            if polled.is_pending() {
                waiting.get_or_insert_with(|| Waiting::begin(&**watch));
            }
            polled
        })
        .await
    }
}

impl fmt::Debug for RawRequests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawRequests").finish_non_exhaustive()
    }
}

/// One wait for input; it ends when this is dropped.
struct Waiting<'a>(&'a dyn InputWatch);

impl<'a> Waiting<'a> {
    fn begin(watch: &'a dyn InputWatch) -> Self {
        watch.waits_for_input(true);
        Self(watch)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waits_for_input(false);
    }
}

/// The requests of a client stream.
pub struct Requests<T> {
    raw: RawRequests,
    message: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Requests<T> {
    /// The next request; `None` when the client has sent all.
    ///
    /// # Errors
    /// `InvalidArgument` if a message cannot be decoded; the transport's error if the stream broke
    /// before its end.
    ///
    /// # Cancel safety
    /// A message is either returned or still in the stream.
    pub async fn next(&mut self) -> Result<Option<T>, Error> {
        match self.raw.next().await {
            Some(Ok(bytes)) => decode(bytes).map(Some),
            Some(Err(error)) => Err(error),
            None => Ok(None),
        }
    }
}

impl<T> fmt::Debug for Requests<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Requests").field(&self.raw).finish()
    }
}

/// Where the replies of a stream go.
pub trait ReplySink: Send + Sync {
    /// Takes the reply out of `reply` as soon as there is room for it.
    ///
    /// # Errors
    /// `Cancelled` if nobody will ever read it.
    fn poll_take(
        &self,
        context: &mut task::Context<'_>,
        reply: &mut Option<Bytes>,
    ) -> Poll<Result<(), Error>>;
}

/// The replies of a call with streams, still encoded.
#[derive(Clone)]
pub struct RawReplies(Arc<dyn ReplySink>);

impl RawReplies {
    /// Replies that go into `sink`.
    #[must_use]
    pub fn new(sink: Arc<dyn ReplySink>) -> Self {
        Self(sink)
    }

    /// The same stream for messages.
    #[must_use]
    pub fn encoding<T>(self) -> Replies<T> {
        Replies { raw: self, message: PhantomData }
    }

    /// Sends a reply that is encoded already, waiting for room.
    ///
    /// # Errors
    /// `Cancelled` if nobody will ever read it.
    ///
    /// # Cancel safety
    /// Not sent if dropped while waiting.
    pub async fn send(&self, reply: Bytes) -> Result<(), Error> {
        // An agent that is never made to wait must still let others run.
        tokio::task::consume_budget().await;
        let mut reply = Some(reply);
        poll_fn(|context| self.0.poll_take(context, &mut reply)).await
    }
}

impl fmt::Debug for RawReplies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawReplies").finish_non_exhaustive()
    }
}

/// The replies of a server stream.
pub struct Replies<T> {
    raw: RawReplies,
    message: PhantomData<fn(T)>,
}

impl<T: Message> Replies<T> {
    /// Sends a reply, waiting for room.
    ///
    /// # Errors
    /// `Cancelled` if nobody will ever read it.
    ///
    /// # Cancel safety
    /// Not sent if dropped while waiting.
    pub async fn send(&self, reply: T) -> Result<(), Error> {
        self.send_encoded(encode(&reply)?).await
    }

    /// The same for a reply that is encoded already, as one that many streams share.
    ///
    /// # Errors
    /// `Cancelled` if nobody will ever read it.
    ///
    /// # Cancel safety
    /// Not sent if dropped while waiting.
    pub async fn send_encoded(&self, reply: Bytes) -> Result<(), Error> {
        self.raw.send(reply).await
    }
}

impl<T> fmt::Debug for Replies<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Replies").field(&self.raw).finish()
    }
}
