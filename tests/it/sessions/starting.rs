//! What a client says to start or resume a session, and what it sees of those that it has.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::v1::{
    AgentState, ListSessionsRequest, ListSessionsResponse, StartSessionRequest,
    StartSessionResponse,
};
use op_dbus::session::Config;

use super::{ALICE, BOB, World, check_unknown, context, folder, request};

#[tokio::test]
async fn a_session_is_what_its_client_said() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    let metadata = BTreeMap::from([("version".to_owned(), "1.2".to_owned())]);
    let request = StartSessionRequest {
        client_name: "op-chat".into(),
        metadata: metadata.clone(),
        idle_timeout: Some(prost_types::Duration { seconds: 10, nanos: 0 }),
        ..StartSessionRequest::default()
    };
    let begun: StartSessionResponse =
        world.call(context(ALICE), "StartSession", &request).await.unwrap();
    let session = begun.session.unwrap();
    assert!(!begun.resumed && begun.token.len() == 32);
    assert_eq!((session.client_name.as_str(), session.uid), ("op-chat", ALICE));
    assert_eq!((session.metadata.clone(), session.transport.as_str()), (metadata, "grpc"));
    let path = format!("/org/opdbus/Agents1/session/1000/{}", session.id);
    assert_eq!((session.held, session.object_path.as_str()), (false, path.as_str()));
    let (used, expires) = (session.used_at.unwrap(), session.expires_at.unwrap());
    assert_eq!(expires.seconds - used.seconds, 10);
    let agent = &begun.agents[0];
    assert_eq!((agent.agent.as_str(), agent.state()), ("probe", AgentState::Running));
    assert!(agent.took.is_some());

    world.used(ALICE, &session.id, b"").await.unwrap();
    world.used(ALICE, &session.id, b"").await.unwrap();
    let session = world.get(ALICE, &session.id).await.unwrap();
    assert_eq!((session.calls, session.agents), (2, vec!["probe".to_owned()]));
    world.metric(r#"opdbus_active_sessions{transport="grpc"} 1"#);
    world.metric("opdbus_sessions_started_total 1");
}

#[tokio::test]
async fn another_users_session_is_as_one_that_is_not_there() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    let token = world.start(context(ALICE), "chat").await.unwrap().token;
    for (uid, id) in [(BOB, "chat"), (ALICE, "other")] {
        check_unknown(world.get(uid, id).await, id);
        check_unknown(world.end(uid, id).await, id);
        check_unknown(world.keep_alive(uid, id).await, id);
        check_unknown(world.used(uid, id, b"").await, id);
        check_unknown(world.resume(context(uid), id, &token).await, id);
    }
    world.metric(r#"opdbus_rejected_total{reason="unknown_session"} 2"#);
    // The same id is another session of another user.
    let other = world.start(context(BOB), "chat").await.unwrap();
    assert!(!other.resumed && other.token != token);
    world.end(BOB, "chat").await.unwrap();
    world.used(ALICE, "chat", b"").await.unwrap();
    assert_eq!(world.end(ALICE, "chat").await.unwrap().calls, 1);
    check_unknown(world.end(ALICE, "chat").await, "chat");
}

#[tokio::test]
async fn a_session_is_resumed_with_its_token_only() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    let begun = world.start(context(ALICE), "chat").await.unwrap();
    let error = world.start(context(ALICE), "chat").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    let wrong = "0".repeat(32);
    for token in [wrong.as_str(), "x", &begun.token[1..]] {
        let error = world.resume(context(ALICE), "chat", token).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AccessDenied, "{token}");
        assert!(!error.message().contains(&begun.token), "{error}");
    }
    let again = StartSessionRequest {
        client_name: "another name".into(),
        token: begun.token.clone(),
        ..request("chat")
    };
    let again: StartSessionResponse =
        world.call(context(ALICE), "StartSession", &again).await.unwrap();
    assert!(again.resumed && again.token == begun.token);
    let (before, after) = (begun.session.unwrap(), again.session.unwrap());
    assert_eq!((after.client_name.as_str(), after.started_at), ("another name", before.started_at));
    world.metric("opdbus_sessions_started_total 1");
}

