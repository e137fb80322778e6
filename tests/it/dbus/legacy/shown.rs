//! What the objects show: methods with their signatures, and what an agent says of itself.

use std::process::Command;

use serde_json::{Value, json};

use super::super::{NAME, World, failed};
use super::{INTERFACE, ask, bus_name, path, result};

const AGENTS: [&str; 4] = ["ContextManager", "Executor", "Memory", "SequentialThinking"];

#[tokio::test]
async fn foreign_programs_see_every_method_and_signal() {
    let world = World::new().await;
    for agent in AGENTS {
        let (name, path) = (bus_name(agent), path(agent));
        let shown = world.run("busctl", &["--system", "introspect", &name, &path]).await;
        let lines: Vec<String> = shown
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        let members = |interface: &str| -> Vec<String> {
            let own = lines.iter().skip_while(|line| !line.starts_with(&format!("{interface} ")));
            let own = own.skip(1).take_while(|line| line.starts_with('.'));
            own.map(|line| line.trim_end_matches(" -").to_owned()).collect()
        };
        let expected = [
            ".AgentId method - s",
            ".AgentType method - s",
            ".Description method - s",
            ".Execute method s s",
            ".Metadata method - s",
            ".Name method - s",
            ".Operations method - as",
            ".Ping method - b",
            ".RunOperation method sss s",
            ".SecurityProfile method - s",
            ".Status method - s",
            ".SupportsOperation method s b",
            ".StatusChanged signal s",
            ".TaskCompleted signal sbs",
        ];
        assert_eq!(members(INTERFACE), expected, "{shown}");
        let first = [".Execute method s s", ".GetStatus method - s", ".TaskCompleted signal s"];
        assert_eq!(members(&name), first, "{shown}");
        for standard in ["Introspectable", "Peer", "Properties"] {
            let interface = format!("org.freedesktop.DBus.{standard} interface");
            assert!(lines.iter().any(|line| line.starts_with(&interface)), "{shown}");
        }
        world
            .run("gdbus", &["introspect", "--system", "--dest", &name, "--object-path", &path])
            .await;
    }
    let tree = world.run("busctl", &["--system", "tree", "--list", NAME]).await;
    assert!(tree.lines().any(|line| line == "/org/dbusmcp/Agent/Memory"), "{tree}");
}

#[tokio::test]
async fn every_agent_says_what_it_is() {
    let world = World::new().await;
    let text = async |agent: &str, method: &str| -> String {
        let reply = ask(&world.client, agent, false, method, &()).await.unwrap();
        reply.body().deserialize().unwrap()
    };
    for agent in AGENTS {
        let kind = text(agent, "AgentType").await;
        assert_eq!(text(agent, "AgentId").await, kind);
        let name = text(agent, "Name").await;
        let status = text(agent, "Status").await;
        assert!(status.starts_with(&format!("{name} is ")), "{status}");
        let first = ask(&world.client, agent, true, "GetStatus", &()).await.unwrap();
        assert_eq!(first.body().deserialize::<String>().unwrap(), status);
        let operations = ask(&world.client, agent, false, "Operations", &()).await.unwrap();
        let operations: Vec<String> = operations.body().deserialize().unwrap();
        assert!(!operations.is_empty() && operations.is_sorted(), "{operations:?}");
        for operation in &operations {
            assert!(supports(&world, agent, operation).await, "{operation}");
        }
        assert!(!supports(&world, agent, "dance").await);
        let metadata: Value = serde_json::from_str(&text(agent, "Metadata").await).unwrap();
        let expected = json!({
            "agent_type": kind, "agent_id": kind, "name": name, "operations": operations,
            "description": text(agent, "Description").await, "status": status,
            "security": metadata["security"],
        });
        assert_eq!(metadata, expected);
        let security: Value = serde_json::from_str(&text(agent, "SecurityProfile").await).unwrap();
        for field in ["category", "timeout_secs", "requires_root"] {
            assert_eq!(metadata["security"][field], security[field]);
        }
        assert_eq!(security["timeout_secs"], 30);
        let alive = ask(&world.client, agent, false, "Ping", &()).await.unwrap();
        assert!(alive.body().deserialize::<bool>().unwrap());
    }
    let profile: Value = serde_json::from_str(&text("Memory", "SecurityProfile").await).unwrap();
    assert_eq!(profile["operations"]["Remember"], "write");
    assert_eq!(text("ContextManager", "AgentType").await, "context-manager");
}

async fn supports(world: &World, agent: &str, operation: &str) -> bool {
    let reply = ask(&world.client, agent, false, "SupportsOperation", &operation).await;
    reply.unwrap().body().deserialize().unwrap()
}

#[tokio::test]
async fn names_may_be_written_in_other_ways() {
    let world = World::new().await;
    for name in ["start_chain", "start-chain", "startChain", "StartChain"] {
        assert!(supports(&world, "SequentialThinking", name).await, "{name}");
        let started = world.operate("SequentialThinking", name, "", "Why?").await;
        assert_eq!((&started["success"], &started["operation"]), (&json!(true), &json!(name)));
    }
}

#[tokio::test]
async fn standard_interfaces_are_there_and_methods_check_their_arguments() {
    let world = World::new().await;
    let memory = path("Memory");
    let properties = Some("org.freedesktop.DBus.Properties");
    let all = world.call(&memory, properties, "GetAll", &INTERFACE).await.unwrap();
    assert!(all.body().deserialize::<super::super::Options<'_>>().unwrap().is_empty());
    let get = world.call(&memory, properties, "Get", &(INTERFACE, "Status")).await;
    failed(get, "org.freedesktop.DBus.Error.UnknownProperty");
    let peer = Some("org.freedesktop.DBus.Peer");
    let ping = world.call(&memory, peer, "Ping", &()).await.unwrap();
    assert_eq!(ping.body().signature().to_string(), "");
    let wrong = ask(&world.client, "Memory", false, "Status", &"now").await;
    failed(wrong, "org.freedesktop.DBus.Error.InvalidArgs");
    let wrong = ask(&world.client, "Memory", false, "Execute", &1_u32).await;
    failed(wrong, "org.freedesktop.DBus.Error.InvalidArgs");
    let none = ask(&world.client, "Memory", false, "name", &()).await;
    let text = failed(none, "org.freedesktop.DBus.Error.UnknownMethod");
    assert!(text.contains("RunOperation"), "{text}");
    // Without an interface the first one that has the member is meant.
    let reply = world.call(&memory, None, "RunOperation", &("recall", "a", "")).await;
    assert_eq!(result(reply)["success"], false);
}

#[tokio::test]
async fn busctl_calls_an_older_agent() {
    let world = World::new().await;
    let (name, path) = (bus_name("Memory"), path("Memory"));
    let call = ["--system", "call", &name, &path, INTERFACE, "RunOperation", "sss", "remember"];
    let remembered = world.run("busctl", &[&call[..], &["host", "atlas"]].concat()).await;
    assert!(remembered.contains(r#"\"data\":\"Remembered: host\""#), "{remembered}");
    // A name that nobody has on this bus is not made up.
    let output = Command::new("busctl")
        .args(["--system", "call", "org.dbusmcp.Agent.RustPro", "/org/dbusmcp/Agent/RustPro"])
        .args([INTERFACE, "Ping"])
        .env("DBUS_SYSTEM_BUS_ADDRESS", &world.bus.address)
        .output()
        .unwrap();
    assert!(!output.status.success());
}
