//! Calls with a stream of messages on one side or both, over gRPC. The messages are encoded protobuf;
//! what is in them is the user's matter.

#![expect(clippy::disallowed_types, reason = "this is part of the gRPC client")]

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use futures_util::{Stream, StreamExt as _};
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::{Request, Status, Streaming};

use super::MAX_ANSWER_BYTES;
use super::error::{Error, Failure};
use super::grpc::{Connection, MAX_TIMEOUT, failure, header, innermost};
use crate::call::OnDisconnect;
use crate::error::ErrorKind;

/// What belongs to a stream but not to its messages.
#[derive(Clone, Debug, Default)]
pub struct StreamOptions {
    /// How long the work may take; the service's own default if `None`.
    pub timeout: Option<Duration>,
    /// The session that the call belongs to.
    pub session: Option<String>,
    /// What becomes of the work when this client goes away; the service's default if `None`.
    pub on_disconnect: Option<OnDisconnect>,
    /// Whether the user may be asked to authenticate for the call, which then waits for him.
    pub interactive: bool,
}

/// The responses of a call, as they come. Dropping it is the client's going away.
#[derive(Debug)]
pub struct Messages {
    task_id: Option<String>,
    messages: Streaming<Bytes>,
}

impl Messages {
    /// The id of the task that the call is, to find it again; `None` for what is a mere view.
    #[must_use]
    pub fn task_id(&self) -> Option<&str> {
        self.task_id.as_deref()
    }
}

impl Stream for Messages {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let message = ready!(self.messages.poll_next_unpin(context));
        Poll::Ready(message.map(|message| message.map_err(|status| failed(&status))))
    }
}

impl Connection {
    /// Opens a stream. An operation that takes one message takes a stream of one.
    pub(super) async fn stream(
        &self,
        path: &str,
        requests: impl Stream<Item = Bytes> + Send + 'static,
        options: &StreamOptions,
    ) -> Result<Messages, Error> {
        let path = PathAndQuery::try_from(path)
            .map_err(|error| Failure::new(ErrorKind::InvalidArgument, format!("path: {error}")))?;
        let mut request = Request::new(requests);
        if let Some(timeout) = options.timeout {
            request.set_timeout(timeout.min(MAX_TIMEOUT));
        }
        if let Some(session) = &options.session {
            request.metadata_mut().insert("opdbus-session-id", header("session", session)?);
        }
        if options.interactive {
            let allowed = MetadataValue::from_static("true");
            request.metadata_mut().insert("opdbus-interactive", allowed);
        }
        if let Some(choice) = options.on_disconnect {
            let choice = match choice {
                OnDisconnect::Continue => "continue",
                OnDisconnect::Cancel => "cancel",
            };
            request
                .metadata_mut()
                .insert("opdbus-on-disconnect", MetadataValue::from_static(choice));
        }
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        grpc.ready().await.map_err(|error| self.lost(&error))?;
        let response =
            grpc.streaming(request, path, Encoded).await.map_err(|status| failed(&status))?;
        let task_id = response.metadata().get("opdbus-task-id");
        let task_id = task_id.and_then(|id| id.to_str().ok()).map(str::to_owned);
        Ok(Messages { task_id, messages: response.into_inner() })
    }
}

/// A status as an error. One with a source was made by this side over a connection that broke.
fn failed(status: &Status) -> Error {
    match std::error::Error::source(status) {
        Some(source) => Failure::lost(innermost(source)).into(),
        None => failure(status).into(),
    }
}

/// Messages as they are.
#[derive(Clone, Copy)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(message);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}
