//! Who hears of the end of a session: its agents, behind the caller's back, and its tasks.

use std::time::Duration;

use bytes::Bytes;
use op_dbus::call::{Context, OnDisconnect};
use op_dbus::executor::Input;
use op_dbus::session::Config;
use op_dbus::task::State;

use crate::grpc::eventually;

use super::{ALICE, BOB, Hears, World, check_unknown, context, folder, scope};

#[tokio::test]
async fn the_agents_that_were_used_are_told_once() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    for id in ["used", "unused"] {
        world.start(context(ALICE), id).await.unwrap();
    }
    world.start(context(BOB), "used").await.unwrap();
    world.used(ALICE, "used", b"").await.unwrap();
    world.end(ALICE, "unused").await.unwrap();
    world.end(BOB, "used").await.unwrap();
    let session = world.end(ALICE, "used").await.unwrap();
    assert_eq!(session.agents, ["probe"]);
    assert_eq!(world.heard(1).await, [scope(ALICE, "used")]);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(world.heard(1).await.len(), 1);
    world.metric(r#"opdbus_sessions_ended_total{reason="asked"} 3"#);
}

#[tokio::test(start_paused = true)]
async fn an_agent_that_could_not_hear_is_told_again() {
    for hears in [Hears::Fails, Hears::Panics, Hears::Never] {
        let folder = folder();
        let world = World::new(folder.path(), Config::default());
        world.agent.script.lock().unwrap().extend([hears, Hears::Well]);
        world.start(context(ALICE), "chat").await.unwrap();
        world.used(ALICE, "chat", b"").await.unwrap();
        world.end(ALICE, "chat").await.unwrap();
        // An agent that does not answer is waited for so long.
        tokio::time::sleep(Duration::from_secs(10)).await;
        assert_eq!(world.heard(2).await.len(), 2, "{hears:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_id_is_free_when_the_agents_have_forgotten_what_it_was_for() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    world.agent.script.lock().unwrap().extend([Hears::Fails, Hears::Fails]);
    world.start(context(ALICE), "chat").await.unwrap();
    world.used(ALICE, "chat", b"").await.unwrap();
    world.end(ALICE, "chat").await.unwrap();
    check_unknown(world.get(ALICE, "chat").await, "chat");
    let begun = world.start(context(ALICE), "chat").await.unwrap();
    assert!(!begun.resumed);
    // Told twice in vain; then the id is free all the same.
    assert_eq!(world.heard(2).await.len(), 2);
}

#[tokio::test]
async fn agents_are_told_when_the_last_call_of_the_session_has_left() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    world.start(context(ALICE), "chat").await.unwrap();
    let mut running = Box::pin(world.used(ALICE, "chat", b"wait"));
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut running).await.is_err());
    world.end(ALICE, "chat").await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(world.agent.heard.lock().unwrap().is_empty());
    drop(running);
    assert_eq!(world.heard(1).await, [scope(ALICE, "chat")]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_does_not_leave_does_not_keep_agents_from_hearing() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    world.start(context(ALICE), "chat").await.unwrap();
    let mut running = Box::pin(world.used(ALICE, "chat", b"wait"));
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut running).await.is_err());
    world.end(ALICE, "chat").await.unwrap();
    let told = tokio::time::timeout(Duration::from_secs(6), world.heard(1)).await.unwrap();
    assert_eq!(told, [scope(ALICE, "chat")]);
    drop(running);
}

#[tokio::test]
async fn tasks_that_end_with_their_client_end_with_the_session() {
    let folder = folder();
    let world = World::new(folder.path(), Config::default());
    world.start(context(ALICE), "chat").await.unwrap();
    world.start(context(BOB), "chat").await.unwrap();
    let route = world.executor.find("probe", "Generate").unwrap();
    let start = async |uid, session: Option<&str>, on_disconnect| {
        let session = session.map(Into::into);
        let context = Context { session, on_disconnect: Some(on_disconnect), ..context(uid) };
        let input = Input::One(Bytes::new());
        world.executor.start(&route, context, input).await.unwrap()
    };
    let cancelled = start(ALICE, Some("chat"), OnDisconnect::Cancel).await;
    let going_on = [
        start(ALICE, Some("chat"), OnDisconnect::Continue).await,
        start(ALICE, None, OnDisconnect::Cancel).await,
        start(BOB, Some("chat"), OnDisconnect::Cancel).await,
    ];
    eventually("it works", async || cancelled.state() == State::Working).await;
    world.end(ALICE, "chat").await.unwrap();
    eventually("it is cancelled", async || cancelled.state() == State::Cancelled).await;
    assert!(going_on.iter().all(|task| !task.state().is_final()));
}
