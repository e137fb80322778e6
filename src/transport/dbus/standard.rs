//! The standard interfaces: Peer, Introspectable, Properties and ObjectManager. They show the table
//! of objects and touch no agent.

use std::collections::BTreeMap;
use std::fs;

use zbus::message::{Body, Header, Message};
use zbus::{ObjectPath, Type, Variant};

use super::error::{Failure, Standard};
use super::objects::{Object, Table};
use super::{encode, introspect, properties};
use crate::error::{Error, ErrorKind};

const PEER: &str = "org.freedesktop.DBus.Peer";
const INTROSPECTABLE: &str = "org.freedesktop.DBus.Introspectable";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";
const OBJECT_MANAGER: &str = "org.freedesktop.DBus.ObjectManager";

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

type Properties<'a> = BTreeMap<&'a str, Variant<'static>>;
type Interfaces<'a> = BTreeMap<&'a str, Properties<'a>>;
type Managed<'a> = BTreeMap<ObjectPath<'a>, Interfaces<'a>>;

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
            (_, None) => {
                return Err(Failure::Standard(
                    Standard::UnknownObject,
                    format!("there is no object {path}"),
                ));
            }
        };
        Ok(encode::built(message)?)
    }
}

/// The arguments of a standard method.
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
    let text = format!("{path} has no interface {interface}");
    Err(Failure::Standard(Standard::UnknownInterface, text))
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
}

impl Shown for InTable<'_> {
    fn has_interface(&self, interface: &str) -> bool {
        self.object.has_interface(interface)
    }

    fn interfaces(&self) -> Vec<&str> {
        properties::interfaces(self.object)
    }

    fn properties(&self, interface: &str) -> Vec<(&'static str, Variant<'static>)> {
        properties::all(self.object, interface)
    }

    fn introspection(&self) -> String {
        introspect::object(self.object)
    }

    fn managed(&self) -> Managed<'_> {
        let agents = self.table.objects().filter(|(_, object)| object.agent().is_some());
        agents
            .map(|(path, object)| {
                let interfaces = properties::interfaces(object).into_iter().map(|interface| {
                    (interface, properties::all(object, interface).into_iter().collect())
                });
                // Paths of the table are made of agents' ids, which the contract has checked.
                (ObjectPath::from_str_unchecked(path), interfaces.collect())
            })
            .collect()
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
