//! A call's request and response as they travel: one message each, still encoded, behind gRPC's five
//! bytes of flag and length. What the messages mean is not known here.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Response};
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;

use super::error::Refusal;
use crate::error::{Error, ErrorKind};
use crate::metrics::Rejection;

/// The flag and the length before each message.
const PREFIX_BYTES: usize = 5;

/// The room that a claimed length alone gets; more comes with the bytes themselves.
const FIRST_ROOM_BYTES: usize = 64 * 1024;

/// A response up to this size is copied behind its prefix; a larger one travels as it is.
pub(super) const COPIED_BYTES: usize = 16 * 1024;

/// A request that was not read, and why it is counted.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) refusal: Refusal,
    pub(super) rejection: Option<Rejection>,
}

/// Reads the one message of a request that is at most `limit` bytes long.
///
/// # Errors
/// `LimitExceeded` as soon as the length is known, `InvalidArgument` if there is not exactly one
/// whole message, `Cancelled` if the client gives the call up.
///
/// # Cancel safety
/// What was read is lost.
pub(super) async fn read<B>(body: B, limit: usize) -> Result<Bytes, Unread>
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut request =
        Request { limit, prefix: [0; PREFIX_BYTES], met: 0, length: None, message: Got::Nothing };
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            let error = Error::new(ErrorKind::Cancelled, "the client gave the call up");
            return Err(Unread { refusal: error.into(), rejection: None });
        };
        if let Ok(data) = frame.into_data() {
            request.push(data)?;
        }
        if body.is_end_stream() {
            break;
        }
    }
    request.end()
}

/// A request that is being read.
struct Request {
    limit: usize,
    /// The prefix; so many bytes of it have come.
    prefix: [u8; PREFIX_BYTES],
    met: usize,
    /// The message's length, once the prefix was whole.
    length: Option<usize>,
    message: Got,
}

/// What there is of the message.
enum Got {
    Nothing,
    /// All that came so far, as the one piece in which it came.
    Piece(Bytes),
    Pieces(BytesMut),
}

impl Got {
    fn len(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Piece(piece) => piece.len(),
            Self::Pieces(pieces) => pieces.len(),
        }
    }
}

impl Request {
    fn push(&mut self, mut data: Bytes) -> Result<(), Unread> {
        let length = match self.length {
            Some(length) => length,
            None => {
                let coming = data.split_to((PREFIX_BYTES - self.met).min(data.len()));
                self.prefix[self.met..self.met + coming.len()].copy_from_slice(&coming);
                self.met += coming.len();
                if self.met < PREFIX_BYTES {
                    return Ok(());
                }
                let length = self.prefix_read()?;
                self.length = Some(length);
                length
            }
        };
        if data.is_empty() {
            return Ok(());
        }
        if self.message.len() + data.len() > length {
            return Err(invalid("there is more than one message; this operation takes one"));
        }
        self.message = match std::mem::replace(&mut self.message, Got::Nothing) {
            Got::Nothing => Got::Piece(data),
            Got::Piece(first) => {
                let room = length.min(FIRST_ROOM_BYTES.max(first.len() + data.len()));
                let mut pieces = BytesMut::with_capacity(room);
                pieces.put(first);
                pieces.put(data);
                Got::Pieces(pieces)
            }
            Got::Pieces(mut pieces) => {
                pieces.put(data);
                Got::Pieces(pieces)
            }
        };
        Ok(())
    }

    /// Reads the prefix: the length of the message.
    fn prefix_read(&self) -> Result<usize, Unread> {
        let [flag, number @ ..] = self.prefix;
        match flag {
            0 => {}
            1 => {
                let refusal = Refusal::CompressedSomehow;
                return Err(Unread { refusal, rejection: Some(Rejection::InvalidRequest) });
            }
            flag => {
                return Err(invalid(&format!("the message begins with the unknown flag {flag}")));
            }
        }
        let length = usize::try_from(u32::from_be_bytes(number)).unwrap_or(usize::MAX);
        if length > self.limit {
            let error = Error::limit(
                "grpc.max_request_bytes",
                self.limit,
                format_args!("the request has {length} bytes, which is too large"),
            );
            return Err(Unread { refusal: error.into(), rejection: Some(Rejection::TooLarge) });
        }
        Ok(length)
    }

    fn end(self) -> Result<Bytes, Unread> {
        let got = self.message.len();
        match self.length {
            None if self.met == 0 => Err(invalid("there is no message")),
            None => Err(invalid("the message ends within its length")),
            Some(length) if got < length => {
                Err(invalid(&format!("the message ends after {got} of {length} bytes")))
            }
            Some(_) => Ok(match self.message {
                Got::Nothing => Bytes::new(),
                Got::Piece(piece) => piece,
                Got::Pieces(pieces) => pieces.freeze(),
            }),
        }
    }
}

fn invalid(problem: &str) -> Unread {
    let error = Error::invalid("request", problem);
    Unread { refusal: error.into(), rejection: Some(Rejection::InvalidRequest) }
}

/// The bytes of large responses that were handed to a connection and not yet sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Outgoing(Arc<AtomicUsize>);

impl Outgoing {
    /// How many there are.
    pub(super) fn bytes(&self) -> usize {
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
pub(super) enum Reply {
    /// None: the status stands in the headers.
    #[default]
    Empty,
    /// One message and the status OK.
    Message(Parts),
    /// What one of tonic's own services answers.
    Standard(tonic::body::Body),
}

/// What is left to send of a message: its prefix with or without it, it, the trailers.
pub(super) struct Parts {
    first: Option<Bytes>,
    second: Option<Bytes>,
    ended: bool,
}

/// The answer to a call that went well.
///
/// # Errors
/// `LimitExceeded` if the message has more than `limit` bytes.
pub(super) fn answer(
    message: Bytes,
    limit: usize,
    outgoing: &Outgoing,
) -> Result<Response<Reply>, Error> {
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
    let mut first = BytesMut::with_capacity(PREFIX_BYTES + copied);
    first.put_u8(0);
    first.put_u32(length);
    first.put_slice(&message[..copied]);
    let second = (copied < message.len()).then(|| outgoing.counted(message));
    let parts = Parts { first: Some(first.freeze()), second, ended: false };
    let mut response = Response::new(Reply::Message(parts));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    Ok(response)
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
            Self::Standard(body) => Pin::new(body).poll_frame(context),
        }
    }

    // Without this an answer of headers only would be followed by an empty frame of data, which some
    // clients take for an error of its own.
    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Message(parts) => parts.ended,
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
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
        Some(Frame::trailers(trailers))
    }
}

#[cfg(test)]
mod tests;
