//! What belongs to a call but not to its request, as the front tells it to a worker. Only the front
//! holds a worker's socket, so that nobody else can say who calls. How the front knows who calls, and
//! the caller's groups, stay with it: rights are decided there, and the worker has the user's own.

use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::{timeout, timeout_text};
use crate::call::{Approval, Attested, Caller, Context, Identity, Transport};
use crate::error::Error;

const UID: HeaderName = HeaderName::from_static("opdbus-uid");
const GID: HeaderName = HeaderName::from_static("opdbus-gid");
const PID: HeaderName = HeaderName::from_static("opdbus-pid");
const ADDRESS: HeaderName = HeaderName::from_static("opdbus-address");
const TRANSPORT: HeaderName = HeaderName::from_static("opdbus-transport");
const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const REQUEST_ID: HeaderName = HeaderName::from_static("opdbus-request-id");
const SESSION: HeaderName = HeaderName::from_static("opdbus-session-id");
const TASK_ID: HeaderName = HeaderName::from_static("opdbus-task-id");
const APPROVED_ID: HeaderName = HeaderName::from_static("opdbus-approved-id");
const APPROVED_BY: HeaderName = HeaderName::from_static("opdbus-approved-by");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// There if somebody hears the notes of the call.
const NOTES: HeaderName = HeaderName::from_static("opdbus-notes");

/// Writes a context into headers.
///
/// # Errors
/// `Internal` if one of its texts cannot be a header, which the transports have made sure of.
pub(crate) fn write_context(context: &Context, headers: &mut HeaderMap) -> Result<(), Error> {
    if let Identity::User { uid, gid } = context.caller.identity {
        headers.insert(UID, uid.into());
        if let Some(gid) = gid {
            headers.insert(GID, gid.into());
        }
    }
    if let Some(pid) = context.caller.pid {
        headers.insert(PID, pid.into());
    }
    headers.insert(TRANSPORT, HeaderValue::from_static(context.transport.name()));
    if let Some(deadline) = context.deadline {
        let left = deadline.saturating_duration_since(Instant::now());
        headers.insert(TIMEOUT, text(&timeout_text(left))?);
    }
    if context.reporter.is_some() {
        headers.insert(NOTES, HeaderValue::from_static("1"));
    }
    headers.insert(ADDRESS, text(&context.caller.address)?);
    if let Some(approval) = &context.approved {
        headers.insert(APPROVED_ID, text(&approval.id)?);
        headers.insert(APPROVED_BY, approval.by.into());
    }
    let texts = [
        (REQUEST_ID, context.request_id.as_deref()),
        (SESSION, context.session.as_deref()),
        (TASK_ID, context.task_id.as_deref()),
        (TRACEPARENT, context.traceparent.as_deref()),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            headers.insert(name, text(value)?);
        }
    }
    Ok(())
}

/// True if somebody hears how far the call is, which [`read_context`] cannot give a reporter for.
pub(crate) fn wants_notes(headers: &HeaderMap) -> bool {
    headers.contains_key(NOTES)
}

/// Reads the context that [`write_context`] wrote.
///
/// # Errors
/// `InvalidArgument` naming the header that is none of its.
pub(crate) fn read_context(headers: &HeaderMap) -> Result<Context, Error> {
    let (identity, attested) = match parsed(headers, &UID)? {
        Some(uid) => (Identity::User { uid, gid: parsed(headers, &GID)? }, Attested::Service),
        None => (Identity::Unknown, Attested::Nobody),
    };
    let mut caller = Caller::new(identity, attested, found(headers, &ADDRESS)?.unwrap_or_default());
    caller.pid = parsed(headers, &PID)?;
    let transport = found(headers, &TRANSPORT)?.unwrap_or_default();
    let transport = Transport::ALL
        .into_iter()
        .find(|known| known.name() == transport)
        .ok_or_else(|| Error::invalid(TRANSPORT.as_str(), "is no transport"))?;
    let mut context = Context::new(Arc::new(caller), transport);
    if let Some(value) = headers.get(&TIMEOUT) {
        let left = timeout(value.as_bytes())
            .map_err(|problem| Error::invalid(TIMEOUT.as_str(), problem))?;
        context.timeout = Some(left);
        context.deadline = context.received.checked_add(left);
    }
    context.approved = match (found(headers, &APPROVED_ID)?, parsed(headers, &APPROVED_BY)?) {
        (Some(id), Some(by)) => Some(Arc::new(Approval { id: id.into(), by })),
        (None, None) => None,
        (Some(_), None) => return Err(Error::invalid(APPROVED_BY.as_str(), "is missing")),
        (None, Some(_)) => return Err(Error::invalid(APPROVED_ID.as_str(), "is missing")),
    };
    context.request_id = found(headers, &REQUEST_ID)?.map(Box::from);
    context.session = found(headers, &SESSION)?.map(Arc::from);
    context.task_id = found(headers, &TASK_ID)?.map(Box::from);
    context.traceparent = found(headers, &TRACEPARENT)?.map(Box::from);
    Ok(context)
}

fn text(value: &str) -> Result<HeaderValue, Error> {
    HeaderValue::from_str(value)
        .map_err(|_| Error::internal(format!("{value:?} cannot travel to a worker")))
}

fn found<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Error> {
    let value = headers.get(name).map(HeaderValue::to_str).transpose();
    value.map_err(|_| Error::invalid(name.as_str(), "is no text"))
}

fn parsed<T: FromStr<Err: Display>>(
    headers: &HeaderMap,
    name: &HeaderName,
) -> Result<Option<T>, Error> {
    let value = found(headers, name)?.map(str::parse).transpose();
    value.map_err(|problem| Error::invalid(name.as_str(), problem))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn a_context_is_read_as_it_was_written() {
        let identity = Identity::User { uid: 1000, gid: Some(100) };
        let mut caller = Caller::new(identity, Attested::Service, ":1.7");
        caller.pid = Some(42);
        let mut context = Context::new(Arc::new(caller), Transport::Dbus);
        context.deadline = Some(Instant::now() + Duration::from_secs(5));
        context.request_id = Some("once".into());
        context.session = Some("work".into());
        context.task_id = Some("build".into());
        context.traceparent = Some("00-0af7".into());
        context.approval_id = Some("said by the client".into());
        context.approved = Some(Arc::new(Approval { id: "checked".into(), by: 0 }));
        let mut headers = HeaderMap::new();
        write_context(&context, &mut headers).unwrap();
        let read = read_context(&headers).unwrap();
        assert_eq!(read.caller, context.caller);
        assert_eq!(read.transport, context.transport);
        let apart = context.deadline.unwrap().duration_since(read.deadline.unwrap());
        assert!(apart < Duration::from_secs(1));
        assert_eq!(read.request_id, context.request_id);
        assert_eq!(read.session, context.session);
        assert_eq!(read.task_id, context.task_id);
        assert_eq!(read.traceparent, context.traceparent);
        assert_eq!(read.approved, context.approved);
        assert_eq!(read.approval_id, None, "what the client says is the executor's alone");

        for name in [APPROVED_ID, APPROVED_BY] {
            let mut half = headers.clone();
            half.remove(name);
            assert_eq!(read_context(&half).unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
        for (name, value) in [("opdbus-uid", "-1"), ("opdbus-transport", "post")] {
            let mut wrong = headers.clone();
            wrong.insert(name, HeaderValue::from_static(value));
            assert_eq!(read_context(&wrong).unwrap_err().fact("field"), Some(name));
        }
    }
}
