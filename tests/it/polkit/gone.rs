//! Where polkit is not there, goes away, or knows nothing of op-dbus: calls are refused, and the service
//! goes on.

use std::time::Instant;

use op_dbus::client::CallOptions;
use op_dbus::error::ErrorKind;

use super::mock::Says;
use crate::process::PATIENCE;

use super::{WAYS, World, interactive, refused};

#[tokio::test]
async fn without_polkit_its_calls_are_refused_until_it_comes() {
    let world = World::new("").await;
    for way in WAYS {
        for options in [CallOptions::default(), interactive()] {
            let outcome = world.call(way, &options).await;
            refused(outcome, ErrorKind::AccessDenied, "probe.Count is not allowed");
        }
    }
    world.daemon.wait_for_log("there is no polkit");
    let _mock = world.mock(Says::Yes).await;
    for way in WAYS {
        world.call(way, &CallOptions::default()).await.unwrap();
    }
    let log = world.daemon.stop();
    assert_eq!(log.matches("there is no polkit").count(), 1, "{log}");
    assert_eq!(log.matches("polkit answers").count(), 1, "{log}");
}

#[tokio::test]
async fn a_polkit_that_dies_in_the_middle_permits_nothing() {
    let world = World::new("").await;
    for way in WAYS {
        let dying = world.mock(Says::Dies).await;
        let outcome = world.call(way, &interactive()).await;
        refused(outcome, ErrorKind::BackendUnavailable, "polkit does not answer");
        drop(dying);
        let mock = world.mock(Says::Yes).await;
        world.call(way, &interactive()).await.unwrap();
        drop(mock);
    }
}

#[tokio::test]
async fn a_polkit_that_does_not_know_the_actions_permits_nothing() {
    let world = World::new("").await;
    let _mock = world.mock(Says::NotRegistered).await;
    for way in WAYS {
        let outcome = world.call(way, &CallOptions::default()).await;
        refused(outcome, ErrorKind::AccessDenied, "is not allowed");
    }
    world.daemon.wait_for_log("polkit does not decide on calls");
}

#[tokio::test]
async fn the_bus_of_polkit_may_come_back() {
    let mut world = World::new("").await;
    let mock = world.mock(Says::Yes).await;
    world.call(1, &CallOptions::default()).await.unwrap();
    drop(mock);
    world.daemon.bus.kill();
    let end = Instant::now() + PATIENCE;
    // A call that comes before the loss is seen is refused as well, but otherwise.
    loop {
        let failure = world.call(1, &CallOptions::default()).await.unwrap_err();
        if failure.kind == ErrorKind::AccessDenied {
            break;
        }
        assert_eq!(failure.kind, ErrorKind::BackendUnavailable, "{failure:?}");
        assert!(Instant::now() < end, "the loss is not seen");
    }
    world.daemon.wait_for_log("the bus of polkit cannot be reached");
    world.daemon.bus.restart();
    let _mock = world.mock(Says::Yes).await;
    world.call(1, &CallOptions::default()).await.unwrap();
}
