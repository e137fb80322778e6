//! The responses of a call with streams, encoded and decoded. Where they come from is each way's own.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt as _};
use prost::Message;

use super::error::{Error, Failure};

/// The responses of a call as they come, encoded. Dropping it gives the call up.
pub struct Messages {
    task_id: Option<String>,
    messages: BoxStream<'static, Result<Bytes, Error>>,
}

impl Messages {
    /// The responses that `messages` gives, of a call that is the task `task_id`.
    #[must_use]
    pub fn new(
        task_id: Option<String>,
        messages: impl Stream<Item = Result<Bytes, Error>> + Send + 'static,
    ) -> Self {
        Self { task_id, messages: messages.boxed() }
    }

    /// The id of the task that the call is, to find it again; `None` for what is a mere view.
    #[must_use]
    pub fn task_id(&self) -> Option<&str> {
        self.task_id.as_deref()
    }
}

impl Stream for Messages {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.messages.poll_next_unpin(context)
    }
}

impl fmt::Debug for Messages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Messages").field("task_id", &self.task_id).finish_non_exhaustive()
    }
}

/// The responses of a call as they come. Dropping it gives the call up.
#[derive(Debug)]
pub struct Responses<T> {
    messages: Messages,
    message: PhantomData<fn() -> T>,
}

impl<T: Message + Default> Responses<T> {
    pub(super) fn new(messages: Messages) -> Self {
        Self { messages, message: PhantomData }
    }

    /// The id of the task that the call is, to find it again; `None` for what is a mere view.
    #[must_use]
    pub fn task_id(&self) -> Option<&str> {
        self.messages.task_id()
    }

    /// The next response; `None` after the last.
    ///
    /// # Errors
    /// As of the call; nothing follows an error.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn message(&mut self) -> Result<Option<T>, Error> {
        self.next().await.transpose()
    }

    /// The one response of an operation that gives one, after which nothing may follow.
    pub(super) async fn only(mut self) -> Result<T, Error> {
        let first = self.message().await?;
        let response = first.ok_or_else(|| Failure::internal("the service gave no response"))?;
        match self.message().await? {
            None => Ok(response),
            Some(_) => Err(Failure::internal("the service gave more than one response").into()),
        }
    }
}

impl<T: Message + Default> Stream for Responses<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = ready!(self.messages.poll_next_unpin(context));
        Poll::Ready(message.map(|message| decoded(message?)))
    }
}

/// A response, decoded.
pub(super) fn decoded<T: Message + Default>(bytes: Bytes) -> Result<T, Error> {
    T::decode(bytes).map_err(|error| {
        Failure::internal(format!("the service's answer cannot be read: {error}")).into()
    })
}
