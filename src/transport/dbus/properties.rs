//! The properties of the objects. All are constant while an object exists.

use zbus::Variant;

use super::objects::{AGENT_INTERFACE, Object};
use super::text;
use crate::contract::Service;

/// The interface with the manager's own properties.
const MANAGER_INTERFACE: &str = "org.opdbus.Agents1";

/// A property: its name, type and documentation.
pub(super) struct Property {
    pub(super) name: &'static str,
    pub(super) signature: &'static str,
    pub(super) docs: &'static str,
}

/// The properties of `org.opdbus.Agent1`, sorted.
pub(super) const AGENT: &[Property] = &[
    Property {
        name: "Activation",
        signature: "s",
        docs: "When the agent starts: run_on_connection or on_demand.",
    },
    Property { name: "Documentation", signature: "s", docs: "The agent's documentation in full." },
    Property { name: "Host", signature: "s", docs: "Where the agent's code runs, as daemon." },
    Property { name: "Id", signature: "s", docs: "The agent's id, as memory." },
    Property {
        name: "Interface",
        signature: "s",
        docs: "The interface with the agent's operations as methods.",
    },
    Property { name: "Operations", signature: "as", docs: "The names of the agent's operations." },
    Property {
        name: "Service",
        signature: "s",
        docs: "The full name of the agent's protobuf service, which is its name on gRPC.",
    },
    Property { name: "Summary", signature: "s", docs: "One sentence about the agent." },
    Property { name: "Title", signature: "s", docs: "The agent's name for people." },
];

/// The properties of the manager's own interface.
pub(super) const MANAGER: &[Property] =
    &[Property { name: "Version", signature: "s", docs: "The version of op-dbus." }];

/// The properties that the interface of a service has.
pub(super) fn of_service(service: &Service) -> &'static [Property] {
    if service.interface == MANAGER_INTERFACE { MANAGER } else { &[] }
}

/// The interfaces of an object that are its own, not standard ones.
pub(super) fn interfaces(object: &Object) -> Vec<&str> {
    let typed = object.services.iter().map(|served| served.service.interface.as_str());
    typed.chain(object.agent().map(|_| AGENT_INTERFACE)).collect()
}

/// Every property of an interface that the object has.
pub(super) fn all(object: &Object, interface: &str) -> Vec<(&'static str, Variant<'static>)> {
    if interface == MANAGER_INTERFACE && object.is_manager() {
        return vec![("Version", string(env!("CARGO_PKG_VERSION")))];
    }
    match object.agent() {
        Some(service) if interface == AGENT_INTERFACE => agent(service),
        _ => Vec::new(),
    }
}

fn agent(service: &Service) -> Vec<(&'static str, Variant<'static>)> {
    let operations: Vec<String> =
        service.operations.iter().map(|operation| operation.name.clone()).collect();
    vec![
        ("Activation", short(service.activation.as_str_name(), "ACTIVATION_")),
        ("Documentation", string(&service.docs)),
        ("Host", short(service.host.as_str_name(), "HOST_")),
        ("Id", string(&service.id)),
        ("Interface", string(&service.interface)),
        ("Operations", Variant::from(operations)),
        ("Service", string(&service.full_name)),
        ("Summary", string(&service.summary)),
        ("Title", string(&service.title)),
    ]
}

fn string(text: &str) -> Variant<'static> {
    Variant::from(text::shown(text).into_owned())
}

/// The name of an enum's value as the mapping shows it.
fn short(name: &str, prefix: &str) -> Variant<'static> {
    string(&name.strip_prefix(prefix).unwrap_or(name).to_lowercase())
}
