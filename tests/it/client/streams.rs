//! Streams over gRPC and over D-Bus, where they are tasks: all shapes, their ends, and what dropping does.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{iter, pending};
use op_dbus::client::prost_types::Duration as Time;
use op_dbus::client::{AgentClient, Page, ProbeClient, Request, TaskFilter, TasksClient, Via};
use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::probe::v1::{
    BlocksRequest, ChatRequest, GenerateRequest, SleepRequest, SumRequest,
};
use op_dbus::proto::opdbus::v1::{OnDisconnect, TaskState, WatchTaskRequest};

use super::{World, failure};
use crate::grpc::eventually;

#[tokio::test]
async fn every_shape_goes_over_every_way() {
    let world = World::new();
    for client in world.both() {
        let metrics = client.agent_metrics().unwrap();
        let probe = ProbeClient::new(client);
        let numbers = probe.generate(GenerateRequest { count: 1000 }).await.unwrap();
        assert!(numbers.task_id().is_some_and(|id| !id.is_empty()));
        let numbers: Vec<u32> = numbers.map(|message| message.unwrap().number).collect().await;
        assert_eq!(numbers, (1..=1000).collect::<Vec<u32>>());

        let requests = iter((1..=100).map(|number| SumRequest { number }));
        assert_eq!(probe.sum(Request::new(requests)).await.unwrap().sum, 5050);

        let requests = iter(["one", "two"]).map(|text| ChatRequest { text: text.into() });
        let mut replies = probe.chat(Request::new(requests.chain(pending()))).await.unwrap();
        for text in ["one", "two"] {
            assert_eq!(replies.message().await.unwrap().unwrap().text, text);
        }
        let counted = |operation| {
            let snapshot = metrics.snapshot();
            let known = snapshot.operations.iter().find(|known| known.operation == operation);
            known.map(|known| (known.ways[0].requests, known.ways[0].streaming_chunks))
        };
        assert_eq!(counted("Generate"), Some((1, 1000)));
        assert_eq!(counted("Sum"), Some((1, 1)));
        assert_eq!(counted("Chat"), Some((1, 2)));
    }
}

#[tokio::test]
async fn large_messages_come_whole_over_every_way() {
    let world = World::new();
    for client in world.both() {
        let request = BlocksRequest { count: 20, size_bytes: 1024 * 1024 };
        let blocks = ProbeClient::new(client).blocks(request).await.unwrap();
        let sizes: Vec<usize> = blocks.map(|block| block.unwrap().block.len()).collect().await;
        assert_eq!(sizes, [1024 * 1024; 20]);
    }
}

#[tokio::test]
async fn requests_that_the_service_must_make_room_for_come_whole() {
    const COUNT: u8 = 20;
    let world = World::new();
    let probe = ProbeClient::new(world.client(Via::Grpc));
    let text = |number| char::from(b'a' + number).to_string().repeat(1024 * 1024);
    let requests = iter(0..COUNT).map(move |number| ChatRequest { text: text(number) });
    let mut replies = probe.chat(Request::new(requests)).await.unwrap();
    for number in 0..COUNT {
        assert!(replies.message().await.unwrap().unwrap().text == text(number), "{number}");
    }
    assert_eq!(replies.message().await.unwrap(), None);
}

/// The state of the newest task.
async fn newest(client: &AgentClient) -> Option<TaskState> {
    let filter = TaskFilter::default();
    let page = Page { size: 1, token: "" };
    let tasks = client.list_tasks(&filter, page, &Default::default()).await.unwrap();
    tasks.message.tasks.first().map(|task| task.state())
}

#[tokio::test]
async fn dropping_a_stream_cancels_its_work_unless_it_is_to_go_on() {
    let world = World::new();
    for client in world.both() {
        let probe = ProbeClient::new(client.clone());
        for (choice, state) in [
            (OnDisconnect::Unspecified, TaskState::Cancelled),
            (OnDisconnect::Cancel, TaskState::Cancelled),
            (OnDisconnect::Continue, TaskState::Completed),
        ] {
            let request = BlocksRequest { count: 400, size_bytes: 65_536 };
            let request = Request::new(request).on_disconnect(choice);
            let mut blocks = probe.blocks(request).await.unwrap();
            blocks.message().await.unwrap().unwrap();
            drop(blocks);
            eventually("the task ends so", async || newest(&client).await == Some(state)).await;
        }
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_over_grpc() {
    let world = World::new();
    let [grpc, _] = world.both();
    let probe = ProbeClient::new(grpc.clone());
    let request = SleepRequest { duration: Some(Time { seconds: 600, nanos: 0 }) };
    let request = Request::new(request).timeout(Duration::from_secs(600));
    let call = tokio::spawn(async move { probe.sleep(request).await });
    eventually("the call runs", async || {
        grpc.status(&Default::default()).await.unwrap().message.calls_in_flight > 1
    })
    .await;
    call.abort();
    eventually("the call has ended", async || {
        let metrics = grpc.metrics(&Default::default()).await.unwrap().message.text;
        metrics.lines().any(|line| {
            line.starts_with("opdbus_calls_total{")
                && line.contains("operation=\"Sleep\"")
                && line.contains("outcome=\"cancelled\"")
                && line.ends_with(" 1")
        })
    })
    .await;
}

#[tokio::test]
async fn what_ends_a_stream_is_told_over_every_way() {
    let world = World::new();
    for client in world.both() {
        let probe = ProbeClient::new(client);
        let requests = Request::new(pending()).timeout(Duration::from_millis(200));
        let mut replies = probe.chat(requests).await.unwrap();
        let failure = failure(replies.message().await);
        assert_eq!(failure.kind, ErrorKind::DeadlineExceeded, "{failure:?}");
    }
}

#[tokio::test]
async fn a_view_is_a_stream_of_grpc_alone() {
    let world = World::new();
    let [grpc, dbus] = world.both();
    let numbers =
        ProbeClient::new(grpc.clone()).generate(GenerateRequest { count: 3 }).await.unwrap();
    let id = numbers.task_id().unwrap().to_owned();
    assert_eq!(numbers.count().await, 3);
    let watch = WatchTaskRequest { id, ..WatchTaskRequest::default() };
    let mut events = TasksClient::new(grpc).watch_task(watch.clone()).await.unwrap();
    assert!(events.message().await.unwrap().is_some());
    let failure = failure(TasksClient::new(dbus).watch_task(watch).await);
    assert_eq!(failure.kind, ErrorKind::UnknownOperation);
    assert!(failure.message.contains("gRPC"), "{failure:?}");
}
