//! Requests as they arrive: read whole, or refused with what the client is told and what is counted.
//! What is done with them is not known here.

use std::pin::pin;

use bytes::Bytes;
use http_body::Body;
use http_body_util::BodyExt as _;

use crate::error::{Error, ErrorKind};
use crate::metrics::Rejection;
use crate::transport::grpc::error::Refusal;
use crate::wire::{Deframer, Lost, Malformed};

/// A request that was not read, and why it is counted.
#[derive(Debug)]
pub(in crate::transport::grpc) struct Unread {
    pub(in crate::transport::grpc) refusal: Refusal,
    pub(in crate::transport::grpc) rejection: Option<Rejection>,
}

/// Reads the one message of a request that is at most `limit` bytes long. `hold` is told how much of it is
/// there, as it comes.
///
/// # Errors
/// `LimitExceeded` as soon as the length is known, what `hold` says, `InvalidArgument` if there is not exactly one
/// whole message, `Cancelled` if the client gives the call up.
///
/// # Cancel safety
/// What was read is lost.
pub(in crate::transport::grpc) async fn read<B>(
    body: B,
    limit: usize,
    mut hold: impl FnMut(usize) -> Result<(), Error>,
) -> Result<Bytes, Unread>
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
                hold(deframer.buffered()).map_err(Unread::of_caller)?;
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

impl Unread {
    /// The caller's requests have too many bytes.
    pub(in crate::transport::grpc) fn of_caller(error: Error) -> Self {
        Self { refusal: error.into(), rejection: Some(Rejection::CallerBytes) }
    }
}

/// The client has gone in the middle of its request.
fn given_up() -> Unread {
    let error = Error::new(ErrorKind::Cancelled, "the client gave the call up");
    Unread { refusal: error.into(), rejection: None }
}

impl From<Malformed> for Unread {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::Compressed => Self {
                refusal: Refusal::CompressedSomehow,
                rejection: Some(Rejection::InvalidRequest),
            },
            Malformed::TooLarge { length, limit } => {
                let error = Error::limit(
                    "grpc.max_request_bytes",
                    limit,
                    format_args!("the request has {length} bytes, which is too large"),
                );
                Self { refusal: error.into(), rejection: Some(Rejection::TooLarge) }
            }
            Malformed::Broken(problem) => invalid(&problem),
        }
    }
}

impl From<Lost> for Unread {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Malformed(malformed) => malformed.into(),
            Lost::BrokenOff => given_up(),
        }
    }
}

fn invalid(problem: &str) -> Unread {
    let error = Error::invalid("request", problem);
    Unread { refusal: error.into(), rejection: Some(Rejection::InvalidRequest) }
}
