//! At stage `shadow` both ways are compared, and what differs is reported.

use op_dbus::client::MigrationClient;
use op_dbus::proto::opdbus::v1::{Comparison, ListDifferencesRequest, ListUsesRequest};

use super::proxy::Answers;
use super::*;

/// What the service was told of an operation.
async fn reported(client: &AgentClient, operation: &str) -> Comparison {
    let request = ListDifferencesRequest { operation: operation.to_owned() };
    let client = MigrationClient::new(client.clone());
    let listed = client.list_differences(request).await.unwrap();
    listed.comparisons.into_iter().find(|found| found.operation == operation).unwrap_or_default()
}

/// Waits until the client has compared calls of an operation, making them meanwhile, and reported.
async fn compare(client: &AgentClient, operation: &str, times: u64, call: impl AsyncFn()) {
    eventually("calls are compared", async || {
        call().await;
        let snapshot = client.agent_metrics().unwrap().snapshot();
        let known = snapshot.operations.iter().find(|known| known.operation == operation);
        known.is_some_and(|known| known.compared >= times)
    })
    .await;
    client.close().await;
}

#[tokio::test]
async fn answers_that_are_the_same_differ_nowhere() {
    let world = World::new(Position::Shadow).await;
    let client = world.client(Via::Auto);
    compare(&client, "Echo", 3, async || drop(echo(&client, "the same").await.unwrap())).await;
    let found = reported(&client, "probe.Echo").await;
    assert!(found.compared >= 3 && found.differed == 0, "{found:?}");
    // Each comparison is one call over gRPC and two over D-Bus.
    assert!(world.served("Echo", "grpc") >= 3);
    assert!(world.served("Echo", "dbus") >= world.served("Echo", "grpc") + 3);
}

#[tokio::test]
async fn an_answer_that_differs_over_grpc_is_found_and_its_values_are_not_told() {
    let world = World::new(Position::Shadow).await;
    world.proxy.answer(Answers::Change(b"needle-one", b"needle-two"));
    let client = world.client(Via::Auto);
    compare(&client, "Echo", 2, async || {
        // The answer is that of D-Bus.
        assert_eq!(echo(&client, "needle-one").await.unwrap(), "needle-one");
    })
    .await;
    let found = reported(&client, "probe.Echo").await;
    assert_eq!(found.compared, found.differed, "{found:?}");
    let sample = &found.samples[0];
    assert_eq!(sample.field, "text");
    assert!(sample.dbus.starts_with("text of 10 bytes, sha256 "), "{sample:?}");
    assert_ne!(sample.dbus, sample.grpc);
    assert!(!format!("{found:?}").contains("needle"), "{found:?}");
}

#[tokio::test]
async fn what_changes_by_itself_is_no_difference() {
    let world = World::new(Position::Shadow).await;
    let client = world.client(Via::Auto);
    let status = async || drop(client.status(&CallOptions::default()).await.unwrap());
    compare(&client, "GetStatus", 3, status).await;
    let found = reported(&client, "agents.GetStatus").await;
    assert!(found.compared >= 3, "{found:?}");
    assert!(
        !found.samples.iter().any(|sample| sample.field == "uptime"),
        "the uptime counts as a difference: {found:?}"
    );
}

#[tokio::test]
async fn what_has_side_effects_is_made_once() {
    let world = World::new(Position::Shadow).await;
    let client = world.client(Via::Auto);
    for number in 1..=20 {
        assert_eq!(count(&client, None).await.unwrap(), number);
    }
    assert_eq!(world.served("Count", "grpc"), 0);
}

#[tokio::test]
async fn calls_that_got_no_answer_are_reported() {
    let world = World::new(Position::Grpc).await;
    let client = world.client(Via::Auto);
    count(&client, None).await.unwrap();
    world.proxy.answer(Answers::LoseNext);
    count(&client, None).await.unwrap_err();
    client.close().await;
    assert_eq!(lost(&client).await, 1);
}

#[tokio::test]
async fn a_report_that_reached_nobody_is_told_later() {
    let mut world = World::new(Position::Grpc).await;
    let nowhere = Bus::Address("unix:path=/nonexistent/bus".to_owned());
    let client = AgentClient::new(&Settings { bus: nowhere, ..world.settings(Via::Auto) });
    count(&client, None).await.unwrap();
    world.proxy.answer(Answers::LoseNext);
    count(&client, None).await.unwrap_err();
    world.proxy.vanish();
    client.close().await;
    let other = world.client(Via::Dbus);
    assert_eq!(lost(&other).await, 0);
    world.proxy.listen();
    eventually("it is told", async || {
        client.close().await;
        lost(&other).await == 1
    })
    .await;
}

/// How many calls of the probe's Count the service was told to be lost.
async fn lost(client: &AgentClient) -> u64 {
    let request = ListUsesRequest { agent: "probe".to_owned(), ..ListUsesRequest::default() };
    let uses = MigrationClient::new(client.clone()).list_uses(request).await.unwrap().uses;
    uses.iter().filter(|known| known.operation == "probe.Count").map(|known| known.lost).sum()
}
