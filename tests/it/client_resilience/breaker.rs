//! A way that fails is left alone, and taken again once it works.

use op_dbus::client::{BREAKER_FAILURES, BreakerState};

use super::*;

fn standing(client: &AgentClient, way: Way) -> BreakerState {
    let breakers = client.agent_metrics().unwrap().snapshot().breakers;
    breakers.into_iter().find(|(known, _)| *known == way).unwrap().1
}

#[tokio::test]
async fn a_breaker_opens_and_closes() {
    let mut world = World::new(Position::Grpc).await;
    let settings = Settings { max_retries: 0, ..world.settings(Via::Grpc) };
    let client = AgentClient::new(&settings);
    echo(&client, "warm").await.unwrap();
    world.proxy.vanish();
    for _ in 0..BREAKER_FAILURES {
        echo(&client, "nobody").await.unwrap_err();
    }
    assert_ne!(standing(&client, Way::Grpc), BreakerState::Closed);
    world.proxy.listen();
    eventually("the way is taken again", async || echo(&client, "there").await.is_ok()).await;
    assert_eq!(standing(&client, Way::Grpc), BreakerState::Closed);
    // While it was left alone nothing was sent.
    let snapshot = client.agent_metrics().unwrap().snapshot();
    let reached = figure(&snapshot, "Echo", Way::Grpc, |way| way.requests);
    assert!(reached >= u64::from(BREAKER_FAILURES) + 2, "{reached}");
    assert!(
        client
            .agent_metrics()
            .unwrap()
            .render()
            .contains("opdbus_client_breaker_state{way=\"grpc\"} 0")
    );
}

#[tokio::test]
async fn while_it_is_open_calls_take_dbus_without_trying() {
    let mut world = World::new(Position::Grpc).await;
    let client = world.client(Via::Auto);
    assert_eq!(count(&client, None).await.unwrap(), 1);
    assert_eq!((world.served("Count", "grpc"), world.served("Count", "dbus")), (1, 0));
    world.proxy.vanish();
    // The first of them is lost with its connection, if that is noticed only then; it has no request id,
    // so that it fails.
    let mut answered = 1;
    for _ in 0..20 {
        answered += u64::from(count(&client, None).await.is_ok());
    }
    assert!(answered >= 20, "{answered}");
    assert_eq!(world.served("Count", "dbus"), answered - 1);
    let snapshot = client.agent_metrics().unwrap().snapshot();
    let probe = snapshot.operations.iter().find(|known| known.operation == "Count").unwrap();
    assert!(probe.fallbacks.iter().any(|(way, count)| *way == Way::Grpc && *count >= 19));
    let tried = figure(&snapshot, "Count", Way::Grpc, |way| way.requests);
    assert!(tried < 15, "{tried} of 20 calls tried gRPC first");
    world.proxy.listen();
    let grpc = world.served("Count", "grpc");
    eventually("calls take gRPC again", async || {
        count(&client, None).await.unwrap();
        world.served("Count", "grpc") > grpc
    })
    .await;
}
