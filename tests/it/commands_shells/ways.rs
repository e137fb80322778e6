//! The same shell over both transports.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use op_dbus::client::{AgentClient, Bus, CallOptions, Credentials, GrpcAddress, Target};
use serde_json::{Value, json};

use super::World;

const NAME: &str = "org.opdbus.Agents1";

async fn call(client: &AgentClient, agent: &str, operation: &str, arguments: Value) -> Value {
    let options = CallOptions::default();
    let answer = client.call_json(agent, operation, &arguments.to_string(), &options).await;
    serde_json::from_str(&answer.unwrap()).unwrap()
}

/// Runs a text as a task, and gives what it printed.
async fn run(client: &AgentClient, id: &str, script: &str) -> String {
    let arguments = json!({"id": id, "script": script}).to_string();
    let start = json!({"agent": "commands", "operation": "RunInShell", "arguments": arguments});
    let started = call(client, "calls", "StartCall", start).await;
    let id = &started["task"]["id"];
    call(client, "tasks", "WaitTask", json!({"id": id})).await;
    let read = call(client, "tasks", "ReadTask", json!({"id": id, "json": true})).await;
    let mut printed = Vec::new();
    for message in read["messages"].as_array().unwrap() {
        let message: Value = serde_json::from_str(message["json"].as_str().unwrap()).unwrap();
        match message["chunk"]["data"].as_str() {
            Some(data) => printed.extend(BASE64_STANDARD.decode(data).unwrap()),
            None => {
                assert_eq!(message["done"]["directory"], "/usr/lib");
                return String::from_utf8(printed).unwrap();
            }
        }
    }
    panic!("a run without an end: {read}");
}

#[tokio::test]
async fn a_shell_is_used_over_both_transports() {
    let world = World::new().await;
    let bus = Bus::Address(world.daemon.bus.address.clone());
    let over_dbus = Target::Dbus { bus, name: NAME.to_owned() };
    let over_grpc = Target::Grpc(GrpcAddress::Unix(world.daemon.grpc_socket()));
    let clients = [
        AgentClient::connect(&[over_dbus], &Credentials::default()).await.unwrap(),
        AgentClient::connect(&[over_grpc], &Credentials::default()).await.unwrap(),
    ];
    for (one, other) in [(0, 1), (1, 0)] {
        let (one, other) = (&clients[one], &clients[other]);
        let opened =
            call(one, "commands", "OpenShell", json!({"shell": "sh", "directory": "/usr"})).await;
        let id = opened["shell"]["id"].as_str().unwrap();
        let shells = call(other, "commands", "ListShells", json!({})).await;
        assert_eq!(shells["shells"][0]["id"], id);
        assert_eq!(run(one, id, "x=5; cd lib").await, "");
        assert_eq!(run(other, id, "pwd; echo $x").await, "/usr/lib\n5\n");
        call(other, "commands", "CloseShell", json!({"id": id})).await;
        assert_eq!(call(one, "commands", "ListShells", json!({})).await["shells"], json!([]));
    }
}
