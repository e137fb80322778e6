//! Each stage's way, told by the service's own counters.

use std::time::Instant;

use super::*;
use crate::process::PATIENCE;

/// Waits until calls have come over `transport` since now.
async fn takes(world: &World, client: &AgentClient, transport: &str) {
    let before = world.served("Count", transport);
    eventually("calls take the way of the stage", async || {
        count(client, None).await.unwrap();
        world.served("Count", transport) > before
    })
    .await;
    let (dbus, grpc) = (world.served("Count", "dbus"), world.served("Count", "grpc"));
    for _ in 0..5 {
        count(client, None).await.unwrap();
    }
    let (dbus_now, grpc_now) = (world.served("Count", "dbus"), world.served("Count", "grpc"));
    match transport {
        "dbus" => assert_eq!((dbus_now, grpc_now), (dbus + 5, grpc)),
        _ => assert_eq!((dbus_now, grpc_now), (dbus, grpc + 5)),
    }
}

/// How often calls fell back from gRPC.
fn fallbacks(client: &AgentClient) -> u64 {
    let snapshot = client.agent_metrics().unwrap().snapshot();
    let counted = snapshot.operations.iter().filter(|known| known.operation == "Count");
    let fallbacks = counted.flat_map(|known| known.fallbacks.clone());
    fallbacks.filter(|(way, _)| *way == Way::Grpc).map(|(_, count)| count).sum()
}

#[tokio::test]
async fn each_stage_takes_its_way_as_soon_as_it_is_told() {
    let world = World::new(Position::Dbus).await;
    let client = world.client(Via::Auto);
    takes(&world, &client, "dbus").await;
    for (position, transport) in [
        (Position::Grpc, "grpc"),
        (Position::Shadow, "dbus"),
        (Position::Canary(10_000), "grpc"),
        (Position::Canary(0), "dbus"),
        (Position::Final, "grpc"),
        (Position::Dbus, "dbus"),
    ] {
        world.set(&[], position).await;
        let started = Instant::now();
        takes(&world, &client, transport).await;
        assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    }
}

#[tokio::test]
async fn one_operation_may_be_at_another_stage_than_the_rest() {
    let world = World::new(Position::Dbus).await;
    world.set(&["probe.Echo"], Position::Grpc).await;
    let client = world.client(Via::Auto);
    echo(&client, "moved").await.unwrap();
    count(&client, None).await.unwrap();
    assert_eq!((world.served("Echo", "grpc"), world.served("Echo", "dbus")), (1, 0));
    assert_eq!((world.served("Count", "grpc"), world.served("Count", "dbus")), (0, 1));
}

#[tokio::test]
async fn a_change_is_told_over_dbus_where_grpc_cannot_be_had() {
    let mut world = World::new(Position::Dbus).await;
    world.proxy.vanish();
    let client = world.client(Via::Auto);
    count(&client, None).await.unwrap();
    world.set(&[], Position::Grpc).await;
    eventually("the change has come, so that gRPC is tried first", async || {
        count(&client, None).await.unwrap();
        fallbacks(&client) > 0
    })
    .await;
}

#[tokio::test]
async fn the_last_known_stages_are_kept() {
    let mut world = World::new(Position::Grpc).await;
    let kept = world.service.folder.path().join("routes");
    let settings = Settings { routes_file: Some(kept.clone()), ..world.settings(Via::Auto) };
    let client = AgentClient::new(&settings);
    count(&client, None).await.unwrap();
    assert_eq!((world.served("Count", "grpc"), world.served("Count", "dbus")), (1, 0));
    drop(client);
    eventually("they are in the file", async || kept.exists()).await;
    // Started without a service, a client goes by them: at stage `grpc`, that is the way it tries first.
    world.proxy.vanish();
    world.bus.kill();
    let client = AgentClient::new(&Settings { max_retries: 0, ..settings });
    count(&client, None).await.unwrap_err();
    assert_eq!(fallbacks(&client), 1);
}

#[tokio::test]
async fn a_pinned_way_is_taken_whatever_the_stage_is() {
    let world = World::new(Position::Grpc).await;
    count(&world.client(Via::Dbus), None).await.unwrap();
    assert_eq!((world.served("Count", "grpc"), world.served("Count", "dbus")), (0, 1));
    count(&world.client(Via::Grpc), None).await.unwrap();
    assert_eq!((world.served("Count", "grpc"), world.served("Count", "dbus")), (1, 1));
}
