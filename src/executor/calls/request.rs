//! The fields in which a client says what a call is given and how long it may take. What the request
//! means is its operation's.

use std::time::Duration;

use bytes::Bytes;

use crate::contract::json_to_message;
use crate::error::Error;
use crate::executor::Route;

/// A request in one of its two forms.
pub(super) enum Payload {
    Encoded(Bytes),
    Json(String),
}

/// The request of the fields `arguments` and `request`.
///
/// # Errors
/// `InvalidArgument` if both are there.
pub(super) fn payload(arguments: String, request: Option<Bytes>) -> Result<Payload, Error> {
    match request {
        None => Ok(Payload::Json(arguments)),
        Some(request) if arguments.is_empty() => Ok(Payload::Encoded(request)),
        Some(_) => Err(Error::invalid("request", "must not be there together with arguments")),
    }
}

/// The encoded form of a request.
///
/// # Errors
/// `InvalidArgument` if the text does not fit the operation.
pub(super) fn encode(route: &Route, json: &str) -> Result<Bytes, Error> {
    json_to_message(&route.operation.input, json).map(Into::into)
}

/// The time of the field `timeout`.
///
/// # Errors
/// `InvalidArgument` if it is negative.
pub(super) fn timeout(timeout: Option<prost_types::Duration>) -> Result<Option<Duration>, Error> {
    let timeout = timeout.map(Duration::try_from).transpose();
    timeout.map_err(|_negative| Error::invalid("timeout", "must not be negative"))
}
