//! Requests as they travel: messages, still encoded, behind gRPC's five bytes of flag and length. What
//! is done with them is not known here.

use std::pin::pin;

use bytes::{BufMut as _, Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt as _;

use super::PREFIX_BYTES;
use crate::error::{Error, ErrorKind};
use crate::metrics::Rejection;
use crate::transport::grpc::error::Refusal;

/// The room that a claimed length alone gets; more comes with the bytes themselves.
const FIRST_ROOM_BYTES: usize = 64 * 1024;

/// A request that was not read, and why it is counted.
#[derive(Debug)]
pub(in crate::transport::grpc) struct Unread {
    pub(in crate::transport::grpc) refusal: Refusal,
    pub(in crate::transport::grpc) rejection: Option<Rejection>,
}

/// Reads the one message of a request that is at most `limit` bytes long.
///
/// # Errors
/// `LimitExceeded` as soon as the length is known, `InvalidArgument` if there is not exactly one
/// whole message, `Cancelled` if the client gives the call up.
///
/// # Cancel safety
/// What was read is lost.
pub(in crate::transport::grpc) async fn read<B>(body: B, limit: usize) -> Result<Bytes, Unread>
where
    B: Body<Data = Bytes>,
{
    let mut body = pin!(body);
    let mut deframer = Deframer::new(limit);
    let mut request = None;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Err(given_up()) };
        if let Ok(mut data) = frame.into_data() {
            if request.is_none() {
                request = deframer.take(&mut data)?;
            }
            if !data.is_empty() {
                return Err(invalid("there is more than one message; this operation takes one"));
            }
        }
        if body.is_end_stream() {
            break;
        }
    }
    deframer.end()?;
    request.ok_or_else(|| invalid("there is no message"))
}

/// The client has gone in the middle of its request.
pub(in crate::transport::grpc) fn given_up() -> Unread {
    let error = Error::new(ErrorKind::Cancelled, "the client gave the call up");
    Unread { refusal: error.into(), rejection: None }
}

/// Finds the messages in the bytes of a request.
pub(in crate::transport::grpc) struct Deframer {
    limit: usize,
    /// The prefix of the message; so many bytes of it have come.
    prefix: [u8; PREFIX_BYTES],
    met: usize,
    /// The message's length, once the prefix is whole.
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

    /// The same with `data` after it; there will be `length` bytes in all.
    fn and(self, data: Bytes, length: usize) -> Self {
        match self {
            _ if data.is_empty() => self,
            Self::Nothing => Self::Piece(data),
            Self::Piece(first) => {
                let room = length.min(FIRST_ROOM_BYTES.max(first.len() + data.len()));
                let mut pieces = BytesMut::with_capacity(room);
                pieces.put(first);
                pieces.put(data);
                Self::Pieces(pieces)
            }
            Self::Pieces(mut pieces) => {
                pieces.put(data);
                Self::Pieces(pieces)
            }
        }
    }

    fn whole(self) -> Bytes {
        match self {
            Self::Nothing => Bytes::new(),
            Self::Piece(piece) => piece,
            Self::Pieces(pieces) => pieces.freeze(),
        }
    }
}

impl Deframer {
    /// Takes messages of at most `limit` bytes.
    pub(in crate::transport::grpc) fn new(limit: usize) -> Self {
        Self { limit, prefix: [0; PREFIX_BYTES], met: 0, length: None, message: Got::Nothing }
    }

    /// Takes out of `data` what belongs to the message that is coming, and gives it once it is whole.
    ///
    /// # Errors
    /// `LimitExceeded` as soon as the length is known, `InvalidArgument` if the prefix is none.
    pub(in crate::transport::grpc) fn take(
        &mut self,
        data: &mut Bytes,
    ) -> Result<Option<Bytes>, Unread> {
        let length = match self.length {
            Some(length) => length,
            None => {
                let coming = data.split_to((PREFIX_BYTES - self.met).min(data.len()));
                self.prefix[self.met..self.met + coming.len()].copy_from_slice(&coming);
                self.met += coming.len();
                if self.met < PREFIX_BYTES {
                    return Ok(None);
                }
                *self.length.insert(self.prefix_read()?)
            }
        };
        let coming = data.split_to((length - self.message.len()).min(data.len()));
        let message = std::mem::replace(&mut self.message, Got::Nothing).and(coming, length);
        if message.len() < length {
            self.message = message;
            return Ok(None);
        }
        (self.met, self.length) = (0, None);
        Ok(Some(message.whole()))
    }

    /// Checks that no message has come by half.
    ///
    /// # Errors
    /// `InvalidArgument` if one has.
    pub(in crate::transport::grpc) fn end(&self) -> Result<(), Unread> {
        match self.length {
            None if self.met == 0 => Ok(()),
            None => Err(invalid("the message ends within its length")),
            Some(length) => {
                let got = self.message.len();
                Err(invalid(&format!("the message ends after {got} of {length} bytes")))
            }
        }
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
}

fn invalid(problem: &str) -> Unread {
    let error = Error::invalid("request", problem);
    Unread { refusal: error.into(), rejection: Some(Rejection::InvalidRequest) }
}
