//! How long a session lives: while something holds it, for a grace after that, and for its idle time
//! if nothing ever did. Time is the test's own.

use std::time::Duration;

use op_dbus::call::Transport;
use op_dbus::proto::opdbus::v1::{StartSessionRequest, StartSessionResponse};
use op_dbus::session::{Change, Config};
use tokio::time::advance;

use super::{ALICE, BOB, World, context, folder, on_bus, request, scope};

fn config() -> Config {
    Config { idle: Duration::from_secs(100), grace: Duration::from_secs(10), ..Config::default() }
}

async fn pass(seconds: u64) {
    advance(Duration::from_secs(seconds)).await;
    // The keeper looks when its timer has fired.
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_nothing_holds_ends_when_it_was_not_used() {
    let folder = folder();
    let world = World::new(folder.path(), config());
    world.start(context(ALICE), "used").await.unwrap();
    world.start(context(ALICE), "kept").await.unwrap();
    world.start(context(ALICE), "idle").await.unwrap();
    let short = StartSessionRequest {
        idle_timeout: Some(prost_types::Duration { seconds: 20, nanos: 0 }),
        ..request("short")
    };
    world.call::<StartSessionResponse>(context(ALICE), "StartSession", &short).await.unwrap();
    pass(19).await;
    assert!(world.is_there(ALICE, "short"));
    pass(2).await;
    assert!(!world.is_there(ALICE, "short"));
    pass(70).await;
    world.used(ALICE, "used", b"").await.unwrap();
    let expires = world.keep_alive(ALICE, "kept").await.unwrap().expires_at.unwrap();
    assert_eq!(
        Some(expires.seconds),
        world.get(ALICE, "kept").await.unwrap().expires_at.map(|at| at.seconds)
    );
    pass(10).await;
    let there = ["used", "kept", "idle"].map(|id| world.is_there(ALICE, id));
    assert_eq!(there, [true, true, false]);
    pass(91).await;
    assert!(!world.is_there(ALICE, "used") && !world.is_there(ALICE, "kept"));
    world.metric(r#"opdbus_sessions_ended_total{reason="idle"} 4"#);
    world.metric(r#"opdbus_active_sessions{transport="grpc"} 0"#);
}

#[tokio::test(start_paused = true)]
async fn a_bus_connection_holds_what_it_started_until_it_goes() {
    let folder = folder();
    let world = World::new(folder.path(), config());
    let mut changes = world.sessions().changes();
    let begun = world.start(on_bus(ALICE, ":1.42"), "chat").await.unwrap();
    world.start(on_bus(BOB, ":1.43"), "chat").await.unwrap();
    let session = begun.session.unwrap();
    assert!(session.held && session.expires_at.is_none());
    assert_eq!(session.transport, "dbus");
    pass(1000).await;
    assert!(world.is_there(ALICE, "chat"));
    world.metric(r#"opdbus_active_sessions{transport="dbus"} 2"#);

    // Another client's going, or the same address elsewhere, is nothing to it.
    world.executor.client_gone(Transport::Dbus, ":1.4");
    world.executor.client_gone(Transport::Grpc, ":1.42");
    assert!(world.get(ALICE, "chat").await.unwrap().held);
    world.executor.client_gone(Transport::Dbus, ":1.42");
    let session = world.get(ALICE, "chat").await.unwrap();
    assert!(!session.held && session.expires_at.is_some());
    assert!(world.get(BOB, "chat").await.unwrap().held);

    // In the grace, use keeps it, and the token brings it back.
    pass(9).await;
    world.used(ALICE, "chat", b"").await.unwrap();
    pass(9).await;
    let again = world.resume(on_bus(ALICE, ":1.44"), "chat", &begun.token).await.unwrap();
    assert!(again.resumed && again.session.unwrap().held);
    pass(1000).await;
    world.executor.client_gone(Transport::Dbus, ":1.44");
    pass(11).await;
    assert!(!world.is_there(ALICE, "chat") && world.is_there(BOB, "chat"));
    world.metric(r#"opdbus_sessions_ended_total{reason="disconnected"} 1"#);

    let mut told = Vec::new();
    while let Ok(change) = changes.try_recv() {
        told.push(change);
    }
    assert_eq!(told[0], Change::Started(scope(ALICE, "chat")));
    let ended = Change::Ended {
        scope: scope(ALICE, "chat"),
        reason: op_dbus::metrics::SessionEnd::Disconnected,
        clients: Vec::new(),
    };
    assert_eq!(told.last(), Some(&ended));
    assert!(told.contains(&Change::Changed(scope(ALICE, "chat"))));
}

#[tokio::test(start_paused = true)]
async fn two_connections_hold_it_until_both_are_gone() {
    let folder = folder();
    let world = World::new(folder.path(), config());
    let begun = world.start(on_bus(ALICE, ":1.1"), "chat").await.unwrap();
    world.resume(on_bus(ALICE, ":1.2"), "chat", &begun.token).await.unwrap();
    // Twice on the same connection is once.
    world.resume(on_bus(ALICE, ":1.2"), "chat", &begun.token).await.unwrap();
    world.executor.client_gone(Transport::Dbus, ":1.1");
    pass(1000).await;
    assert!(world.get(ALICE, "chat").await.unwrap().held);
    world.executor.client_gone(Transport::Dbus, ":1.2");
    pass(11).await;
    assert!(!world.is_there(ALICE, "chat"));
}

#[tokio::test(start_paused = true)]
async fn resumed_without_a_connection_it_has_its_idle_time_again() {
    let folder = folder();
    let world = World::new(folder.path(), config());
    let begun = world.start(on_bus(ALICE, ":1.1"), "chat").await.unwrap();
    world.executor.client_gone(Transport::Dbus, ":1.1");
    world.resume(context(ALICE), "chat", &begun.token).await.unwrap();
    pass(99).await;
    assert!(world.is_there(ALICE, "chat"));
    pass(2).await;
    assert!(!world.is_there(ALICE, "chat"));
}

#[tokio::test(start_paused = true)]
async fn a_shorter_grace_holds_at_once() {
    let folder = folder();
    let world = World::new(folder.path(), config());
    world.start(on_bus(ALICE, ":1.1"), "chat").await.unwrap();
    world.executor.client_gone(Transport::Dbus, ":1.1");
    world.sessions().reconfigure(Config { grace: Duration::from_secs(3), ..config() });
    pass(4).await;
    assert!(!world.is_there(ALICE, "chat"));
    // Without any grace a session ends with its connection.
    world.sessions().reconfigure(Config { grace: Duration::ZERO, ..config() });
    world.start(on_bus(ALICE, ":1.1"), "chat").await.unwrap();
    pass(1).await;
    assert!(world.is_there(ALICE, "chat"));
    world.executor.client_gone(Transport::Dbus, ":1.1");
    pass(0).await;
    assert!(!world.is_there(ALICE, "chat"));
}

#[tokio::test(start_paused = true)]
async fn a_session_in_which_a_call_runs_does_not_run_out() {
    let folder = folder();
    let idle = Duration::from_secs(20);
    let world = World::new(folder.path(), Config { idle, ..config() });
    world.start(context(ALICE), "chat").await.unwrap();
    let running = world.used(ALICE, "chat", b"wait");
    let passing = async {
        pass(21).await;
        pass(21).await;
        assert!(world.is_there(ALICE, "chat"));
        pass(21).await;
    };
    let (done, ()) = tokio::join!(running, passing);
    done.unwrap();
    // Its time begins when the call has left.
    pass(19).await;
    assert!(world.is_there(ALICE, "chat"));
    pass(2).await;
    assert!(!world.is_there(ALICE, "chat"));
}
