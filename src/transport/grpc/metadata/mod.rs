//! What a client says beside its request, in gRPC metadata: deadline, ids, trace context. It
//! reads and checks; what follows from it is the executor's.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;

use crate::call::{OnDisconnect, client_name};
use crate::error::Error;
use crate::wire;

/// The longest `opdbus-request-id`, `opdbus-session-id` or `opdbus-approval-id`, in bytes.
const MAX_ID_BYTES: usize = 128;

/// What the metadata of one call say.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Metadata {
    /// How long the client is ready to wait (`grpc-timeout`).
    pub(super) timeout: Option<Duration>,
    /// The client's name for the request (`opdbus-request-id`).
    pub(super) request_id: Option<Box<str>>,
    /// The session that the call belongs to (`opdbus-session-id`).
    pub(super) session: Option<Arc<str>>,
    /// The approval that the client says it has (`opdbus-approval-id`).
    pub(super) approval_id: Option<Box<str>>,
    /// Whether somebody may be asked to authenticate for the call (`opdbus-interactive`).
    pub(super) interactive: Option<bool>,
    /// What becomes of a stream when its client goes away (`opdbus-on-disconnect`).
    pub(super) on_disconnect: Option<OnDisconnect>,
    /// The W3C trace context (`traceparent`).
    pub(super) traceparent: Option<Box<str>>,
    /// What the client calls itself (`opdbus-client-name`).
    pub(super) client_name: Option<Arc<str>>,
    /// True if `grpc-encoding` names a compression.
    pub(super) compressed: bool,
}

impl Metadata {
    /// Reads the headers of a request.
    ///
    /// # Errors
    /// `InvalidArgument` naming the metadata that is wrong, repeated, or op-dbus's own but not served.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Error> {
        let mut metadata = Self::default();
        for (name, value) in headers {
            let value = value.as_bytes();
            match name.as_str() {
                "grpc-timeout" => set("grpc-timeout", &mut metadata.timeout, wire::timeout(value))?,
                "grpc-encoding" => metadata.compressed = value != b"identity",
                "traceparent" => {
                    set("traceparent", &mut metadata.traceparent, traceparent(value))?;
                }
                "opdbus-request-id" => {
                    set("opdbus-request-id", &mut metadata.request_id, id(value).map(Box::from))?;
                }
                "opdbus-session-id" => {
                    set("opdbus-session-id", &mut metadata.session, id(value).map(Arc::from))?;
                }
                "opdbus-approval-id" => {
                    set("opdbus-approval-id", &mut metadata.approval_id, id(value).map(Box::from))?;
                }
                "opdbus-interactive" => {
                    set("opdbus-interactive", &mut metadata.interactive, boolean(value))?;
                }
                "opdbus-on-disconnect" => {
                    let choice = on_disconnect(value);
                    set("opdbus-on-disconnect", &mut metadata.on_disconnect, choice)?;
                }
                "opdbus-client-name" => {
                    let name = client_name(str::from_utf8(value).unwrap_or_default());
                    set("opdbus-client-name", &mut metadata.client_name, name)?;
                }
                name @ "opdbus-detach" => {
                    return Err(Error::invalid(
                        name,
                        "gRPC has CallsService.StartCall for this, which gives a task at once",
                    ));
                }
                name if name.starts_with("opdbus-") => {
                    return Err(Error::invalid(
                        name,
                        "op-dbus knows no such metadata; there are opdbus-request-id, \
                         opdbus-session-id, opdbus-approval-id, opdbus-interactive, \
                         opdbus-on-disconnect and opdbus-client-name",
                    ));
                }
                _ => {}
            }
        }
        Ok(metadata)
    }
}

fn set<T>(
    name: &'static str,
    place: &mut Option<T>,
    value: Result<T, &'static str>,
) -> Result<(), Error> {
    let value = value.map_err(|problem| Error::invalid(name, problem))?;
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Error::invalid(name, "must come once")),
    }
}

fn id(value: &[u8]) -> Result<&str, &'static str> {
    const FORM: &str = "must be 1 to 128 visible ASCII characters";
    if !(1..=MAX_ID_BYTES).contains(&value.len()) || !value.iter().all(u8::is_ascii_graphic) {
        return Err(FORM);
    }
    str::from_utf8(value).map_err(|_| FORM)
}

fn boolean(value: &[u8]) -> Result<bool, &'static str> {
    match value {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err("must be true or false"),
    }
}

fn on_disconnect(value: &[u8]) -> Result<OnDisconnect, &'static str> {
    match value {
        b"continue" => Ok(OnDisconnect::Continue),
        b"cancel" => Ok(OnDisconnect::Cancel),
        _ => Err("must be continue or cancel"),
    }
}

/// A W3C trace context: version, trace, parent and flags in lower-case hexadecimal digits.
fn traceparent(value: &[u8]) -> Result<Box<str>, &'static str> {
    const FORM: &str =
        "must be a W3C trace context, as 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    /// The length of version 00; later versions may go on after it.
    const LENGTH: usize = 55;
    let is_hex = |digit: &u8| digit.is_ascii_digit() || (b'a'..=b'f').contains(digit);
    let text = str::from_utf8(value).map_err(|_| FORM)?;
    let known = value.get(..LENGTH).ok_or(FORM)?;
    let (version, trace, parent) = (&known[..2], &known[3..35], &known[36..52]);
    let is_valid = known.iter().enumerate().all(|(at, byte)| match at {
        2 | 35 | 52 => *byte == b'-',
        _ => is_hex(byte),
    }) && version != b"ff"
        && trace.iter().any(|digit| *digit != b'0')
        && parent.iter().any(|digit| *digit != b'0')
        && match value.get(LENGTH) {
            None => true,
            Some(next) => version != b"00" && *next == b'-' && value.len() <= 4 * LENGTH,
        };
    if is_valid { Ok(text.into()) } else { Err(FORM) }
}

#[cfg(test)]
mod tests;
