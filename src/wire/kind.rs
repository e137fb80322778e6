//! What kind of error a status is. The other details of a status are each reader's own.

#![expect(clippy::disallowed_types, reason = "this is how gRPC says what went wrong")]

use tonic::{Code, Status};
use tonic_types::ErrorDetails;

use crate::error::ErrorKind;

/// What went wrong: by the reason that op-dbus gives, else by the code.
pub(crate) fn kind(status: &Status, details: &ErrorDetails) -> ErrorKind {
    let reason = details.error_info().map(|info| info.reason.as_str());
    let by_reason = ErrorKind::ALL.into_iter().find(|kind| Some(kind.reason()) == reason);
    by_reason.unwrap_or_else(|| kind_of_code(status.code()))
}

/// What a code means when nothing else is said: it comes from the gRPC library or from something
/// that stands between.
fn kind_of_code(code: Code) -> ErrorKind {
    match code {
        Code::Cancelled => ErrorKind::Cancelled,
        Code::InvalidArgument | Code::OutOfRange => ErrorKind::InvalidArgument,
        Code::DeadlineExceeded => ErrorKind::DeadlineExceeded,
        Code::NotFound => ErrorKind::NotFound,
        Code::AlreadyExists => ErrorKind::AlreadyExists,
        Code::PermissionDenied => ErrorKind::AccessDenied,
        Code::ResourceExhausted => ErrorKind::LimitExceeded,
        Code::Aborted | Code::FailedPrecondition => ErrorKind::Conflict,
        Code::Unimplemented => ErrorKind::UnknownOperation,
        Code::Unavailable => ErrorKind::Unavailable,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::Ok | Code::Unknown | Code::Internal | Code::DataLoss => ErrorKind::Internal,
    }
}
