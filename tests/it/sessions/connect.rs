//! The stream that holds a session, message by message.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use op_dbus::call::Context;
use op_dbus::contract::RawRequests;
use op_dbus::error::{Error, ErrorKind};
use op_dbus::executor::Input;
use op_dbus::proto::opdbus::v1::connect_request::Message as Say;
use op_dbus::proto::opdbus::v1::connect_response::Event as Hear;
use op_dbus::proto::opdbus::v1::{
    AgentState, ConnectEnd, ConnectPing, ConnectRequest, ConnectResponse, StartSessionRequest,
    StartSessionResponse, WatchAgentsResponse,
};
use op_dbus::session::Config;
use op_dbus::task::{Event, Reading, Subscription};
use prost::Message;
use tokio::sync::mpsc;

use crate::grpc::eventually;
use crate::process::PATIENCE;

use super::{ALICE, BOB, World, check_unknown, context, folder, on_bus, request};

/// A client's side of a stream.
struct Stream {
    says: Option<mpsc::Sender<Result<Bytes, Error>>>,
    hears: Subscription,
}

impl Stream {
    async fn open(world: &World, context: Context) -> Self {
        let route = world.executor.find("sessions", "Connect").unwrap();
        let (says, requests) = RawRequests::bounded(4);
        let task = world.executor.start(&route, context, Input::Many(requests)).await.unwrap();
        let hears = task.read(Reading { is_client: true, ..Reading::default() }).unwrap();
        Self { says: Some(says), hears }
    }

    async fn started(world: &World, start: StartSessionRequest) -> (Self, StartSessionResponse) {
        let mut stream = Self::open(world, context(ALICE)).await;
        stream.say(Say::Start(start)).await;
        let Hear::Started(started) = stream.hear().await else { panic!("not started") };
        (stream, started)
    }

    async fn say(&self, message: Say) {
        self.say_request(ConnectRequest { message: Some(message) }).await;
    }

    async fn say_request(&self, request: ConnectRequest) {
        let bytes = request.encode_to_vec().into();
        self.says.as_ref().unwrap().send(Ok(bytes)).await.unwrap();
    }

    async fn hear(&mut self) -> Hear {
        match self.hears.next().await {
            Some(Event::Message(message)) => {
                ConnectResponse::decode(message.payload).unwrap().event.unwrap()
            }
            other => panic!("{other:?} instead of a message"),
        }
    }

    async fn end(&mut self) -> Result<(), Error> {
        match self.hears.next().await {
            Some(Event::Ended(outcome)) => outcome,
            other => panic!("{other:?} instead of the end"),
        }
    }

    /// Hears that the session has ended, and the stream with it.
    async fn ended(&mut self, reason: &str) {
        let Hear::Ended(ended) = self.hear().await else { panic!("not ended") };
        assert_eq!((ended.session_id.as_str(), ended.reason.as_str()), ("chat", reason));
        self.end().await.unwrap();
    }
}

async fn released(world: &World) {
    let held = async || world.get(ALICE, "chat").await.unwrap().held;
    eventually("nothing holds it", async || !held().await).await;
}

#[tokio::test]
async fn it_starts_pings_tells_of_agents_and_ends() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    let (mut stream, started) = Stream::started(&world, request("chat")).await;
    assert!(!started.resumed && started.session.unwrap().held);
    assert_eq!(started.agents[0].state(), AgentState::Running);
    stream.say(Say::Ping(ConnectPing { number: -7 })).await;
    assert_eq!(stream.hear().await, Hear::Pong(ConnectPing { number: -7 }));
    let change = WatchAgentsResponse {
        agent: "probe".into(),
        state: AgentState::Failed.into(),
        reason: "no more memory".into(),
        took: None,
    };
    world.source.changes.send(change.clone()).unwrap();
    assert_eq!(stream.hear().await, Hear::Agent(change));
    stream.say(Say::End(ConnectEnd {})).await;
    stream.ended("asked").await;
    check_unknown(world.get(ALICE, "chat").await, "chat");
    world.metric(r#"opdbus_sessions_ended_total{reason="asked"} 1"#);
}

#[tokio::test]
async fn it_hears_when_the_session_ends_elsewhere() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    let (mut stream, _) = Stream::started(&world, request("chat")).await;
    check_unknown(world.end(BOB, "chat").await, "chat");
    world.end(ALICE, "chat").await.unwrap();
    stream.ended("asked").await;
}

