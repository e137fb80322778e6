//! Streams in all three shapes, by a client library that was generated for nothing: their messages,
//! headers, ends and limits.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{iter, pending};
use op_dbus::call::Identity;
use op_dbus::proto::opdbus::agent::probe::v1::{
    BlocksRequest, BlocksResponse, ChatRequest, ChatResponse, DripRequest, DripResponse,
    GenerateRequest, GenerateResponse, LingerRequest, LingerResponse, SumRequest, SumResponse,
};
use op_dbus::proto::opdbus::v1::{OnDisconnect, StartCallRequest, StartCallResponse};
use op_dbus::task::{State, Task};
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use super::{
    BLOCKS, CHAT, Client, DRIP, GENERATE, LIMIT, LINGER, PING, Running, SUM, check_error,
    eventually, start,
};

const START_CALL: &str = "/opdbus.v1.CallsService/StartCall";

/// Every message of a stream, and how it ended.
async fn collect<A: Message + Default + 'static>(
    mut stream: Streaming<A>,
) -> (Vec<A>, Result<(), Status>) {
    let mut messages = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, Ok(())),
            Err(status) => return (messages, Err(status)),
        }
    }
}

fn chat(text: &str) -> ChatRequest {
    ChatRequest { text: text.into() }
}

fn sums(numbers: impl IntoIterator<Item = i64>) -> Vec<SumRequest> {
    numbers.into_iter().map(|number| SumRequest { number }).collect()
}

/// The task that the headers of a response name.
fn task(running: &Running, headers: &tonic::metadata::MetadataMap) -> Arc<Task> {
    let id = headers.get("opdbus-task-id").expect("the headers name the task").to_str().unwrap();
    let (uid, gid) = (nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw());
    let me = Identity::User { uid, gid: Some(gid) };
    running.service.executor.tasks().find(id, me).unwrap()
}

