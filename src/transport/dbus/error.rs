//! The table of errors of this transport, and error replies. It decides on no error.

use zbus::message::{Header, Message};

use super::text;
use crate::error::{Error, ErrorKind};

/// The D-Bus name of a kind of error.
pub(super) const fn name(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::AccessDenied => "org.opdbus.Error.AccessDenied",
        ErrorKind::AlreadyExists => "org.opdbus.Error.AlreadyExists",
        ErrorKind::ApprovalRequired => "org.opdbus.Error.ApprovalRequired",
        ErrorKind::BackendFailed => "org.opdbus.Error.BackendFailed",
        ErrorKind::BackendMissing => "org.opdbus.Error.BackendMissing",
        ErrorKind::BackendUnavailable => "org.opdbus.Error.BackendUnavailable",
        ErrorKind::Cancelled => "org.opdbus.Error.Cancelled",
        ErrorKind::Conflict => "org.opdbus.Error.Conflict",
        ErrorKind::DeadlineExceeded => "org.opdbus.Error.DeadlineExceeded",
        ErrorKind::Internal => "org.opdbus.Error.Internal",
        ErrorKind::InvalidArgument => "org.opdbus.Error.InvalidArgument",
        ErrorKind::LimitExceeded => "org.opdbus.Error.LimitExceeded",
        ErrorKind::Migrated => "org.opdbus.Error.Migrated",
        ErrorKind::NotFound => "org.opdbus.Error.NotFound",
        ErrorKind::PathOutsideRoot => "org.opdbus.Error.PathOutsideRoot",
        ErrorKind::SandboxUnavailable => "org.opdbus.Error.SandboxUnavailable",
        ErrorKind::Unauthenticated => "org.opdbus.Error.Unauthenticated",
        ErrorKind::Unavailable => "org.opdbus.Error.Unavailable",
        ErrorKind::UnknownAgent => "org.opdbus.Error.UnknownAgent",
        ErrorKind::UnknownOperation => "org.opdbus.Error.UnknownOperation",
    }
}

/// What D-Bus itself calls a failure: these speak of objects, interfaces, members and properties, the
/// table above of what an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standard {
    /// Of the older interface alone, which has no names for what may fail.
    Failed,
    InvalidArgs,
    PropertyReadOnly,
    UnknownInterface,
    UnknownMethod,
    UnknownObject,
    UnknownProperty,
}

impl Standard {
    const fn name(self) -> &'static str {
        match self {
            Self::Failed => "org.freedesktop.DBus.Error.Failed",
            Self::InvalidArgs => "org.freedesktop.DBus.Error.InvalidArgs",
            Self::PropertyReadOnly => "org.freedesktop.DBus.Error.PropertyReadOnly",
            Self::UnknownInterface => "org.freedesktop.DBus.Error.UnknownInterface",
            Self::UnknownMethod => "org.freedesktop.DBus.Error.UnknownMethod",
            Self::UnknownObject => "org.freedesktop.DBus.Error.UnknownObject",
            Self::UnknownProperty => "org.freedesktop.DBus.Error.UnknownProperty",
        }
    }
}

/// Why a call gets an error reply.
#[derive(Debug)]
pub(super) enum Failure {
    Standard(Standard, String),
    Error(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl Failure {
    /// What went wrong, in the project's own terms.
    pub(super) fn error(&self) -> Error {
        match self {
            Self::Standard(_, text) => Error::new(ErrorKind::NotFound, text.clone()),
            Self::Error(error) => error.clone(),
        }
    }

    /// The error reply; `None` if the D-Bus library cannot write it, which is logged.
    pub(super) fn reply(&self, call: &Header<'_>) -> Option<Message> {
        let (name, text) = match self {
            Self::Standard(standard, text) => (standard.name(), text.clone()),
            Self::Error(error) => (name(error.kind()), describe(error)),
        };
        let reply = Message::error(call, name).build(&text::shown(&text).as_ref());
        reply.inspect_err(|error| tracing::error!("an error reply cannot be sent: {error}")).ok()
    }
}

/// The error's text with those of its facts that it does not already say.
fn describe(error: &Error) -> String {
    let mut text = error.message().to_owned();
    for (name, value) in error.facts() {
        if !text.contains(value.as_str()) {
            text.push_str(&format!(" [{name}: {value}]"));
        }
    }
    if let Some(delay) = error.retry_after() {
        text.push_str(&format!("; try again in {} ms", delay.as_millis()));
    }
    text
}
