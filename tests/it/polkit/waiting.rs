//! Questions that wait: for how long, how many of them, and what becomes of them when nobody wants the
//! answer any more.

use std::time::Duration;

use op_dbus::client::CallOptions;
use op_dbus::error::ErrorKind;
use serde_json::json;

use super::mock::Says;
use super::{WAYS, World, call, client, interactive, refused};

/// An interactive call that waits no longer than this.
fn within(milliseconds: u64) -> CallOptions {
    CallOptions { timeout: Some(Duration::from_millis(milliseconds)), ..interactive() }
}

#[tokio::test]
async fn a_slow_polkit_is_not_waited_for() {
    let world = World::new("timeout_ms = 100").await;
    let mock = world.mock(Says::Nothing).await;
    for way in WAYS {
        let outcome = world.call(way, &CallOptions::default()).await;
        refused(outcome, ErrorKind::BackendUnavailable, "did not answer within 100 ms");
        mock.cancelled(&mock.next().await.id).await;
        // With somebody to ask it may take as long as the call.
        let outcome = world.call(way, &within(400)).await;
        // The client over gRPC has a clock of its own, which may be faster.
        refused(outcome, ErrorKind::DeadlineExceeded, "");
        mock.cancelled(&mock.next().await.id).await;
        // What only reads does not wait for it.
        call(&world.clients[way], "Nothing", json!({}), &CallOptions::default()).await.unwrap();
        assert!(mock.asked().is_empty());
    }
}

#[tokio::test]
async fn a_question_is_taken_back_when_its_client_goes() {
    let world = World::new("").await;
    let mock = world.mock(Says::Nothing).await;
    for way in WAYS {
        let client = client(&world.daemon, way).await;
        let options = interactive();
        let waiting = call(&client, "Count", json!({}), &options);
        let asked = tokio::select! {
            outcome = waiting => panic!("nobody has answered: {outcome:?}"),
            asked = mock.next() => asked,
        };
        drop(client);
        mock.cancelled(&asked.id).await;
    }
}

#[tokio::test]
async fn one_user_has_so_many_questions_at_once() {
    let world = World::new("max_questions_per_caller = 1").await;
    let mock = world.mock(Says::Nothing).await;
    let options = interactive();
    let first = world.call(0, &options);
    let rest = async {
        let asked = mock.next().await;
        let outcome = world.call(1, &CallOptions::default()).await;
        refused(outcome, ErrorKind::LimitExceeded, "polkit.max_questions_per_caller is 1");
        asked
    };
    tokio::select! {
        outcome = first => panic!("nobody has answered: {outcome:?}"),
        _ = rest => {}
    }
    assert!(mock.asked().is_empty());
}
