//! The agents as the manager's ObjectManager lists them, and what it tells when there are others than
//! before. What their properties are is not its business.

use std::collections::BTreeMap;

use zbus::message::Message;
use zbus::{ObjectPath, Variant};

use super::objects::{Object, Table};
use super::properties;
use super::standard::OBJECT_MANAGER;
use crate::contract::MANAGER_PATH;
use crate::registry::Registry;

pub(super) type Properties<'a> = BTreeMap<&'a str, Variant<'static>>;
type Interfaces<'a> = BTreeMap<&'a str, Properties<'a>>;
pub(super) type Managed<'a> = BTreeMap<ObjectPath<'a>, Interfaces<'a>>;

/// All that `GetManagedObjects` gives.
pub(super) fn all<'t>(table: &'t Table, registry: &Registry) -> Managed<'t> {
    table.agents().map(|(path, agent)| (object_path(path), interfaces(agent, registry))).collect()
}

/// `InterfacesAdded` of each agent that is not in `before`, `InterfacesRemoved` of each that is in it
/// alone.
pub(super) fn changes(
    before: &Table,
    after: &Table,
    registry: &Registry,
) -> Vec<zbus::Result<Message>> {
    let signal = |name| Message::signal(MANAGER_PATH, OBJECT_MANAGER, name);
    let added = after.agents().filter(|(path, _)| before.object(path).is_none());
    let added = added.map(|(path, agent)| {
        signal("InterfacesAdded").build(&(object_path(path), interfaces(agent, registry)))
    });
    let removed = before.agents().filter(|(path, _)| after.object(path).is_none());
    let removed = removed.map(|(path, agent)| {
        signal("InterfacesRemoved").build(&(object_path(path), properties::interfaces(agent)))
    });
    added.chain(removed).collect()
}

fn interfaces<'t>(agent: &'t Object, registry: &Registry) -> Interfaces<'t> {
    let interfaces = properties::interfaces(agent).into_iter().map(|interface| {
        (interface, properties::all(agent, interface, registry).into_iter().collect())
    });
    interfaces.collect()
}

/// Paths of the table are made of agents' ids, which the contract has checked.
fn object_path(path: &str) -> ObjectPath<'_> {
    ObjectPath::from_str_unchecked(path)
}
