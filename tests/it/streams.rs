//! The shape of streaming operations: what the generated adapter makes of the three kinds.

use std::sync::{Arc, Mutex};
use std::task::{self, Poll};

use bytes::Bytes;
use op_dbus::call::{Attested, Caller, Context, Identity, Transport};
use op_dbus::contract::{Agent, Contract, RawReplies, RawRequests, ReplySink};
use op_dbus::error::{Error, ErrorKind};
use op_dbus::proto::opdbus::agent::probe::v1::{
    ChatRequest, ChatResponse, GenerateRequest, GenerateResponse, SumRequest, SumResponse,
};
use prost::Message;

fn context() -> Context {
    let identity = Identity::User { uid: 1, gid: None };
    Context::new(Arc::new(Caller::new(identity, Attested::Kernel, "test")), Transport::Grpc)
}

fn operation(name: &str) -> usize {
    let contract = Contract::built_in().unwrap();
    contract.service("opdbus.agent.probe.v1.ProbeService").unwrap().operation(name).unwrap().index
}

/// Collects replies without bound.
#[derive(Default)]
struct Collected(Mutex<Vec<Bytes>>);

impl ReplySink for Collected {
    fn poll_take(
        &self,
        _: &mut task::Context<'_>,
        reply: &mut Option<Bytes>,
    ) -> Poll<Result<(), Error>> {
        self.0.lock().unwrap().extend(reply.take());
        Poll::Ready(Ok(()))
    }
}

/// A reader that has gone.
struct Nobody;

impl ReplySink for Nobody {
    fn poll_take(
        &self,
        _: &mut task::Context<'_>,
        _: &mut Option<Bytes>,
    ) -> Poll<Result<(), Error>> {
        Poll::Ready(Err(Error::new(ErrorKind::Cancelled, "nobody reads")))
    }
}

/// Runs a streaming operation of the probe with these requests and collects its replies.
async fn run(name: &str, requests: Vec<Result<Bytes, Error>>) -> (Result<(), Error>, Vec<Bytes>) {
    let agent = op_dbus::testing::probe();
    let context = context();
    let (sender, received) = RawRequests::bounded(1);
    let replies = Arc::new(Collected::default());
    let feed = async move {
        for request in requests {
            if sender.send(request).await.is_err() {
                break;
            }
        }
    };
    let sink = RawReplies::new(Arc::clone(&replies) as _);
    let work = Agent::stream(&*agent, operation(name), &context, received, sink);
    let (outcome, ()) = tokio::join!(work, feed);
    let collected = std::mem::take(&mut *replies.0.lock().unwrap());
    (outcome, collected)
}

fn encoded(messages: &[impl Message]) -> Vec<Result<Bytes, Error>> {
    messages.iter().map(|message| Ok(message.encode_to_vec().into())).collect()
}

#[tokio::test]
async fn a_server_stream_gives_every_message() {
    let (outcome, replies) = run("Generate", encoded(&[GenerateRequest { count: 100 }])).await;
    outcome.unwrap();
    let numbers: Vec<u32> =
        replies.into_iter().map(|reply| GenerateResponse::decode(reply).unwrap().number).collect();
    assert_eq!(numbers, (1..=100).collect::<Vec<u32>>());
}

#[tokio::test]
async fn a_client_stream_is_read_to_its_end() {
    let requests: Vec<SumRequest> = (1..=10).map(|number| SumRequest { number }).collect();
    let (outcome, replies) = run("Sum", encoded(&requests)).await;
    outcome.unwrap();
    assert_eq!(replies.len(), 1);
    assert_eq!(SumResponse::decode(replies[0].clone()).unwrap().sum, 55);
}

#[tokio::test]
async fn a_stream_in_both_directions_alternates() {
    let requests: Vec<ChatRequest> =
        ["a", "b", "c"].map(|text| ChatRequest { text: text.into() }).into();
    let (outcome, replies) = run("Chat", encoded(&requests)).await;
    outcome.unwrap();
    let texts: Vec<String> =
        replies.into_iter().map(|reply| ChatResponse::decode(reply).unwrap().text).collect();
    assert_eq!(texts, ["a", "b", "c"]);
}

#[tokio::test]
async fn a_client_stream_that_breaks_is_no_end() {
    let mut requests = encoded(&[SumRequest { number: 1 }]);
    requests.push(Err(Error::new(ErrorKind::Cancelled, "the client went away")));
    let (outcome, replies) = run("Sum", requests).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(replies.is_empty());
}

#[tokio::test]
async fn nobody_reading_ends_the_work() {
    let agent = op_dbus::testing::probe();
    let context = context();
    let request = RawRequests::one(GenerateRequest { count: 100 }.encode_to_vec().into());
    let replies = RawReplies::new(Arc::new(Nobody));
    let outcome = agent.stream(operation("Generate"), &context, request, replies).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[tokio::test]
async fn one_request_means_one() {
    for requests in [vec![], encoded(&[GenerateRequest { count: 1 }, GenerateRequest { count: 2 }])]
    {
        let (outcome, _) = run("Generate", requests).await;
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::InvalidArgument);
    }
}

#[tokio::test]
async fn the_wrong_shape_is_our_own_fault() {
    let agent = op_dbus::testing::probe();
    let context = context();
    let outcome = agent.call(operation("Sum"), &context, Bytes::new()).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Internal);
}
