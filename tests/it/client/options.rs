//! What belongs to a call but not to its request: sessions, the client's name, and defaults.

use op_dbus::client::{
    AgentClient, CallOptions, MemoryClient, Request, SessionsClient, Settings, Via,
};
use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::memory::v1::{RecallRequest, RememberRequest, Scope};
use op_dbus::proto::opdbus::v1::{EndSessionRequest, StartSessionRequest};

use super::{World, failure};

fn remember(key: &str) -> RememberRequest {
    RememberRequest {
        key: key.into(),
        value: Some("here".into()),
        scope: Scope::Session.into(),
        ..RememberRequest::default()
    }
}

fn recall(key: &str) -> RecallRequest {
    RecallRequest { key: key.into(), scope: Scope::Session.into(), ..RecallRequest::default() }
}

#[tokio::test]
async fn a_session_belongs_to_the_calls_that_say_so_on_every_way() {
    let world = World::new();
    let [grpc, dbus] = world.both();
    let sessions = SessionsClient::new(grpc.clone());
    let start = StartSessionRequest {
        session_id: "work".into(),
        client_name: "test".into(),
        ..StartSessionRequest::default()
    };
    sessions.start_session(start).await.unwrap();
    let outside = failure(MemoryClient::new(grpc.clone()).remember(remember("k")).await);
    assert_eq!(outside.kind, ErrorKind::InvalidArgument, "{outside:?}");

    let within = MemoryClient::new(grpc.in_session("work"));
    within.remember(remember("k")).await.unwrap();
    let request = Request::new(recall("k")).session("work");
    let there = MemoryClient::new(dbus.clone()).recall(request).await.unwrap();
    assert_eq!(there.value, Some("here".into()));
    let by_settings = Settings { session: Some("work".into()), ..world.settings(Via::Dbus) };
    let there = MemoryClient::new(AgentClient::new(&by_settings)).recall(recall("k")).await;
    assert_eq!(there.unwrap().value, Some("here".into()));

    let request = Request::new(recall("k")).session("another");
    let elsewhere = failure(within.recall(request).await);
    assert_eq!(elsewhere.kind, ErrorKind::NotFound, "what a call says counts: {elsewhere:?}");
    let end = EndSessionRequest { session_id: "work".into() };
    sessions.end_session(end).await.unwrap();
    assert_eq!(failure(within.recall(recall("k")).await).kind, ErrorKind::NotFound);
}

#[tokio::test]
async fn the_service_hears_what_a_client_calls_itself() {
    let world = World::new();
    for (via, name) in [(Via::Grpc, "by-grpc"), (Via::Dbus, "by-dbus")] {
        let settings = Settings { client_name: Some(name.into()), ..world.settings(via) };
        let client = AgentClient::new(&settings);
        client.call_json("memory", "List", "{}", &CallOptions::default()).await.unwrap();
        let wrong = Settings { client_name: Some("two words".into()), ..world.settings(via) };
        let wrong = AgentClient::new(&wrong);
        let failure =
            failure(wrong.call_json("memory", "List", "{}", &CallOptions::default()).await);
        assert_eq!(failure.kind, ErrorKind::InvalidArgument, "{failure:?}");
        assert!(failure.message.contains("client-name"), "{failure:?}");
    }
}

#[tokio::test]
async fn defaults_hold_where_a_call_says_nothing() {
    let world = World::new();
    let client = world.client(Via::Grpc);
    let request_id = Some("default".to_owned());
    let client = client.with(CallOptions { request_id, ..CallOptions::default() });
    let count = async |options: &CallOptions| {
        client.call_json("probe", "Count", "{}", options).await.unwrap()
    };
    let first = count(&CallOptions::default()).await;
    assert_eq!(count(&CallOptions::default()).await, first, "the same request");
    let own = CallOptions { request_id: Some("own".into()), ..CallOptions::default() };
    assert_ne!(count(&own).await, first);
}