#[tokio::test]
async fn its_end_lets_go_and_the_token_takes_hold_again() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    let (mut stream, started) = Stream::started(&world, request("chat")).await;
    let again = StartSessionRequest { token: started.token, ..request("chat") };
    // The client has said all.
    stream.says = None;
    stream.end().await.unwrap();
    released(&world).await;
    // The client is gone.
    let (stream, resumed) = Stream::started(&world, again.clone()).await;
    assert!(resumed.resumed);
    drop(stream);
    released(&world).await;
    // The connection broke. Another stream holds it meanwhile.
    let (mut broken, _) = Stream::started(&world, again.clone()).await;
    let (other, _) = Stream::started(&world, again).await;
    let lost = Error::new(ErrorKind::Cancelled, "the connection broke");
    broken.says.as_ref().unwrap().send(Err(lost)).await.unwrap();
    assert_eq!(broken.end().await.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(world.get(ALICE, "chat").await.unwrap().held);
    drop(other);
    released(&world).await;
    world.metric("opdbus_sessions_started_total 1");
}

#[tokio::test(start_paused = true)]
async fn held_by_a_stream_it_lives_without_being_used() {
    let folder = folder();
    let second = Duration::from_secs(1);
    let world =
        World::new(folder.path(), Config { idle: second, grace: second, ..Config::default() });
    let (stream, _) = Stream::started(&world, request("chat")).await;
    tokio::time::sleep(60 * second).await;
    assert!(world.get(ALICE, "chat").await.unwrap().expires_at.is_none());
    drop(stream);
    tokio::time::sleep(2 * second).await;
    assert!(!world.is_there(ALICE, "chat"));
    world.metric(r#"opdbus_sessions_ended_total{reason="disconnected"} 1"#);
}

#[tokio::test]
async fn messages_out_of_turn_are_refused() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    for first in [Say::Ping(ConnectPing { number: 1 }), Say::End(ConnectEnd {})] {
        let mut stream = Stream::open(&world, context(ALICE)).await;
        stream.say(first).await;
        assert_eq!(stream.end().await.unwrap_err().fact("field"), Some("start"));
    }
    let mut stream = Stream::open(&world, context(ALICE)).await;
    stream.says = None;
    assert_eq!(stream.end().await.unwrap_err().fact("field"), Some("start"));

    let (mut stream, _) = Stream::started(&world, request("twice")).await;
    stream.say(Say::Start(request("other"))).await;
    assert_eq!(stream.end().await.unwrap_err().fact("field"), Some("start"));
    let (mut stream, _) = Stream::started(&world, request("empty")).await;
    stream.say_request(ConnectRequest { message: None }).await;
    assert_eq!(stream.end().await.unwrap_err().fact("field"), Some("message"));

    world.start(context(ALICE), "chat").await.unwrap();
    for (token, kind) in [("", ErrorKind::AlreadyExists), ("wrong", ErrorKind::AccessDenied)] {
        let mut stream = Stream::open(&world, context(ALICE)).await;
        stream
            .say(Say::Start(StartSessionRequest { token: token.into(), ..request("chat") }))
            .await;
        assert_eq!(stream.end().await.unwrap_err().kind(), kind);
    }
    let mut stream = Stream::open(&world, on_bus(ALICE, ":1.1")).await;
    stream.say(Say::Start(request("bus"))).await;
    assert_eq!(stream.end().await.unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_client_that_goes_while_agents_warm_leaves_no_session() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    *world.source.warming.lock().unwrap() = Duration::from_secs(60);
    let stream = Stream::open(&world, context(ALICE)).await;
    stream.say(Say::Start(request("chat"))).await;
    eventually("it is there", async || world.is_there(ALICE, "chat")).await;
    drop(stream);
    eventually("it is gone", async || !world.is_there(ALICE, "chat")).await;
}

#[tokio::test]
async fn when_the_service_stops_streams_end_and_sessions_stay() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    let (mut stream, _) = Stream::started(&world, request("chat")).await;
    world.executor.drain();
    tokio::time::timeout(PATIENCE, world.executor.idle()).await.unwrap();
    assert_eq!(stream.end().await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert!(world.is_there(ALICE, "chat"));
    let sessions = Arc::clone(world.sessions());
    sessions.record_all().await.unwrap();
}
