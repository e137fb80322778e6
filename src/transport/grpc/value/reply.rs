//! Answers as they travel: nothing but a status, one message behind its prefix, or what another body
//! gives. What the messages mean is not known here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use http_body::{Body, Frame};

use crate::error::Error;
use crate::executor::Exchange;
use crate::transport::grpc::stream::Replies;
use crate::wire::{self, Parts, TooLarge};

/// The bytes of large responses that were handed to a connection and not yet sent.
#[derive(Clone, Debug, Default)]
pub(in crate::transport::grpc) struct Outgoing(Arc<AtomicUsize>);

impl Outgoing {
    /// How many there are.
    pub(in crate::transport::grpc) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// The same message, counted until it is sent or thrown away.
    fn counted(&self, message: Bytes) -> Bytes {
        self.0.fetch_add(message.len(), Ordering::Relaxed);
        Bytes::from_owner(Counted { message, counter: self.clone() })
    }
}

struct Counted {
    message: Bytes,
    counter: Outgoing,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.message
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counter.0.fetch_sub(self.message.len(), Ordering::Relaxed);
    }
}

/// The body of an answer.
#[derive(Default)]
pub(in crate::transport::grpc) enum Reply {
    /// None: the status stands in the headers.
    #[default]
    Empty,
    /// One message and the status OK.
    Message(Parts),
    /// The messages of a stream, then its status.
    Stream(Box<Replies>),
    /// What one of tonic's own services answers.
    Standard(tonic::body::Body),
}

/// The body of an answer, and the place of its request for as long as not all of it was taken.
pub(in crate::transport::grpc) struct Answer {
    reply: Reply,
    _exchange: Option<Arc<Exchange>>,
}

impl Answer {
    /// One to a request that had no place.
    pub(in crate::transport::grpc) const fn new(reply: Reply) -> Self {
        Self { reply, _exchange: None }
    }

    /// One to the request of `exchange`.
    pub(in crate::transport::grpc) const fn of(reply: Reply, exchange: Arc<Exchange>) -> Self {
        Self { reply, _exchange: Some(exchange) }
    }
}

/// The answer to a call that went well.
///
/// # Errors
/// `LimitExceeded` if the message has more than `limit` bytes.
pub(in crate::transport::grpc) fn answer(
    message: Bytes,
    limit: usize,
    outgoing: &Outgoing,
) -> Result<Response<Reply>, Error> {
    let parts = Parts::of(message, limit).map_err(|large| too_large(large, limit))?;
    Ok(response(Reply::Message(parts.map_large(|message| outgoing.counted(message)))))
}

/// The head of an answer that is no refusal.
pub(in crate::transport::grpc) fn response(reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// As [`wire::put_message`], for the answer to a client.
///
/// # Errors
/// `LimitExceeded` if the message has more than `limit` bytes.
pub(in crate::transport::grpc) fn put_message(
    buffer: &mut BytesMut,
    message: Bytes,
    limit: usize,
) -> Result<Option<Bytes>, Error> {
    wire::put_message(buffer, message, limit).map_err(|large| too_large(large, limit))
}

fn too_large(TooLarge(bytes): TooLarge, limit: usize) -> Error {
    let problem = format_args!("the response has {bytes} bytes, which is too large");
    Error::limit("grpc.max_response_bytes", limit, problem)
}

impl Body for Reply {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Message(parts) => Poll::Ready(parts.next().map(Ok)),
            Self::Stream(replies) => replies.poll_next(context).map(|frame| frame.map(Ok)),
            Self::Standard(body) => Pin::new(body).poll_frame(context),
        }
    }

    // Without this an answer of headers only would be followed by an empty frame of data, which some
    // clients take for an error of its own.
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Message(parts) => parts.is_ended(),
            Self::Stream(replies) => replies.is_ended(),
            Self::Standard(body) => body.is_end_stream(),
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = tonic::Status;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, tonic::Status>>> {
        Pin::new(&mut self.get_mut().reply).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.reply.is_end_stream()
    }
}
