//! The properties of the objects of the table, and how the properties of all objects are declared. It
//! tells nobody of a change.

use std::time::SystemTime;

use prost_types::Timestamp;
use zbus::Variant;

use super::objects::{AGENT_INTERFACE, Object};
use super::text;
use crate::contract::Service;
use crate::registry::{Condition, Registry};

/// The interface with the manager's own properties.
const MANAGER_INTERFACE: &str = "org.opdbus.Agents1";

/// A property as its interface declares it.
pub(super) struct Property {
    pub(super) name: &'static str,
    pub(super) signature: &'static str,
    /// Whether it changes and how that is told, as `EmitsChangedSignal` has it.
    pub(super) emits: &'static str,
    pub(super) docs: &'static str,
}

const fn constant(name: &'static str, signature: &'static str, docs: &'static str) -> Property {
    Property { name, signature, emits: "const", docs }
}

/// The properties of `org.opdbus.Agent1`, sorted.
pub(super) const AGENT: &[Property] = &[
    constant("Activation", "s", "When the agent starts: run_on_connection or on_demand."),
    constant("Documentation", "s", "The agent's documentation in full."),
    constant("Host", "s", "Where the agent's code runs, as daemon."),
    constant("Id", "s", "The agent's id, as memory."),
    constant("Interface", "s", "The interface with the agent's operations as methods."),
    constant("Operations", "as", "The names of the agent's operations."),
    constant(
        "Service",
        "s",
        "The full name of the agent's protobuf service, which is its name on gRPC.",
    ),
    changing("State", "s", "stopped, starting, running, busy, failed or stopping."),
    changing("StateReason", "s", "Why it has failed; empty if it has not."),
    constant("Summary", "s", "One sentence about the agent."),
    constant("Title", "s", "The agent's name for people."),
];

/// The properties of the manager's own interface.
pub(super) const MANAGER: &[Property] = &[constant("Version", "s", "The version of op-dbus.")];

/// The properties of `org.opdbus.Task1`, sorted.
pub(super) const TASK: &[Property] = &[
    constant("Agent", "s", "The id of the agent whose operation it is."),
    counting("Bytes", "t", "The bytes of all messages so far."),
    changing("Cancelable", "b", "True while it can be cancelled."),
    constant(
        "Deadline",
        "t",
        "When it will be stopped, in microseconds since the epoch; 0 if never.",
    ),
    changing("EndTime", "t", "When it ended, in microseconds since the epoch; 0 while it has not."),
    changing("ErrorMessage", "s", "Why it did not complete."),
    changing(
        "ErrorName",
        "s",
        "The name of the error with which it ended, as a call would give it.",
    ),
    changing(
        "ExpectedEndTime",
        "t",
        "When it will have ended, going by its progress so far; 0 if that is not known.",
    ),
    counting("FirstSeq", "t", "The number of the oldest message that is kept; 0 if none is."),
    constant("Id", "s", "Its id, the last element of its path."),
    counting("LastSeq", "t", "The number of the newest message; 0 if there was none."),
    constant("Operation", "s", "The name of the operation."),
    changing("Progress", "d", "How far it is, from 0 to 1."),
    changing("ProgressValid", "b", "True if Progress says something: the whole is known."),
    constant("Session", "s", "The session that it was started in; empty if in none."),
    constant("Signature", "s", "The full name of the protobuf type of its messages."),
    constant("StartTime", "t", "When it was started, in microseconds since the epoch."),
    constant("StartedByUID", "u", "The user who started it."),
    changing(
        "State",
        "s",
        "submitted, working, input_required, completed, failed, cancelled or rejected.",
    ),
    constant("Transport", "s", "What it was started on: dbus or grpc."),
];

/// The properties of `org.opdbus.Session1`, sorted.
pub(super) const SESSION: &[Property] = &[
    changing("Agents", "as", "The ids of the agents that were called in it."),
    counting("Calls", "t", "How many calls were made in it."),
    changing("ClientName", "s", "What its client calls itself."),
    counting(
        "ExpiresTime",
        "t",
        "When it ends if it is not used before, in microseconds since the epoch; 0 while it is held.",
    ),
    changing("Held", "b", "True while a connection or a stream holds it."),
    constant("Id", "s", "Its id."),
    changing("Metadata", "a{ss}", "What its client says of itself."),
    constant("StartTime", "t", "When it was started, in microseconds since the epoch."),
    constant("Transport", "s", "What it was started on: dbus or grpc."),
    constant("UID", "u", "The user whose session it is."),
    counting("UsedTime", "t", "When it was last used, in microseconds since the epoch."),
];

/// A property whose changes are told.
const fn changing(name: &'static str, signature: &'static str, docs: &'static str) -> Property {
    Property { name, signature, emits: "true", docs }
}

/// A property that changes too often to be told of before the end.
const fn counting(name: &'static str, signature: &'static str, docs: &'static str) -> Property {
    Property { name, signature, emits: "false", docs }
}

/// The properties that the interface of a service has.
pub(super) fn of_service(service: &Service) -> &'static [Property] {
    if service.interface == MANAGER_INTERFACE { MANAGER } else { &[] }
}

/// The interfaces of an object that are its own, not standard ones.
pub(super) fn interfaces(object: &Object) -> Vec<&str> {
    let typed = object.services.iter().map(|served| served.service.interface.as_str());
    let older = object.older.iter().flat_map(|older| older.interfaces());
    typed.chain(object.agent().map(|_| AGENT_INTERFACE)).chain(older).collect()
}

/// Every property of an interface that the object has.
pub(super) fn all(
    object: &Object,
    interface: &str,
    registry: &Registry,
) -> Vec<(&'static str, Variant<'static>)> {
    if interface == MANAGER_INTERFACE && object.is_manager() {
        return vec![("Version", string(env!("CARGO_PKG_VERSION")))];
    }
    match object.agent() {
        Some(service) if interface == AGENT_INTERFACE => {
            agent(service, &registry.condition(&service.id))
        }
        _ => Vec::new(),
    }
}

fn agent(service: &Service, condition: &Condition) -> Vec<(&'static str, Variant<'static>)> {
    let operations: Vec<String> =
        service.operations.iter().map(|operation| operation.name.clone()).collect();
    let [state, reason] = state(condition);
    vec![
        ("Activation", short(service.activation.as_str_name(), "ACTIVATION_")),
        ("Documentation", string(&service.docs)),
        ("Host", short(service.host.as_str_name(), "HOST_")),
        ("Id", string(&service.id)),
        ("Interface", string(&service.interface)),
        ("Operations", Variant::from(operations)),
        ("Service", string(&service.full_name)),
        state,
        reason,
        ("Summary", string(&service.summary)),
        ("Title", string(&service.title)),
    ]
}

/// The properties of an agent that change.
pub(super) fn state(condition: &Condition) -> [(&'static str, Variant<'static>); 2] {
    [
        ("State", condition.state.name().into()),
        // Not the words for people, which count down until it is tried again.
        ("StateReason", string(&condition.problem())),
    ]
}

/// Since the epoch; 0 for no time.
pub(super) fn microseconds(time: Option<Timestamp>) -> u64 {
    let time = time.and_then(|time| SystemTime::try_from(time).ok());
    let since = time.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
    since.map_or(0, |since| u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// A text as the value of a property.
pub(super) fn string(text: &str) -> Variant<'static> {
    Variant::from(text::shown(text).into_owned())
}

/// The name of an enum's value as the mapping shows it.
fn short(name: &str, prefix: &str) -> Variant<'static> {
    string(&name.strip_prefix(prefix).unwrap_or(name).to_lowercase())
}
