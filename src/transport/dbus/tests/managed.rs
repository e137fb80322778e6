//! What is told when there are other agents than before. That it is sent is tested on a real bus; there
//! no agent goes.

use std::path::Path;
use std::sync::Arc;

use zbus::message::Message;

use crate::contract::Contract;
use crate::executor::{Config, Executor};
use crate::host::Local;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::session::{self, Sessions};
use crate::status::Status;
use crate::storage::{self, Durability};
use crate::task::Tasks;
use crate::testing::probe;
use crate::transport::dbus::managed::changes;
use crate::transport::dbus::objects::Table;

/// The objects of an executor that has the probe or nothing.
fn table(folder: &Path, has_probe: bool) -> (Table, Arc<Registry>) {
    let registry = Arc::new(Registry::default());
    if has_probe {
        let host = Arc::new(Local::new(probe()));
        let contract = Contract::built_in().unwrap();
        registry.register(&contract, "opdbus.agent.probe.v1.ProbeService", host).unwrap();
    }
    let metrics = Arc::new(Metrics::new().unwrap());
    let config = Config::default();
    let storage = storage::Config { path: folder.to_owned(), durability: Durability::Normal };
    let agents: Arc<dyn session::Agents> = Arc::clone(&registry) as _;
    let sessions = Sessions::open(
        config.sessions.clone(),
        &storage,
        Arc::clone(&metrics),
        &Arc::new(Status::default()),
        Arc::downgrade(&agents),
    )
    .unwrap();
    let tasks = Tasks::in_memory(config.tasks.clone(), &metrics);
    let executor =
        Executor::new(config, Arc::clone(&registry), metrics, tasks, sessions, None, None);
    (Table::new(Arc::clone(&executor.routes()), &[], None), registry)
}

fn told(before: &Table, after: &Table, registry: &Registry) -> Vec<(String, Message)> {
    let signals = changes(before, after, registry).into_iter().map(|signal| signal.unwrap());
    signals.map(|signal| (signal.header().member().unwrap().to_string(), signal.clone())).collect()
}

#[tokio::test]
async fn agents_that_come_and_go_are_told_of() {
    let folder = tempfile::tempdir().unwrap();
    let (with, registry) = table(&folder.path().join("with"), true);
    let (without, _) = table(&folder.path().join("without"), false);
    assert!(told(&with, &with, &registry).is_empty());
    let [(name, _)] = told(&without, &with, &registry).try_into().unwrap();
    assert_eq!(name, "InterfacesAdded");

    let [(name, signal)] = told(&with, &without, &registry).try_into().unwrap();
    assert_eq!(name, "InterfacesRemoved");
    assert_eq!(signal.header().path().unwrap().as_str(), "/org/opdbus/Agents1");
    let body = signal.body();
    assert_eq!(body.signature().to_string_no_parens(), "oas");
    let (path, interfaces): (zbus::ObjectPath<'_>, Vec<&str>) = body.deserialize().unwrap();
    assert_eq!(path.as_str(), "/org/opdbus/Agents1/agent/probe");
    assert_eq!(interfaces, ["org.opdbus.Probe1", "org.opdbus.Agent1"]);
}