/// A conversation that is open until the sender is dropped.
async fn converse(
    client: &Client,
    metadata: &[(&'static str, &'static str)],
) -> (mpsc::Sender<ChatRequest>, tonic::Response<Streaming<ChatResponse>>) {
    let (sender, requests) = mpsc::channel(4);
    let mut request = Request::new(ReceiverStream::new(requests));
    for (name, value) in metadata {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    (sender, client.stream(CHAT, request).await.unwrap())
}

#[tokio::test]
async fn a_server_stream_gives_every_message_in_order() {
    let running = start().await;
    let client = running.client().await;
    for count in [0, 1, 10_000] {
        let request = iter([GenerateRequest { count }]);
        let response = client.stream(GENERATE, request).await.unwrap();
        let task = task(&running, response.metadata());
        let (messages, end) = collect::<GenerateResponse>(response.into_inner()).await;
        end.unwrap();
        let numbers: Vec<u32> = messages.into_iter().map(|message| message.number).collect();
        assert_eq!(numbers, (1..=count).collect::<Vec<u32>>());
        assert_eq!(task.state(), State::Completed);
    }
    assert_eq!(running.metric("opdbus_calls_total", "operation=\"Generate\""), 3.0);
}

#[tokio::test]
async fn blocks_of_every_size_come_whole() {
    let running = start().await;
    let client = running.client().await;
    // Around the sizes at which messages cease to be copied, and to share a frame.
    for size in [0, 1, 100, 8 * 1024, 16 * 1024 - 5, 16 * 1024, 16 * 1024 + 1, 64 * 1024, 300_000] {
        let request = iter([BlocksRequest { count: 40, size_bytes: size }]);
        let response = client.stream(BLOCKS, request).await.unwrap();
        let (blocks, end) = collect::<BlocksResponse>(response.into_inner()).await;
        end.unwrap();
        assert_eq!(blocks.len(), 40);
        assert!(blocks.iter().all(|block| block.block.len() as u64 == size));
    }
}

#[tokio::test]
async fn a_client_stream_has_one_response() {
    let running = start().await;
    let client = running.client().await;
    for count in [0, 1, 20_000] {
        let request = iter(sums(1..=count));
        let response = client.stream::<_, SumResponse>(SUM, request).await.unwrap();
        let task = task(&running, response.metadata());
        let (sums, end) = collect(response.into_inner()).await;
        end.unwrap();
        assert_eq!(sums, [SumResponse { sum: count * (count + 1) / 2 }]);
        assert_eq!(task.state(), State::Completed);
    }
}

#[tokio::test]
async fn a_stream_in_both_directions_alternates() {
    let running = start().await;
    let (sender, response) = converse(&running.client().await, &[]).await;
    // The headers are here, although nothing was said yet.
    let task = task(&running, response.metadata());
    let mut replies = response.into_inner();
    for text in ["a", "b", "", "d"] {
        sender.send(chat(text)).await.unwrap();
        assert_eq!(replies.message().await.unwrap().unwrap().text, text);
    }
    eventually("it waits for input", async || task.state() == State::InputRequired).await;
    drop(sender);
    assert_eq!(replies.message().await.unwrap(), None);
    assert_eq!(task.state(), State::Completed);
}

#[tokio::test]
async fn many_streams_share_a_connection() {
    let running = start().await;
    let client = running.client().await;
    let streams = (0..200).map(|number: u32| {
        let client = client.clone();
        async move {
            let request = iter((0..10).map(move |part| chat(&format!("{number} {part}"))));
            let response = client.stream(CHAT, request).await.unwrap();
            let (replies, end) = collect::<ChatResponse>(response.into_inner()).await;
            end.unwrap();
            let texts: Vec<String> = replies.into_iter().map(|reply| reply.text).collect();
            let sent: Vec<String> = (0..10).map(|part| format!("{number} {part}")).collect();
            assert_eq!(texts, sent);
        }
    });
    futures_util::future::join_all(streams).await;
}

#[tokio::test]
async fn what_only_waits_ends_with_its_client() {
    let running = start().await;
    let request = iter([LingerRequest {}]);
    let response = running.client().await.stream(LINGER, request).await.unwrap();
    let task = task(&running, response.metadata());
    let mut replies: Streaming<LingerResponse> = response.into_inner();
    replies.message().await.unwrap().unwrap();
    drop(replies);
    eventually("the wait is cancelled", async || task.state() == State::Cancelled).await;

    // Unless it is told not to, so that the client can come back.
    let mut request = Request::new(iter([LingerRequest {}]));
    request.metadata_mut().insert("opdbus-on-disconnect", "continue".parse().unwrap());
    let response = running.client().await.stream(LINGER, request).await.unwrap();
    let task = self::task(&running, response.metadata());
    let mut replies: Streaming<LingerResponse> = response.into_inner();
    replies.message().await.unwrap().unwrap();
    drop(replies);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(task.state(), State::Working);
}

#[tokio::test]
async fn a_task_goes_with_the_connection_that_started_it_if_it_is_to() {
    let running = start().await;
    let begin = async |client: &Client, on_disconnect: OnDisconnect| {
        let request = StartCallRequest {
            agent: "probe".into(),
            operation: "Sleep".into(),
            arguments: r#"{"duration": "60s"}"#.into(),
            on_disconnect: on_disconnect.into(),
            ..StartCallRequest::default()
        };
        let started: StartCallResponse =
            client.request(START_CALL, Request::new(request)).await.unwrap().into_inner();
        let id = started.task.unwrap().id;
        let identity = Identity::User { uid: nix::unistd::getuid().as_raw(), gid: None };
        running.service.executor.tasks().find(&id, identity).unwrap()
    };
    let (client, other) = (running.client().await, running.client().await);
    let goes = begin(&client, OnDisconnect::Cancel).await;
    let stays = begin(&client, OnDisconnect::Continue).await;
    let others = begin(&other, OnDisconnect::Cancel).await;
    drop(client);
    eventually("the task is cancelled", async || goes.state() == State::Cancelled).await;
    assert_eq!((stays.state(), others.state()), (State::Working, State::Working));
}

#[tokio::test]
async fn a_stream_goes_on_without_its_client_unless_told_not_to() {
    let running = start().await;
    for (metadata, end) in [
        (&[] as &[_], State::Completed),
        (&[("opdbus-on-disconnect", "continue")], State::Completed),
        (&[("opdbus-on-disconnect", "cancel")], State::Cancelled),
    ] {
        let client = running.client().await;
        let mut request = Request::new(iter([BlocksRequest { count: 1000, size_bytes: 65_536 }]));
        for (name, value) in metadata {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let response = client.stream::<_, BlocksResponse>(BLOCKS, request).await.unwrap();
        let task = task(&running, response.metadata());
        let mut blocks = response.into_inner();
        blocks.message().await.unwrap().unwrap();
        // More than all windows and buffers hold, so it waits for its client.
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(task.state(), State::Working);
        drop(blocks);
        eventually("the task ends", async || task.state().is_final()).await;
        assert_eq!(task.state(), end, "{metadata:?}");
    }
}

#[tokio::test]
async fn what_has_no_meaning_is_refused_by_name() {
    let running = start().await;
    let client = running.client().await;
    let refused = async |path: &'static str, name: &'static str, value: &str, field: &str| {
        let mut request = Request::new(iter([LingerRequest {}]));
        request.metadata_mut().insert(name, value.parse().unwrap());
        let outcome = client.stream::<_, LingerResponse>(path, request).await;
        let outcome = outcome.map(|response| response.into_inner());
        let text = outcome.as_ref().unwrap_err().message().to_owned();
        let details = check_error(outcome, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
        text
    };
    let text = refused(LINGER, "opdbus-detach", "1", "opdbus-detach").await;
    assert!(text.contains("CallsService.StartCall"), "{text}");
    refused(PING, "opdbus-on-disconnect", "continue", "on-disconnect").await;
    refused(LINGER, "opdbus-request-id", "a b", "opdbus-request-id").await;
    refused(LINGER, "opdbus-session-id", "a b", "opdbus-session-id").await;
}

#[tokio::test]
async fn a_request_id_gives_the_first_stream_again() {
    let running = start().await;
    let client = running.client().await;
    let begin = async |count: u32, id: &'static str| {
        let mut request = Request::new(iter([GenerateRequest { count }]));
        request.metadata_mut().insert("opdbus-request-id", id.parse().unwrap());
        client.stream::<_, GenerateResponse>(GENERATE, request).await
    };
    let mut tasks = Vec::new();
    for id in ["one", "one", "two"] {
        let response = begin(5, id).await.unwrap();
        tasks.push(task(&running, response.metadata()).id().to_string());
        let (messages, end) = collect(response.into_inner()).await;
        end.unwrap();
        let numbers: Vec<u32> = messages.into_iter().map(|message| message.number).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
    }
    assert!(tasks[0] == tasks[1] && tasks[1] != tasks[2], "{tasks:?}");
    let outcome = begin(6, "one").await.map(|_| ());
    check_error(outcome, Code::InvalidArgument, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn messages_past_the_limit_end_a_stream_with_its_name() {
    let running = start().await;
    let client = running.client().await;
    let limit = |end: Result<(), Status>, limit: &str| {
        let details = check_error(end, Code::ResourceExhausted, "LIMIT_EXCEEDED");
        assert_eq!(details.error_info().unwrap().metadata["limit"], limit);
    };
    let size_bytes = LIMIT as u64;
    let request = iter([BlocksRequest { count: 3, size_bytes }]);
    let response = client.stream(BLOCKS, request).await.unwrap();
    let (blocks, end) = collect::<BlocksResponse>(response.into_inner()).await;
    assert!(blocks.is_empty());
    limit(end, "grpc.max_response_bytes");

    // In the middle: what came before it is answered.
    let large = chat(&"x".repeat(LIMIT));
    let requests = iter([chat("a"), chat("b"), large, chat("d")]).chain(pending());
    let response = client.stream(CHAT, requests).await.unwrap();
    let task = task(&running, response.metadata());
    let (replies, end) = collect::<ChatResponse>(response.into_inner()).await;
    assert_eq!(replies.len(), 2);
    limit(end, "grpc.max_request_bytes");
    assert_eq!(task.state(), State::Failed);
    assert_eq!(running.metric("opdbus_rejected_total", "too_large"), 1.0);
    client.ping().await;
}

#[tokio::test]
async fn a_stream_that_has_lost_messages_ends_and_says_which() {
    let running = start().await;
    let client = running.client().await;
    // More than all windows and buffers hold.
    let (count, size_bytes) = (1000, 65_536);
    let request = iter([DripRequest { count, size_bytes }]);
    let response = client.stream(DRIP, request).await.unwrap();
    let task = task(&running, response.metadata());
    eventually("all have dripped", async || task.state() == State::Completed).await;
    let (messages, end) = collect::<DripResponse>(response.into_inner()).await;
    let last = messages.len() as u64;
    assert!(messages.iter().map(|message| u64::from(message.number)).eq(1..=last));
    let text = end.as_ref().unwrap_err().message().to_owned();
    let details = check_error(end, Code::ResourceExhausted, "LIMIT_EXCEEDED");
    let facts = &details.error_info().unwrap().metadata;
    assert_eq!(facts["from"], (last + 1).to_string());
    assert_eq!(facts["task_id"], **task.id());
    let to: u64 = facts["to"].parse().unwrap();
    assert!(to > last && to < u64::from(count), "{to}");
    // Where to go on is said, and so it is.
    assert!(text.contains(&format!("WatchTask goes on from_seq {}", to + 1)), "{text}");
    assert!(task.record().first_seq > to);
}

#[tokio::test]
async fn time_that_is_over_ends_a_stream_after_what_there_is() {
    let running = start().await;
    let (sender, response) = converse(&running.client().await, &[("grpc-timeout", "300m")]).await;
    let mut replies = response.into_inner();
    for text in ["a", "b"] {
        sender.send(chat(text)).await.unwrap();
        assert_eq!(replies.message().await.unwrap().unwrap().text, text);
    }
    let status = replies.message().await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_eq!(
        status.get_error_details().error_info().unwrap().reason,
        "DEADLINE_EXCEEDED",
        "{status:?}"
    );
}

#[tokio::test]
async fn a_stop_tells_open_streams_why_they_end() {
    let running = start().await;
    let client = running.client().await;
    let (_sender, response) = converse(&client, &[]).await;
    let request = iter([LingerRequest {}]);
    let linger = client.stream::<_, LingerResponse>(LINGER, request).await.unwrap();
    let unavailable = |status: &Status| {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().contains("stopping"), "{status:?}");
    };

    // What only waits ends when the stop begins, so that nobody waits for it.
    running.service.executor.drain();
    let (messages, end) = collect(linger.into_inner()).await;
    assert_eq!(messages.len(), 1);
    unavailable(&end.unwrap_err());

    let mut replies = response.into_inner();
    let more = tokio::time::timeout(Duration::from_millis(50), replies.message());
    more.await.expect_err("a stream that works goes on");
    let start = tokio::time::Instant::now();
    assert!(!running.server.stop(Duration::from_millis(300)).await);
    assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    unavailable(&replies.message().await.unwrap_err());
}
