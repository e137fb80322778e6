//! Errors as they travel: the status of each kind, with the details of `google.rpc`, and back. It
//! decides on nothing else.

#![expect(clippy::disallowed_types, reason = "this is how gRPC says what went wrong")]

use std::collections::HashMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::kind;
use crate::error::{Error, ErrorKind};

/// `google.rpc.ErrorInfo.domain` of every error.
pub(crate) const DOMAIN: &str = "org.opdbus";

/// The longest text in a status, in bytes of its percent-encoded form. Text and details are trailers,
/// of which the gRPC library of Python and C++ takes 8 KiB in all before it begins to refuse them.
const MAX_TEXT_BYTES: usize = 2048;

/// The longest name or value of one fact, in bytes.
const MAX_FACT_BYTES: usize = 256;

/// The most facts in one status.
const MAX_FACTS: usize = 4;

/// The status of each kind.
pub(crate) fn code(kind: ErrorKind) -> Code {
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
pub(crate) fn status(error: &Error) -> Status {
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

/// The trailers of a call that went well.
pub(crate) fn good() -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert(HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
    trailers
}

/// The trailers of a call that failed.
pub(crate) fn trailers(error: &Error) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    // What `status` gives is made to be sent; should it ever not be, the other side still gets an end.
    if status(error).add_header(&mut trailers).is_err() {
        trailers.insert("grpc-status", HeaderValue::from_static("13"));
    }
    trailers
}

/// The outcome of a call by the headers or trailers that end it; `None` if they do not say it.
pub(crate) fn outcome(headers: &HeaderMap) -> Option<Result<(), Error>> {
    // Nearly every call; the rest costs more to read.
    if headers.get("grpc-status").is_some_and(|status| status == "0") {
        return Some(Ok(()));
    }
    let status = Status::from_header_map(headers)?;
    Some(if status.code() == Code::Ok { Ok(()) } else { Err(error(&status)) })
}

/// A status as the error that it was made from.
fn error(status: &Status) -> Error {
    let details = status.get_error_details();
    let mut error = Error::new(kind(status, &details), status.message());
    if let Some(info) = details.error_info() {
        for (name, value) in info.metadata.iter().take(MAX_FACTS) {
            error = error.with_fact(name.clone(), value.clone());
        }
    }
    match details.retry_info().and_then(|info| info.retry_delay) {
        Some(delay) => error.with_retry_after(delay),
        None => error,
    }
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
