//! The standard interfaces: Peer, Introspectable, Properties and ObjectManager. They show the table
//! of objects and touch no agent.

use std::collections::HashMap;
use std::fs;

use zbus::message::{Body, Header, Message};
use zbus::{Type, Variant};

use super::error::{Failure, Standard};
use super::managed::{self, Managed, Properties};
use super::objects::{Object, Table};
use super::{encode, introspect, properties};
use crate::error::{Error, ErrorKind};
use crate::executor::Executor;

const PEER: &str = "org.freedesktop.DBus.Peer";
const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
pub(super) const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";

/// A method of a standard interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StandardMethod {
    Ping,
    GetMachineId,
    Introspect,
    Get,
    GetAll,
    Set,
    GetManagedObjects,
}

const METHODS: [(&str, &str, StandardMethod); 7] = [
    (PEER, "Ping", StandardMethod::Ping),
    (PEER, "GetMachineId", StandardMethod::GetMachineId),
    (INTROSPECTABLE, "Introspect", StandardMethod::Introspect),
    (PROPERTIES, "Get", StandardMethod::Get),
    (PROPERTIES, "GetAll", StandardMethod::GetAll),
    (PROPERTIES, "Set", StandardMethod::Set),
    (OBJECT_MANAGER, "GetManagedObjects", StandardMethod::GetManagedObjects),
];

/// An object as the standard interfaces show it.
pub(super) trait Shown {
    /// True if it has the interface, a standard one included.
    fn has_interface(&self, interface: &str) -> bool;

    /// Its interfaces that are its own, not standard ones.
    fn interfaces(&self) -> Vec<&str>;

    /// Every property of one of its interfaces.
    fn properties(&self, interface: &str) -> Vec<(&'static str, Variant<'static>)>;

    /// Its introspection document.
    fn introspection(&self) -> String;

    /// The objects that it lists, if it is an object manager.
    fn managed(&self) -> Managed<'_> {
        Managed::new()
    }
}

impl StandardMethod {
    /// The method called `member`, of `interface` where one is named. Only the manager has
    /// ObjectManager.
    pub(super) fn find(interface: Option<&str>, member: &str, is_manager: bool) -> Option<Self> {
        METHODS
            .iter()
            .find(|(of, name, _)| {
                *name == member
                    && interface.is_none_or(|interface| interface == *of)
                    && (is_manager || *of != OBJECT_MANAGER)
            })
            .map(|(_, _, method)| *method)
    }

    /// The same, of Peer alone.
    pub(super) fn of_peer(interface: Option<&str>, member: &str) -> Option<Self> {
        let method = Self::find(interface, member, false)?;
        matches!(method, Self::Ping | Self::GetMachineId).then_some(method)
    }

    /// True if an object has the standard interface.
    pub(super) fn is_interface(interface: &str, is_manager: bool) -> bool {
        METHODS.iter().any(|(of, _, _)| *of == interface)
            && (is_manager || interface != OBJECT_MANAGER)
    }

