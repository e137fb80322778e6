//! Streams through op-dbus's own client library.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{iter, pending};
use op_dbus::call::OnDisconnect;
use op_dbus::client::{Client, Credentials, Error, GrpcAddress, StreamOptions, Target};
use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::probe::v1::{
    BlocksRequest, ChatRequest, ChatResponse, GenerateRequest, GenerateResponse, SumRequest,
    SumResponse,
};
use prost::Message;

use super::{BLOCKS, CHAT, GENERATE, Running, SUM, eventually, start};

async fn client(running: &Running) -> Client {
    let target = Target::Grpc(GrpcAddress::Unix(running.path.clone()));
    Client::connect(&[target], &Credentials::default()).await.unwrap()
}

fn encoded(messages: Vec<impl Message>) -> impl futures_util::Stream<Item = Bytes> {
    iter(messages.into_iter().map(|message| Bytes::from(message.encode_to_vec())))
}

#[track_caller]
fn check<T: std::fmt::Debug>(outcome: Result<T, Error>, kind: ErrorKind, text: &str) {
    let Err(Error::Failed(failure)) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failure.kind, kind, "{failure:?}");
    assert!(failure.message.contains(text), "{failure:?}");
}

#[tokio::test]
async fn every_shape_is_read_as_a_stream() {
    let running = start().await;
    let client = client(&running).await;
    let options = StreamOptions::default();

    let request = encoded(vec![GenerateRequest { count: 100 }]);
    let messages = client.stream(GENERATE, request, &options).await.unwrap();
    assert!(messages.task_id().is_some_and(|id| !id.is_empty()));
    let numbers: Vec<u32> = messages
        .map(|message| GenerateResponse::decode(message.unwrap()).unwrap().number)
        .collect()
        .await;
    assert_eq!(numbers, (1..=100).collect::<Vec<u32>>());

    let requests = encoded((1..=10).map(|number| SumRequest { number }).collect());
    let mut messages = client.stream(SUM, requests, &options).await.unwrap();
    let sum = messages.next().await.unwrap().unwrap();
    assert_eq!(SumResponse::decode(sum).unwrap().sum, 55);
    assert!(messages.next().await.is_none());

    let requests = encoded(vec![ChatRequest { text: "hello".into() }]).chain(pending());
    let mut messages = client.stream(CHAT, requests, &options).await.unwrap();
    let reply = messages.next().await.unwrap().unwrap();
    assert_eq!(ChatResponse::decode(reply).unwrap().text, "hello");
}

#[tokio::test]
async fn what_the_service_says_of_a_stream_is_told() {
    let running = start().await;
    let client = client(&running).await;
    let options =
        StreamOptions { timeout: Some(Duration::from_millis(200)), ..StreamOptions::default() };
    let mut messages = client.stream(CHAT, pending(), &options).await.unwrap();
    let outcome = messages.next().await.unwrap();
    check(outcome, ErrorKind::DeadlineExceeded, "the time for the call was over");

    let options = StreamOptions::default();
    let requests = iter([Bytes::from_static(&[0xff])]);
    check(client.stream(SUM, requests, &options).await, ErrorKind::InvalidArgument, "request");
    let requests = pending();
    check(client.stream("/no/Where", requests, &options).await, ErrorKind::UnknownOperation, "");
    check(client.stream("no path", pending(), &options).await, ErrorKind::InvalidArgument, "path");
}

#[tokio::test]
async fn going_away_means_what_the_options_say() {
    let running = start().await;
    for (choice, outcome) in [
        (OnDisconnect::Cancel, "outcome=\"cancelled\""),
        (OnDisconnect::Continue, "outcome=\"ok\""),
    ] {
        let client = client(&running).await;
        let options = StreamOptions { on_disconnect: Some(choice), ..StreamOptions::default() };
        let request = encoded(vec![BlocksRequest { count: 1000, size_bytes: 65_536 }]);
        let mut messages = client.stream(BLOCKS, request, &options).await.unwrap();
        messages.next().await.unwrap().unwrap();
        drop(messages);
        eventually("the call ends", async || running.metric("opdbus_calls_total", outcome) == 1.0)
            .await;
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_a_lost_connection() {
    let running = start().await;
    let client = client(&running).await;
    let options = StreamOptions::default();
    let mut messages = client.stream(CHAT, pending(), &options).await.unwrap();
    drop(running.server);
    check(messages.next().await.unwrap(), ErrorKind::Unavailable, "the connection was lost");
}
