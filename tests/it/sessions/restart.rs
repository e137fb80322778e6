//! Sessions across a restart of the service, an orderly one and a kill.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use op_dbus::proto::opdbus::v1::{
    GetSessionRequest, GetSessionResponse, StartSessionRequest, StartSessionResponse,
};
use op_dbus::session::Config;

use crate::grpc::{Client, eventually};
use crate::process::{Daemon, Prepared};

use super::{
    ALICE, BOB, Hearing, Hears, World, check_unknown, context, folder, on_bus, request, scope,
};

/// Ends a world as the service does, and waits until its database is closed.
async fn stop(world: World) {
    world.executor.drain();
    world.sessions().record_all().await.unwrap();
    let sessions = Arc::downgrade(world.sessions());
    drop(world);
    eventually("the database is closed", async || sessions.strong_count() == 0).await;
}

/// What a kill would leave of `folder` in another one.
fn killed(folder: &Path) -> tempfile::TempDir {
    let copy = super::folder();
    for name in ["sessions.db", "sessions.db-wal"] {
        fs::copy(folder.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[tokio::test]
async fn sessions_go_on_after_a_restart() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    let said = StartSessionRequest {
        metadata: [("a".to_owned(), "ä \"b\"".to_owned())].into(),
        idle_timeout: Some(prost_types::Duration { seconds: 100, nanos: 0 }),
        ..request("said")
    };
    let begun: StartSessionResponse =
        world.call(context(ALICE), "StartSession", &said).await.unwrap();
    let held = world.start(on_bus(ALICE, ":1.1"), "held").await.unwrap();
    world.start(context(BOB), "ended").await.unwrap();
    for _ in 0..3 {
        world.used(ALICE, "said", b"").await.unwrap();
    }
    world.end(BOB, "ended").await.unwrap();
    let before = world.get(ALICE, "said").await.unwrap();
    stop(world).await;

    let world = World::new(folder.path(), Config::default());
    let after = world.get(ALICE, "said").await.unwrap();
    assert_eq!(after.metadata, said.metadata);
    assert_eq!((after.client_name, after.started_at), (before.client_name, before.started_at));
    assert_eq!((after.calls, after.agents, after.held), (3, vec!["probe".to_owned()], false));
    // It has its idle time, counted from the restart, and what was held has its grace.
    let left = after.expires_at.unwrap().seconds - after.used_at.unwrap().seconds;
    assert_eq!(left, 100);
    let bus = world.get(ALICE, "held").await.unwrap();
    assert_eq!((bus.transport.as_str(), bus.held), ("dbus", false));
    assert_eq!(bus.expires_at.unwrap().seconds - bus.used_at.unwrap().seconds, 60);
    check_unknown(world.get(BOB, "ended").await, "ended");
    world.metric(r#"opdbus_active_sessions{transport="dbus"} 1"#);
    world.metric(r#"opdbus_active_sessions{transport="grpc"} 1"#);
    world.metric("opdbus_sessions_started_total 0");

    world.used(ALICE, "said", b"").await.unwrap();
    assert!(world.resume(context(ALICE), "said", &begun.token).await.unwrap().resumed);
    let resumed = world.resume(on_bus(ALICE, ":1.7"), "held", &held.token).await.unwrap();
    assert!(resumed.session.unwrap().held);
}

#[tokio::test]
async fn agents_are_told_of_sessions_that_run_out_after_a_restart() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    world.start(on_bus(ALICE, ":1.1"), "chat").await.unwrap();
    world.used(ALICE, "chat", b"").await.unwrap();
    stop(world).await;
    let world =
        World::new(folder.path(), Config { grace: Duration::from_millis(20), ..Config::default() });
    assert_eq!(world.heard(1).await, [scope(ALICE, "chat")]);
    assert!(!world.is_there(ALICE, "chat"));
    stop(world).await;
    // Once is enough.
    let world = World::new(folder.path(), Config::default());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(world.agent.heard.lock().unwrap().is_empty());
    assert!(!world.is_there(ALICE, "chat"));
}

#[tokio::test]
async fn agents_are_told_what_a_kill_kept_from_them() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    world.agent.script.lock().unwrap().push_back(Hears::Never);
    world.start(context(ALICE), "chat").await.unwrap();
    world.start(context(ALICE), "other").await.unwrap();
    world.used(ALICE, "chat", b"").await.unwrap();
    world.end(ALICE, "chat").await.unwrap();
    world.heard(1).await;
    world.sessions().record().await.unwrap();
    let copy = killed(folder.path());

    let agent = Arc::new(Hearing::default());
    let world = World::hearing(copy.path(), Config::default(), Arc::clone(&agent));
    assert!(world.is_there(ALICE, "other") && !world.is_there(ALICE, "chat"));
    assert_eq!(world.heard(1).await, [scope(ALICE, "chat")]);
    // Its id is free.
    world.start(context(ALICE), "chat").await.unwrap();
}

#[tokio::test]
async fn what_is_there_is_recorded_without_anybody_waiting() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    let begun = world.start(context(ALICE), "chat").await.unwrap();
    let rows = || {
        let database = rusqlite::Connection::open(folder.path().join("sessions.db")).unwrap();
        let count = database.query_row("SELECT count(*) FROM session", [], |row| row.get(0));
        count.unwrap_or(0_i64)
    };
    eventually("it is recorded", async || rows() == 1).await;
    let copy = killed(folder.path());
    world.end(ALICE, "chat").await.unwrap();
    eventually("its record is gone", async || rows() == 0).await;
    let world = World::new(copy.path(), Config::default());
    world.resume(context(ALICE), "chat", &begun.token).await.unwrap();
}

#[tokio::test]
async fn the_daemon_records_its_sessions_before_it_ends() {
    const START: &str = "/opdbus.v1.SessionsService/StartSession";
    const GET: &str = "/opdbus.v1.SessionsService/GetSession";
    let state = folder();
    let config = format!("[storage]\npath = {:?}\n", state.path().join("state"));
    let daemon = Daemon::start(&config);
    let client = Client::unix(&daemon.grpc_socket()).await;
    let begun: StartSessionResponse = client.call(START, request("chat")).await.unwrap();
    drop(client);
    daemon.stop();
    let daemon = Prepared::new(&config).start();
    let client = Client::unix(&daemon.grpc_socket()).await;
    let request = GetSessionRequest { session_id: "chat".into() };
    let found: GetSessionResponse = client.call(GET, request).await.unwrap();
    assert_eq!(found.session.unwrap().started_at, begun.session.unwrap().started_at);
}
