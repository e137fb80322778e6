//! Answers as they travel: nothing but a status, one message behind its prefix, or what another body
//! gives. What the messages mean is not known here.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body, Frame};

use super::PREFIX_BYTES;
use crate::error::Error;
use crate::transport::grpc::stream::Replies;

/// A response up to this size is copied behind its prefix; a larger one travels as it is.
pub(in crate::transport::grpc) const COPIED_BYTES: usize = 16 * 1024;

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

/// What is left to send of a message: its prefix with or without it, it, the trailers.
pub(in crate::transport::grpc) struct Parts {
    first: Option<Bytes>,
    second: Option<Bytes>,
    ended: bool,
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
    let mut first = BytesMut::new();
    let second = put_message(&mut first, message, limit)?.map(|message| outgoing.counted(message));
    Ok(response(Reply::Message(Parts { first: Some(first.freeze()), second, ended: false })))
}

/// The head of an answer that is no refusal.
pub(in crate::transport::grpc) fn response(reply: Reply) -> Response<Reply> {
    let mut response = Response::new(reply);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// Puts a message behind its prefix into `buffer`. A large one is not copied but given back, to be
/// sent after the buffer.
///
/// # Errors
/// `LimitExceeded` if the message has more than `limit` bytes.
pub(in crate::transport::grpc) fn put_message(
    buffer: &mut BytesMut,
    message: Bytes,
    limit: usize,
) -> Result<Option<Bytes>, Error> {
    let length = match u32::try_from(message.len()) {
        Ok(length) if message.len() <= limit => length,
        Ok(_) | Err(_) => {
            return Err(Error::limit(
                "grpc.max_response_bytes",
                limit,
                format_args!("the response has {} bytes, which is too large", message.len()),
            ));
        }
    };
    let copied = if message.len() <= COPIED_BYTES { message.len() } else { 0 };
    buffer.reserve(PREFIX_BYTES + copied);
    buffer.put_u8(0);
    buffer.put_u32(length);
    buffer.put_slice(&message[..copied]);
    Ok((copied < message.len()).then_some(message))
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
            Self::Message(parts) => parts.ended,
            Self::Stream(replies) => replies.is_ended(),
            Self::Standard(body) => body.is_end_stream(),
        }
    }
}

impl Parts {
    fn next(&mut self) -> Option<Frame<Bytes>> {
        if let Some(data) = self.first.take().or_else(|| self.second.take()) {
            return Some(Frame::data(data));
        }
        if std::mem::replace(&mut self.ended, true) {
            return None;
        }
        Some(Frame::trailers(good()))
    }
}

/// The trailers of a call that went well.
pub(in crate::transport::grpc) fn good() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    trailers
}