    /// Answers the call. `object` is where it was sent; Peer's methods need none.
    pub(super) fn answer(
        self,
        call: &Header<'_>,
        body: &Body,
        path: &str,
        object: Option<&dyn Shown>,
    ) -> Result<Message, Failure> {
        let reply = Message::method_return(call);
        let message = match (self, object) {
            (Self::Ping, _) => reply.build(&()),
            (Self::GetMachineId, _) => reply.build(&machine_id()?),
            (Self::Introspect, Some(object)) => reply.build(&object.introspection()),
            (Self::Get, Some(object)) => {
                let (interface, name): (&str, &str) = arguments(body, "ss")?;
                reply.build(&get(object, path, interface, name)?)
            }
            (Self::GetAll, Some(object)) => {
                let (interface,): (&str,) = arguments(body, "s")?;
                let all: Properties<'_> = all(object, path, interface)?.into_iter().collect();
                reply.build(&all)
            }
            (Self::Set, Some(object)) => {
                let (interface, name, _value): (&str, &str, Variant<'_>) = arguments(body, "ssv")?;
                get(object, path, interface, name)?;
                return Err(Failure::Standard(
                    Standard::PropertyReadOnly,
                    format!("{interface}.{name} cannot be set"),
                ));
            }
            (Self::GetManagedObjects, Some(object)) => reply.build(&object.managed()),
            (_, None) => return Err(no_object(path)),
        };
        Ok(encode::built(message)?)
    }
}

/// Answers a call to an object outside the table that is for none of its own methods. `whose` and
/// `methods` say for people what the object is and what it has.
///
/// # Errors
/// Which of interface and method the object does not have.
pub(super) fn answer(
    object: &dyn Shown,
    message: &Message,
    whose: &str,
    methods: &str,
) -> Result<Message, Failure> {
    let call = message.header();
    let path = call.path().map_or("", |path| path.as_str());
    let member = call.member().map_or("", |member| member.as_str());
    let interface = call.interface().map(|interface| interface.as_str());
    if let Some(method) = StandardMethod::find(interface, member, false) {
        return method.answer(&call, &message.body(), path, Some(object));
    }
    Err(match interface {
        Some(interface) if !object.has_interface(interface) => no_interface(path, interface),
        _ => Failure::Standard(
            Standard::UnknownMethod,
            format!("{whose} has no method {member}; it has {methods}"),
        ),
    })
}

/// There is nothing at `path`, or nothing that the caller may know of.
pub(super) fn no_object(path: &str) -> Failure {
    Failure::Standard(Standard::UnknownObject, format!("there is no object {path}"))
}

/// The object at `path` lacks the interface.
pub(super) fn no_interface(path: &str, interface: &str) -> Failure {
    Failure::Standard(Standard::UnknownInterface, format!("{path} has no interface {interface}"))
}

/// The options of a method that is no operation.
pub(super) type Options<'a> = HashMap<&'a str, Variant<'a>>;

/// Checks that no option is given, for none is known.
pub(super) fn no_options(options: &Options<'_>) -> Result<(), Error> {
    match options.keys().next() {
        Some(name) => Err(Error::invalid(*name, "is not known here; there are no options")),
        None => Ok(()),
    }
}

/// The arguments of a method that is no operation.
pub(super) fn arguments<'a, T>(body: &'a Body, expected: &str) -> Result<T, Failure>
where
    T: serde::Deserialize<'a> + Type,
{
    body.deserialize().map_err(|_| {
        let found = body.signature().to_string_no_parens();
        let text = format!("the method takes {expected:?}, not {found:?}");
        Failure::Standard(Standard::InvalidArgs, text)
    })
}

fn all(
    object: &dyn Shown,
    path: &str,
    interface: &str,
) -> Result<Vec<(&'static str, Variant<'static>)>, Failure> {
    if object.has_interface(interface) {
        return Ok(object.properties(interface));
    }
    Err(no_interface(path, interface))
}

fn get(
    object: &dyn Shown,
    path: &str,
    interface: &str,
    name: &str,
) -> Result<Variant<'static>, Failure> {
    // An empty name leaves the interface open: the first one that has the property is meant.
    let candidates: Vec<(&'static str, Variant<'static>)> = if interface.is_empty() {
        object.interfaces().into_iter().flat_map(|interface| object.properties(interface)).collect()
    } else {
        all(object, path, interface)?
    };
    let found = candidates.into_iter().find(|(property, _)| *property == name);
    found.map(|(_, value)| value).ok_or_else(|| {
        let text = format!("{interface} has no property {name}");
        Failure::Standard(Standard::UnknownProperty, text)
    })
}

/// An object of the table.
pub(super) struct InTable<'t> {
    pub(super) object: &'t Object,
    pub(super) table: &'t Table,
    pub(super) executor: &'t Executor,
}

impl Shown for InTable<'_> {
    fn has_interface(&self, interface: &str) -> bool {
        self.object.has_interface(interface)
    }

    fn interfaces(&self) -> Vec<&str> {
        properties::interfaces(self.object)
    }

    fn properties(&self, interface: &str) -> Vec<(&'static str, Variant<'static>)> {
        properties::all(self.object, interface, self.executor.registry())
    }

    fn introspection(&self) -> String {
        introspect::object(self.object, |operation| self.executor.is_deprecated(operation))
    }

    fn managed(&self) -> Managed<'_> {
        managed::all(self.table, self.executor.registry())
    }
}

fn machine_id() -> Result<String, Error> {
    let read = ["/etc/machine-id", "/var/lib/dbus/machine-id"]
        .iter()
        .find_map(|path| fs::read_to_string(path).ok());
    match read {
        Some(id) => Ok(id.trim().to_owned()),
        None => Err(Error::new(
            ErrorKind::BackendMissing,
            "this machine has no /etc/machine-id; systemd-machine-id-setup makes one",
        )),
    }
}
