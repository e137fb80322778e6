//! Streams through op-dbus's own client library.

use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{iter, pending};
use op_dbus::client::{
    AgentClient, CallOptions, Credentials, Error, GrpcAddress, Payload, ProbeClient, Request, Rpc,
    Target,
};
use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::probe::v1::{
    BlocksRequest, ChatRequest, GenerateRequest, SumRequest,
};
use op_dbus::proto::opdbus::v1::OnDisconnect;

use super::{Running, eventually, start};

async fn client(running: &Running) -> ProbeClient {
    let target = Target::Grpc(GrpcAddress::Unix(running.path.clone()));
    ProbeClient::new(AgentClient::connect(&[target], &Credentials::default()).await.unwrap())
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

    let messages = client.generate(GenerateRequest { count: 100 }).await.unwrap();
    assert!(messages.task_id().is_some_and(|id| !id.is_empty()));
    let numbers: Vec<u32> = messages.map(|message| message.unwrap().number).collect().await;
    assert_eq!(numbers, (1..=100).collect::<Vec<u32>>());

    let requests = iter((1..=10).map(|number| SumRequest { number }));
    assert_eq!(client.sum(Request::new(requests)).await.unwrap().sum, 55);

    let requests = iter([ChatRequest { text: "hello".into() }]).chain(pending());
    let mut messages = client.chat(Request::new(requests)).await.unwrap();
    assert_eq!(messages.message().await.unwrap().unwrap().text, "hello");
}

#[tokio::test]
async fn what_the_service_says_of_a_stream_is_told() {
    let running = start().await;
    let client = client(&running).await;
    let requests = Request::new(pending()).timeout(Duration::from_millis(200));
    let mut messages = client.chat(requests).await.unwrap();
    let outcome = messages.message().await;
    check(outcome, ErrorKind::DeadlineExceeded, "the time for the call was over");

    for (path, kind, text) in [
        ("/no/Where", ErrorKind::UnknownOperation, ""),
        ("no path", ErrorKind::InvalidArgument, "path"),
        ("", ErrorKind::UnknownOperation, "not known to this client"),
    ] {
        let rpc = Rpc { path: path.into(), ..Rpc::unknown("probe", "Nothing") };
        let call = op_dbus::client::Call {
            rpc: std::borrow::Cow::Owned(rpc),
            request: Payload::Message(bytes::Bytes::new()),
            options: CallOptions::default(),
        };
        check(client.client().call(call).await, kind, text);
    }
}

#[tokio::test]
async fn going_away_means_what_the_options_say() {
    let running = start().await;
    for (choice, outcome) in [
        (OnDisconnect::Unspecified, "outcome=\"cancelled\""),
        (OnDisconnect::Continue, "outcome=\"ok\""),
    ] {
        let client = client(&running).await;
        let request = BlocksRequest { count: 1000, size_bytes: 65_536 };
        let mut messages =
            client.blocks(Request::new(request).on_disconnect(choice)).await.unwrap();
        messages.message().await.unwrap().unwrap();
        drop(messages);
        eventually("the call ends", async || running.metric("opdbus_calls_total", outcome) == 1.0)
            .await;
    }
}

#[tokio::test]
async fn a_server_that_goes_away_is_a_lost_connection() {
    let running = start().await;
    let client = client(&running).await;
    let mut messages = client.chat(Request::new(pending())).await.unwrap();
    drop(running.server);
    let Err(Error::Failed(failure)) = messages.message().await else { panic!("it is gone") };
    assert_eq!(failure.kind, ErrorKind::Unavailable, "{failure:?}");
    assert!(failure.lost && failure.message.contains("the connection was lost"), "{failure:?}");
}