#[tokio::test]
async fn wrong_requests_name_their_field() {
    let folder = folder();
    let world =
        World::new(folder.path(), Config { idle: Duration::from_secs(5), ..Config::default() });
    let good = || request("");
    let entries = |count: usize, value: &str| {
        (0..count).map(|number| (format!("name-{number}"), value.to_owned())).collect()
    };
    let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
    for (field, request) in [
        ("client_name", StartSessionRequest { client_name: String::new(), ..good() }),
        ("client_name", StartSessionRequest { client_name: "x".repeat(129), ..good() }),
        ("client_name", StartSessionRequest { client_name: "a\0b".into(), ..good() }),
        ("session_id", request(&"x".repeat(129))),
        ("session_id", request("a b")),
        ("session_id", request("a/b")),
        ("session_id", StartSessionRequest { token: "x".into(), ..good() }),
        ("metadata", StartSessionRequest { metadata: entries(33, ""), ..good() }),
        ("metadata", StartSessionRequest { metadata: entries(1, &"x".repeat(251)), ..good() }),
        ("metadata", StartSessionRequest { metadata: entries(1, "a\nb"), ..good() }),
        (
            "metadata",
            StartSessionRequest {
                metadata: BTreeMap::from([(String::new(), String::new())]),
                ..good()
            },
        ),
        ("idle_timeout", StartSessionRequest { idle_timeout: seconds(0), ..good() }),
        ("idle_timeout", StartSessionRequest { idle_timeout: seconds(-1), ..good() }),
        ("idle_timeout", StartSessionRequest { idle_timeout: seconds(6), ..good() }),
    ] {
        let outcome: Result<StartSessionResponse, _> =
            world.call(context(ALICE), "StartSession", &request).await;
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{request:?}");
        assert_eq!(error.fact("field"), Some(field), "{request:?}");
    }
    for operation in ["GetSession", "EndSession", "KeepAlive"] {
        let error = world.call::<()>(context(ALICE), operation, &()).await.unwrap_err();
        assert_eq!(error.fact("field"), Some("session_id"), "{operation}");
    }
    let largest = StartSessionRequest {
        client_name: "x".repeat(128),
        session_id: "x".repeat(128),
        metadata: entries(32, &"x".repeat(249)),
        idle_timeout: seconds(5),
        ..good()
    };
    world.call::<StartSessionResponse>(context(ALICE), "StartSession", &largest).await.unwrap();
}

#[tokio::test]
async fn the_list_gives_the_callers_sessions_page_by_page() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    let mut newest_first = Vec::new();
    for number in 0..7 {
        let id = format!("session.{number}");
        world.start(context(ALICE), &id).await.unwrap();
        newest_first.insert(0, id);
    }
    world.start(context(BOB), "session.0").await.unwrap();
    let list = async |page_size, page_token: String| {
        let request = ListSessionsRequest { page_size, page_token };
        world.call::<ListSessionsResponse>(context(ALICE), "ListSessions", &request).await
    };
    let (mut found, mut token) = (Vec::new(), String::new());
    for expected in [3, 3, 1] {
        let page = list(3, token).await.unwrap();
        assert_eq!(page.sessions.len(), expected);
        found.extend(page.sessions.into_iter().map(|session| session.id));
        token = page.next_page_token;
    }
    assert!(token.is_empty());
    let places = |id: &String| newest_first.iter().position(|other| other == id);
    assert_eq!(found.iter().collect::<HashSet<_>>().len(), 7);
    // Started within one microsecond, two sessions may stand either way.
    assert_eq!(places(&found[0]), Some(0), "{found:?}");
    assert_eq!(list(0, String::new()).await.unwrap().sessions.len(), 7);
    for (size, token, field) in [(1001, "", "page_size"), (1, "x", "page_token")] {
        let error = list(size, token.to_owned()).await.unwrap_err();
        assert_eq!(error.fact("field"), Some(field));
    }
}

#[tokio::test]
async fn a_session_whose_client_went_before_it_knew_of_it_is_taken_back() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    *world.source.warming.lock().unwrap() = Duration::from_secs(60);
    let starting = world.start(context(ALICE), "chat");
    assert!(tokio::time::timeout(Duration::from_millis(20), starting).await.is_err());
    check_unknown(world.get(ALICE, "chat").await, "chat");
    *world.source.warming.lock().unwrap() = Duration::ZERO;
    world.start(context(ALICE), "chat").await.unwrap();
    world.metric(r#"opdbus_active_sessions{transport="grpc"} 1"#);
}
