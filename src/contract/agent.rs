//! What the generated adapters stand on: the object-safe agent, encoding, and bounded streams of
//! messages. It knows no particular agent.

use std::fmt;
use std::future::{Future, ready};
use std::marker::PhantomData;
use std::pin::Pin;

use bytes::Bytes;
use prost::Message;
use tokio::sync::mpsc;

use crate::call::Context;
use crate::error::{Error, ErrorKind};

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

/// The requests of a client stream, still encoded.
#[derive(Debug)]
pub struct RawRequests(mpsc::Receiver<Result<Bytes, Error>>);

impl RawRequests {
    /// A stream that holds at most `capacity` messages which the agent has not taken yet. The sender
    /// ends the stream by being dropped, and breaks it by sending an error.
    #[must_use]
    pub fn bounded(capacity: usize) -> (mpsc::Sender<Result<Bytes, Error>>, Self) {
        let (sender, receiver) = mpsc::channel(capacity);
        (sender, Self(receiver))
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
    pub async fn only<T: Message + Default>(self) -> Result<T, Error> {
        let mut requests = self.decoded::<T>();
        let Some(request) = requests.next().await? else {
            return Err(Error::invalid("request", "is missing"));
        };
        if requests.next().await?.is_some() {
            return Err(Error::invalid("request", "this operation takes one message"));
        }
        Ok(request)
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
        match self.raw.0.recv().await {
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

/// The replies of a server stream, still to be encoded.
#[derive(Clone, Debug)]
pub struct RawReplies(mpsc::Sender<Bytes>);

impl RawReplies {
    /// A stream that holds at most `capacity` messages which the client has not taken yet; an agent
    /// that is faster waits.
    #[must_use]
    pub fn bounded(capacity: usize) -> (Self, mpsc::Receiver<Bytes>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self(sender), receiver)
    }

    /// The same stream for messages.
    #[must_use]
    pub fn encoding<T>(self) -> Replies<T> {
        Replies { raw: self, message: PhantomData }
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
    /// `Cancelled` if nobody reads any more.
    ///
    /// # Cancel safety
    /// Not sent if dropped while waiting.
    pub async fn send(&self, reply: T) -> Result<(), Error> {
        self.raw
            .0
            .send(encode(&reply)?)
            .await
            .map_err(|_| Error::new(ErrorKind::Cancelled, "nobody reads the replies any more"))
    }
}

impl<T> fmt::Debug for Replies<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Replies").field(&self.raw).finish()
    }
}
