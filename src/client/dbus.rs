//! Calls over D-Bus, and D-Bus errors as the client's. It chooses nothing.

#![expect(clippy::disallowed_types, reason = "this is the D-Bus client")]

use std::collections::HashMap;

use zbus::proxy::MethodFlags;
use zbus::{DBusError as _, OwnedVariant, Proxy, Variant};

use super::address::Bus;
use super::error::{Error, Failure};
use super::{CallOptions, Target};
use crate::contract::MANAGER_PATH;
use crate::error::ErrorKind;

/// The interface of op-dbus's own operations.
const INTERFACE: &str = "org.opdbus.Agents1";

/// What the names of op-dbus's errors begin with.
const ERROR_PREFIX: &str = "org.opdbus.Error.";

/// A connection to a bus.
#[derive(Debug)]
pub(super) struct Connection {
    connection: zbus::Connection,
    bus: Bus,
    name: String,
}

impl Connection {
    pub(super) async fn new(bus: &Bus, name: &str) -> Result<Self, String> {
        zbus::names::WellKnownName::try_from(name)
            .map_err(|_| format!("{name:?} is no bus name"))?;
        let builder = match bus {
            Bus::System => zbus::connection::Builder::system(),
            Bus::Session => zbus::connection::Builder::session(),
            Bus::Address(address) => zbus::connection::Builder::address(address.as_str()),
        };
        let connection = builder.build().await.map_err(|error| error.to_string())?;
        Ok(Self { connection, bus: bus.clone(), name: name.to_owned() })
    }

    pub(super) fn target(&self) -> String {
        Target::Dbus { bus: self.bus.clone(), name: self.name.clone() }.to_string()
    }

    pub(super) async fn call_json(
        &self,
        agent: &str,
        operation: &str,
        arguments: &str,
        options: &CallOptions,
    ) -> Result<String, Error> {
        for (field, text) in [("agent", agent), ("operation", operation), ("arguments", arguments)]
        {
            no_nul(field, text)?;
        }
        let body = (agent, operation, arguments, reserved_options(options)?);
        let (result, _extra): (String, HashMap<String, OwnedVariant>) =
            self.call("CallJson", &body, options.interactive).await?;
        Ok(result)
    }

    pub(super) async fn ping(
        &self,
        payload: &[u8],
        options: &CallOptions,
    ) -> Result<Vec<u8>, Error> {
        let body = (payload, reserved_options(options)?);
        let (payload, _extra): (Vec<u8>, HashMap<String, OwnedVariant>) =
            self.call("Ping", &body, options.interactive).await?;
        Ok(payload)
    }

    async fn call<B, R>(&self, method: &str, body: &B, interactive: bool) -> Result<R, Error>
    where
        B: serde::Serialize + zbus::DynamicType,
        R: serde::de::DeserializeOwned + zbus::Type,
    {
        let flags = match interactive {
            true => MethodFlags::ALLOW_INTERACTIVE_AUTH,
            false => MethodFlags::empty(),
        };
        let answer = async {
            let object = Proxy::new(&self.connection, self.name.as_str(), MANAGER_PATH, INTERFACE);
            object.await?.call_with_flags(method, flags, body).await
        };
        let answer = answer.await.map_err(|error| self.error(&error))?;
        answer.ok_or_else(|| Failure::internal("the bus gave no answer").into())
    }

    fn error(&self, error: &zbus::Error) -> Error {
        if let zbus::Error::InputOutput(_) = &error {
            return Failure::lost(error).into();
        }
        let (name, message) = if let zbus::Error::MethodError(name, message, _) = &error {
            (name.as_str().to_owned(), message.clone())
        } else if let zbus::Error::FDO(error) = &error {
            (error.name().as_str().to_owned(), error.description().map(str::to_owned))
        } else {
            return Failure::internal(error.to_string()).into();
        };
        let message = message.unwrap_or_else(|| name.clone());
        match meaning(&name) {
            Meaning::NoService => Error::unreachable(self.target(), message),
            Meaning::Lost => Failure::lost(message).into(),
            Meaning::Kind(kind) => Failure::new(kind, message).into(),
        }
    }
}

/// The options that every method takes beside its own.
fn reserved_options(options: &CallOptions) -> Result<HashMap<&'static str, Variant<'_>>, Error> {
    let mut reserved = HashMap::new();
    if let Some(timeout) = options.timeout {
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        reserved.insert("deadline-ms", Variant::from(milliseconds.max(1)));
    }
    let ids = [("request-id", &options.request_id), ("approval-id", &options.approval_id)];
    for (name, id) in ids {
        if let Some(id) = id {
            no_nul(name, id)?;
            reserved.insert(name, Variant::from(id.as_str()));
        }
    }
    Ok(reserved)
}

/// Refuses a text that D-Bus cannot carry; the bus would close the connection over it.
fn no_nul(field: &str, text: &str) -> Result<(), Error> {
    if text.contains('\0') {
        let message = format!("{field}: holds U+0000, which D-Bus cannot carry");
        return Err(Failure::new(ErrorKind::InvalidArgument, message).into());
    }
    Ok(())
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

    #[test]
    fn a_text_with_nul_is_refused_before_it_reaches_the_bus() {
        let error = no_nul("arguments", "a\0b").unwrap_err();
        assert!(error.to_string().starts_with("arguments: "), "{error}");
    }
}
