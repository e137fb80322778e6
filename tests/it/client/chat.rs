//! The client in the shape that chat programs know.

use op_dbus::client::{Error, GrpcAgentClient, Via};
use op_dbus::error::ErrorKind;
use serde_json::{Value, json};

use super::{World, failure};

#[tokio::test]
async fn a_chat_has_its_session_executes_streams_and_batches() {
    let world = World::new();
    let address = format!("unix:{}", world.daemon.grpc_socket().display());
    let client = GrpcAgentClient::connect(&address).await.unwrap();
    let agents = client.start_session("chat", "cursor").await.unwrap();
    assert!(agents.contains(&"memory".to_owned()), "{agents:?}");

    let value = json!({"key": "project", "value": "op-dbus"});
    client.execute("chat", "memory", "remember", value).await.unwrap();
    let recalled = client.execute("chat", "memory", "recall", json!({"key": "project"})).await;
    assert_eq!(recalled.unwrap()["value"], "op-dbus");

    let calls = vec![
        ("memory", "remember", json!({"key": "language", "value": "rust"})),
        ("memory", "recall", json!({"key": "missing"})),
        ("memory", "recall", json!({"key": "project"})),
    ];
    let results = client.batch_execute("chat", calls, true).await.unwrap();
    assert_eq!(results.len(), 3);
    assert!(results[0].is_ok(), "{results:?}");
    assert_eq!(results[1].as_ref().unwrap_err().kind, ErrorKind::NotFound);
    assert_eq!(results[2].as_ref().unwrap()["value"], "op-dbus");

    let mut chunks = Vec::new();
    client
        .execute_stream("chat", "probe", "generate", json!({"count": 5}), |chunk| {
            chunks.push(chunk)
        })
        .await
        .unwrap();
    let last = chunks.pop().unwrap();
    assert!(last.is_final && last.content.is_empty(), "{last:?}");
    let numbers: Vec<Value> =
        chunks.iter().map(|chunk| serde_json::from_str(&chunk.content).unwrap()).collect();
    assert_eq!(numbers.iter().map(|n| n["number"].as_u64().unwrap()).sum::<u64>(), 15);

    client.end_session("chat").await.unwrap();
    let ended =
        failure(client.execute("chat", "memory", "recall", json!({"key": "project"})).await);
    assert_eq!(ended.kind, ErrorKind::NotFound, "{ended:?}");
}

#[tokio::test]
async fn what_is_not_there_is_the_services_own_error() {
    let world = World::new();
    let client = GrpcAgentClient::over(world.client(Via::Grpc));
    let missing = client.execute("", "memory", "recall", json!({"key": "missing"})).await;
    assert_eq!(failure(missing).kind, ErrorKind::NotFound);
    let unknown = client.execute("", "nobody", "recall", json!({})).await;
    assert_eq!(failure(unknown).kind, ErrorKind::UnknownAgent);
    let mut chunks = 0;
    let broken =
        client.execute_stream("", "probe", "pace", json!({"no": 1}), |_| chunks += 1).await;
    assert_eq!(failure(broken).kind, ErrorKind::InvalidArgument);
    let build = failure(client.cargo_build("", ".", true, |_| chunks += 1).await);
    assert_eq!(build.kind, ErrorKind::UnknownOperation);
    assert!(build.message.contains("rust_pro"), "{build:?}");
    assert_eq!(chunks, 0);
    let nowhere = GrpcAgentClient::connect("nowhere").await.unwrap_err();
    assert!(
        matches!(nowhere, Error::Failed(failure) if failure.kind == ErrorKind::InvalidArgument)
    );
}
