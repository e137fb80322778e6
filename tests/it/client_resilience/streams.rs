//! A stream whose connection breaks goes on where it was.

use futures_util::StreamExt as _;
use op_dbus::client::Failure;
use op_dbus::proto::opdbus::agent::probe::v1::PaceRequest;
use op_dbus::proto::opdbus::v1::OnDisconnect;
use prost_types::Duration as Time;

use super::*;

const COUNT: u32 = 60;

fn paced(count: u32, milliseconds: i32) -> PaceRequest {
    let interval = Some(Time { seconds: 0, nanos: milliseconds * 1_000_000 });
    PaceRequest { count, interval, ..PaceRequest::default() }
}

#[tokio::test]
async fn no_message_is_lost_or_repeated_when_the_connection_is_cut() {
    let world = World::new(Position::Grpc).await;
    let client = world.client(Via::Grpc);
    let mut messages = ProbeClient::new(client.clone()).pace(paced(COUNT, 10)).await.unwrap();
    let mut numbers = Vec::new();
    while let Some(message) = messages.next().await {
        numbers.push(message.unwrap().number);
        if numbers.len() == 10 {
            world.proxy.cut();
        }
    }
    assert_eq!(numbers, (1..=COUNT).collect::<Vec<_>>());
    let snapshot = client.agent_metrics().unwrap().snapshot();
    let chunks = figure(&snapshot, "Pace", Way::Grpc, |way| way.streaming_chunks);
    assert_eq!(chunks, u64::from(COUNT));
}

#[tokio::test]
async fn it_goes_on_over_dbus_where_grpc_is_gone() {
    let mut world = World::new(Position::Grpc).await;
    let client = world.client(Via::Auto);
    let mut messages = ProbeClient::new(client.clone()).pace(paced(COUNT, 10)).await.unwrap();
    let mut numbers = Vec::new();
    while let Some(message) = messages.next().await {
        numbers.push(message.unwrap().number);
        if numbers.len() == 10 {
            world.proxy.vanish();
        }
    }
    assert_eq!(numbers, (1..=COUNT).collect::<Vec<_>>());
}

#[tokio::test]
async fn messages_that_are_gone_are_named() {
    let mut world = World::new(Position::Grpc).await;
    let client = world.client(Via::Grpc);
    // More than the service keeps of a task, faster than a client without a connection can read it.
    let request = PaceRequest { count: 300, size_bytes: 65_536, ..paced(0, 2) };
    let mut messages = ProbeClient::new(client.clone()).pace(request).await.unwrap();
    let mut read = 0;
    let failure = loop {
        match messages.next().await {
            Some(Ok(message)) => {
                read += 1;
                assert_eq!(message.number, read);
                if read == 10 {
                    world.proxy.vanish();
                    eventually("the work goes on without a reader", async || {
                        world.served("Pace", "grpc") == 1
                    })
                    .await;
                    world.proxy.listen();
                }
            }
            Some(Err(Error::Failed(failure))) => break failure,
            other => panic!("{other:?} after {read}"),
        }
    };
    let Failure { lost, message, facts, .. } = failure;
    assert!(lost && message.contains("are missing"), "{message}");
    assert_eq!(facts["from"], (read + 1).to_string());
}

#[tokio::test]
async fn dropping_a_stream_cancels_its_work_and_a_broken_connection_does_not() {
    let world = World::new(Position::Grpc).await;
    let client = world.client(Via::Grpc);
    let ended = |outcome: &str| {
        let text = world.service.executor.metrics().render().unwrap();
        let outcome = format!("outcome=\"{outcome}\"");
        text.lines().any(|line| {
            line.starts_with("opdbus_calls_total{")
                && line.contains("operation=\"Pace\"")
                && line.contains(&outcome)
        })
    };
    let mut messages = ProbeClient::new(client.clone()).pace(paced(1000, 10)).await.unwrap();
    messages.next().await.unwrap().unwrap();
    world.proxy.cut();
    messages.next().await.unwrap().unwrap();
    assert!(!ended("cancelled"));
    drop(messages);
    eventually("the work is cancelled", async || ended("cancelled")).await;
}

#[tokio::test]
async fn a_stream_that_ends_with_its_connection_says_that() {
    let world = World::new(Position::Grpc).await;
    let client = world.client(Via::Grpc);
    let request = Request::new(paced(1000, 10)).on_disconnect(OnDisconnect::Cancel);
    let mut messages = ProbeClient::new(client.clone()).pace(request).await.unwrap();
    messages.next().await.unwrap().unwrap();
    world.proxy.cut();
    let failure = loop {
        match messages.next().await {
            Some(Ok(_)) => {}
            Some(Err(Error::Failed(failure))) => break failure,
            other => panic!("{other:?}"),
        }
    };
    assert!(failure.lost, "{failure:?}");
}
