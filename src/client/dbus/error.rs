//! D-Bus errors as the client's: what the service says, what the bus says, and whether anything was called
//! at all.

use zbus::DBusError as _;

use crate::client::error::{Error, Failure};
use crate::error::ErrorKind;

/// What the names of op-dbus's errors begin with.
const ERROR_PREFIX: &str = "org.opdbus.Error.";

/// An error of the bus or of what is called, as the client's.
pub(in crate::client) fn failed(error: &zbus::Error, target: &str) -> Error {
    if let zbus::Error::InputOutput(_) = error {
        return Failure::lost(error).into();
    }
    let (name, message) = if let zbus::Error::MethodError(name, message, _) = error {
        (name.as_str().to_owned(), message.clone())
    } else if let zbus::Error::FDO(error) = error {
        (error.name().as_str().to_owned(), error.description().map(str::to_owned))
    } else {
        return Failure::internal(error.to_string()).into();
    };
    let message = message.unwrap_or_else(|| name.clone());
    match meaning(&name) {
        Meaning::NoService => Error::unreachable(target.to_owned(), message),
        Meaning::Lost => Failure::lost(message).into(),
        Meaning::Kind(kind) => Failure::new(kind, message).into(),
    }
}

/// What the name of an error says.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// Nobody is there to call.
    NoService,
    /// Somebody was there and went away before answering.
    Lost,
    /// The call failed.
    Kind(ErrorKind),
}

/// The meaning of an error's name. A name that nobody knows is a fault of the service.
fn meaning(name: &str) -> Meaning {
    if let Some(name) = name.strip_prefix(ERROR_PREFIX) {
        let known = KINDS.iter().find(|(known, _)| *known == name);
        return Meaning::Kind(known.map_or(ErrorKind::Internal, |(_, kind)| *kind));
    }
    match name.strip_prefix("org.freedesktop.DBus.Error.").unwrap_or_default() {
        "ServiceUnknown" | "NameHasNoOwner" => Meaning::NoService,
        name if name.starts_with("Spawn.") => Meaning::NoService,
        "NoReply" | "Disconnected" => Meaning::Lost,
        "Timeout" | "TimedOut" => Meaning::Kind(ErrorKind::DeadlineExceeded),
        "AccessDenied" | "AuthFailed" => Meaning::Kind(ErrorKind::AccessDenied),
        "InvalidArgs" | "InvalidSignature" => Meaning::Kind(ErrorKind::InvalidArgument),
        "LimitsExceeded" | "NoMemory" => Meaning::Kind(ErrorKind::LimitExceeded),
        "UnknownMethod" | "UnknownInterface" => Meaning::Kind(ErrorKind::UnknownOperation),
        "UnknownObject" => Meaning::Kind(ErrorKind::UnknownAgent),
        _ => Meaning::Kind(ErrorKind::Internal),
    }
}

/// The names after [`ERROR_PREFIX`].
const KINDS: [(&str, ErrorKind); ErrorKind::ALL.len()] = [
    ("AccessDenied", ErrorKind::AccessDenied),
    ("AlreadyExists", ErrorKind::AlreadyExists),
    ("ApprovalRequired", ErrorKind::ApprovalRequired),
    ("BackendFailed", ErrorKind::BackendFailed),
    ("BackendMissing", ErrorKind::BackendMissing),
    ("BackendUnavailable", ErrorKind::BackendUnavailable),
    ("Cancelled", ErrorKind::Cancelled),
    ("Conflict", ErrorKind::Conflict),
    ("DeadlineExceeded", ErrorKind::DeadlineExceeded),
    ("Internal", ErrorKind::Internal),
    ("InvalidArgument", ErrorKind::InvalidArgument),
    ("LimitExceeded", ErrorKind::LimitExceeded),
    ("Migrated", ErrorKind::Migrated),
    ("NotFound", ErrorKind::NotFound),
    ("PathOutsideRoot", ErrorKind::PathOutsideRoot),
    ("SandboxUnavailable", ErrorKind::SandboxUnavailable),
    ("Unauthenticated", ErrorKind::Unauthenticated),
    ("Unavailable", ErrorKind::Unavailable),
    ("UnknownAgent", ErrorKind::UnknownAgent),
    ("UnknownOperation", ErrorKind::UnknownOperation),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_its_name() {
        for kind in ErrorKind::ALL {
            let name: String = kind
                .reason()
                .split('_')
                .map(|word| format!("{}{}", &word[..1], word[1..].to_lowercase()))
                .collect();
            assert_eq!(meaning(&format!("{ERROR_PREFIX}{name}")), Meaning::Kind(kind));
        }
    }

    #[test]
    fn a_missing_service_is_not_a_failed_call() {
        assert_eq!(meaning("org.freedesktop.DBus.Error.ServiceUnknown"), Meaning::NoService);
        assert_eq!(
            meaning("org.freedesktop.DBus.Error.UnknownMethod"),
            Meaning::Kind(ErrorKind::UnknownOperation)
        );
        assert_eq!(meaning("com.example.Odd"), Meaning::Kind(ErrorKind::Internal));
    }
}
