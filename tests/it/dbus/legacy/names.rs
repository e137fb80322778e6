//! The older names on the bus: which are taken, when, and what happens where another process has one.

use serde_json::json;

use super::super::{NAME, World, connect, failed};
use super::{ask, bus_name, on_bus, path, result, with_names};
use crate::fixture::Bus;
use crate::grpc::eventually;

async fn owned(world: &World) -> Vec<String> {
    let bus = "org.freedesktop.DBus";
    let client = connect(&world.bus).await;
    let reply = client
        .call_method(Some(bus), "/org/freedesktop/DBus", Some(bus), "ListNames", &())
        .await
        .unwrap();
    let mut names: Vec<String> = reply.body().deserialize().unwrap();
    names.retain(|name| name.starts_with("org.dbusmcp") || name == NAME);
    names.sort();
    names
}

fn warnings(world: &World) -> Vec<String> {
    let mut warnings = world.service.status.report().warnings;
    warnings.retain(|warning| warning.contains("dbusmcp"));
    warnings
}

#[tokio::test]
async fn every_name_is_taken_and_given_back() {
    let mut world = World::new().await;
    let agents = ["ContextManager", "Executor", "Memory", "SequentialThinking"];
    let mut expected: Vec<String> = agents.into_iter().map(bus_name).collect();
    expected.push(NAME.to_owned());
    assert_eq!(owned(&world).await, expected);
    assert_eq!(warnings(&world), Vec::<String>::new());
    let addresses = &world.service.status.report().transports[0].addresses;
    let older = "org.dbusmcp.Agent.{ContextManager,Executor,Memory,SequentialThinking} on ";
    assert!(addresses[0].starts_with(NAME) && addresses[1].starts_with(older), "{addresses:?}");
    world.server.take().unwrap().stop().await;
    assert_eq!(owned(&world).await, Vec::<String>::new());
}

#[tokio::test]
async fn what_is_switched_off_is_not_there() {
    let world = with_names(&[]).await;
    assert_eq!(owned(&world).await, [NAME]);
    let reply = ask(&world.client, "Memory", false, "Ping", &()).await;
    failed(reply, "org.freedesktop.DBus.Error.ServiceUnknown");
    let reply = world.call(&path("Memory"), None, "AgentType", &()).await;
    failed(reply, "org.freedesktop.DBus.Error.UnknownObject");
    drop(world);
    let world = with_names(&["sequential-thinking"]).await;
    assert_eq!(owned(&world).await, [bus_name("SequentialThinking"), NAME.to_owned()]);
    world.data("SequentialThinking", "start_chain", "Why?", "").await;
    let reply = world.call(&path("Memory"), None, "AgentType", &()).await;
    failed(reply, "org.freedesktop.DBus.Error.UnknownObject");
}

#[tokio::test]
async fn an_instance_is_the_same_agent_by_another_name() {
    let world = with_names(&["Memory", "Memory.main_1"]).await;
    let id = ask(&world.client, "Memory.main_1", false, "AgentId", &()).await.unwrap();
    assert_eq!(id.body().deserialize::<String>().unwrap(), "main_1");
    world.data("Memory.main_1", "remember", "a", "1").await;
    assert_eq!(world.data("Memory", "recall", "a", "").await, "Recalled (exact): a = 1");
    let task = json!({ "type": "memory", "operation": "recall", "path": "a" }).to_string();
    let first = result(ask(&world.client, "Memory.main_1", true, "Execute", &task).await);
    assert_eq!(first["success"], true);
    let tree = world.run("busctl", &["--system", "tree", "--list", NAME]).await;
    assert!(tree.lines().any(|line| line == "/org/dbusmcp/Agent/Memory/main_1"), "{tree}");
}

#[tokio::test]
async fn a_name_that_another_process_owns_is_taken_when_it_is_free() {
    let bus = Bus::start();
    let other = connect(&bus).await;
    other.request_name(bus_name("Memory")).await.unwrap();
    let world = on_bus(bus, &["ContextManager", "Memory"]).await;
    let [warning] = warnings(&world).try_into().unwrap();
    let owner = other.unique_name().unwrap().as_str();
    assert!(warning.contains("org.dbusmcp.Agent.Memory") && warning.contains(owner), "{warning}");
    // The other names are served meanwhile.
    world.data("ContextManager", "save", "a", "1").await;
    other.release_name(bus_name("Memory")).await.unwrap();
    eventually("the name is taken", async || warnings(&world).is_empty()).await;
    world.data("Memory", "remember", "a", "1").await;
    let addresses = &world.service.status.report().transports[0].addresses;
    assert!(
        addresses[1].starts_with("org.dbusmcp.Agent.{ContextManager,Memory} "),
        "{addresses:?}"
    );
}

#[tokio::test]
async fn a_policy_that_refuses_an_older_name_takes_nothing_else_away() {
    let bus = Bus::start_with(
        "<policy context=\"mandatory\"><deny own=\"org.dbusmcp.Agent.Memory\"/></policy>",
    );
    let world = on_bus(bus, &["ContextManager", "Memory"]).await;
    let [warning] = warnings(&world).try_into().unwrap();
    assert!(warning.contains("org.dbusmcp.Agent.conf"), "{warning}");
    world.data("ContextManager", "save", "a", "1").await;
    assert!(world.service.status.report().transports[0].serving);
}

#[tokio::test]
async fn the_names_come_back_with_the_bus() {
    let mut world = World::new().await;
    world.bus.restart();
    eventually("the bus is found again", async || {
        world.service.status.report().transports[0].reconnects == 1
    })
    .await;
    assert_eq!(owned(&world).await.len(), 5);
    assert_eq!(warnings(&world), Vec::<String>::new());
}
