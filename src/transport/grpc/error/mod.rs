//! What a client is told when its call fails: the status of each kind of error, with the details of
//! `google.rpc`. It decides on nothing else.

use std::collections::HashMap;

use http::{HeaderName, HeaderValue, Response, StatusCode};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::value::Reply;
use crate::error::{Error, ErrorKind};

/// `google.rpc.ErrorInfo.domain` of every error.
pub(super) const DOMAIN: &str = "org.opdbus";

/// The longest text in a status, in bytes of its percent-encoded form. Text and details are trailers,
/// of which the gRPC library of Python and C++ takes 8 KiB in all before it begins to refuse them.
const MAX_TEXT_BYTES: usize = 2048;

/// The longest name or value of one fact, in bytes.
const MAX_FACT_BYTES: usize = 256;

/// The most facts in one status.
const MAX_FACTS: usize = 4;

/// A request that does not become a call.
#[derive(Debug)]
pub(super) enum Refusal {
    /// An error of the one table.
    Error(Error),
    /// It is no gRPC request, so the answer is none either.
    NotGrpc(StatusCode),
    /// The message is compressed, which is not served.
    Compressed,
    /// The message claims to be compressed, but the headers do not say how.
    CompressedSomehow,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Refusal {
    /// The answer to the client.
    pub(super) fn into_response(self) -> Response<Reply> {
        match self {
            Self::Error(error) => status(&error).into_http(),
            Self::NotGrpc(code) => {
                let mut response = Response::new(Reply::default());
                *response.status_mut() = code;
                response
            }
            Self::Compressed => {
                let text = "compressed messages are not served; send them as they are";
                let mut response = Status::unimplemented(text).into_http::<Reply>();
                response.headers_mut().insert(
                    HeaderName::from_static("grpc-accept-encoding"),
                    HeaderValue::from_static("identity"),
                );
                response
            }
            // The code that gRPC prescribes for this.
            Self::CompressedSomehow => Status::internal(
                "the message has the compressed flag but there is no grpc-encoding",
            )
            .into_http(),
        }
    }
}

/// The status of each kind.
pub(super) fn code(kind: ErrorKind) -> Code {
    match kind {
        ErrorKind::AccessDenied | ErrorKind::PathOutsideRoot => Code::PermissionDenied,
        ErrorKind::AlreadyExists => Code::AlreadyExists,
        ErrorKind::ApprovalRequired
        | ErrorKind::BackendMissing
        | ErrorKind::Migrated
        | ErrorKind::SandboxUnavailable => Code::FailedPrecondition,
        ErrorKind::BackendFailed | ErrorKind::Internal => Code::Internal,
        ErrorKind::BackendUnavailable | ErrorKind::Unavailable => Code::Unavailable,
        ErrorKind::Cancelled => Code::Cancelled,
        ErrorKind::Conflict => Code::Aborted,
        ErrorKind::DeadlineExceeded => Code::DeadlineExceeded,
        ErrorKind::InvalidArgument => Code::InvalidArgument,
        ErrorKind::LimitExceeded => Code::ResourceExhausted,
        ErrorKind::NotFound | ErrorKind::UnknownAgent => Code::NotFound,
        ErrorKind::Unauthenticated => Code::Unauthenticated,
        ErrorKind::UnknownOperation => Code::Unimplemented,
    }
}

/// The status of an error, with its details.
pub(super) fn status(error: &Error) -> Status {
    let text = shortened(error.message(), MAX_TEXT_BYTES);
    let facts: HashMap<String, String> = error
        .facts()
        .iter()
        .take(MAX_FACTS)
        .map(|(name, value)| (name.to_string(), shortened(value, MAX_FACT_BYTES)))
        .collect();
    let field = facts.get("field").cloned();
    let mut details = ErrorDetails::with_error_info(error.kind().reason(), DOMAIN, facts);
    if let Some(field) = field
        && error.kind() == ErrorKind::InvalidArgument
    {
        details.add_bad_request_violation(field, shortened(&text, MAX_FACT_BYTES));
    }
    if let Some(delay) = error.retry_after() {
        details.set_retry_info(Some(delay));
    }
    Status::with_error_details(code(error.kind()), text, details)
}

/// The begin of a text, so long that its percent-encoded form has at most `limit` bytes.
fn shortened(text: &str, limit: usize) -> String {
    const MARK: &str = " ...";
    let stays = |c: char| c.is_ascii_graphic() && !"\"#%<>`?{}".contains(c);
    let encoded = |c: char| if stays(c) { 1 } else { 3 * c.len_utf8() };
    let mut bytes = 0;
    let mut end = 0;
    for (at, c) in text.char_indices() {
        bytes += encoded(c);
        if bytes > limit {
            return format!("{}{MARK}", &text[..end]);
        }
        if bytes + MARK.len() <= limit {
            end = at + c.len_utf8();
        }
    }
    text.to_owned()
}

#[cfg(test)]
mod tests;
