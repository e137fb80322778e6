//! Coming, going, and losing the bus or a client.

use std::time::Duration;

use op_dbus::executor::Config;
use op_dbus::task::State;
use zbus::message::Message;

use super::{MANAGER, NAME, Options, PROBE, World, call, connect, failed, none, start, with};
use crate::fixture::{Bus, Service, denying};
use crate::grpc::eventually;

#[tokio::test]
async fn a_client_that_vanishes_ends_its_calls() {
    let world = World::new().await;
    let other = connect(&world.bus).await;
    let message = Message::method_call(PROBE, "Sleep")
        .destination(NAME)
        .build(&(60_000_000_i64, none()))
        .unwrap();
    other.send(&message).await.unwrap();
    let running = "opdbus_calls_in_flight{agent=\"probe\",interface=\"own\",operation=\"Sleep\",transport=\"dbus\"} 1";
    eventually("the call runs", async || world.metrics().contains(running)).await;
    other.close().await.unwrap();
    let cancelled = "opdbus_calls_total{agent=\"probe\",interface=\"own\",operation=\"Sleep\",outcome=\"cancelled\",transport=\"dbus\"} 1";
    eventually("the call is cancelled", async || world.metrics().contains(cancelled)).await;
}

#[tokio::test]
async fn a_second_service_on_the_same_name_fails_to_start() {
    let world = World::new().await;
    let second = Service::new(Config::default());
    let error = start(&world.bus, &second).await.err().unwrap();
    assert_eq!(error.kind(), op_dbus::error::ErrorKind::AlreadyExists);
    assert!(error.message().contains(NAME), "{error}");
    world.probe("Count", &none()).await.unwrap();
}

#[tokio::test]
async fn a_bus_that_is_not_there_is_an_error() {
    let mut bus = Bus::start();
    bus.kill();
    let error = start(&bus, &Service::new(Config::default())).await.err().unwrap();
    assert_eq!(error.kind(), op_dbus::error::ErrorKind::Unavailable);
    assert!(error.message().contains(&bus.address), "{error}");
}

#[tokio::test]
async fn a_lost_bus_is_found_again() {
    let mut world = World::new().await;
    world.bus.kill();
    let up = || world.service.status.report().transports[0].serving;
    eventually("the loss is noted", async || !up()).await;
    assert!(world.metrics().contains("opdbus_transport_up{transport=\"dbus\"} 0"));
    world.bus.restart();
    eventually("it is served again", async || world.service.status.report().transports[0].serving)
        .await;
    assert!(world.metrics().contains("opdbus_dbus_reconnects_total 1"));
    assert!(world.metrics().contains("opdbus_transport_up{transport=\"dbus\"} 1"));
    assert_eq!(world.service.status.report().transports[0].reconnects, 1);
    let client = connect(&world.bus).await;
    call(&client, PROBE, None, "Count", &none()).await.unwrap();
}

#[tokio::test]
async fn a_lost_bus_ends_what_its_clients_want_to_end_with_them() {
    let mut world = World::new().await;
    let start = async |choice: &'static str| {
        let mut options = with("on_disconnect", choice);
        options.insert("arguments", r#"{"duration": "60s"}"#.into());
        let body = ("probe", "sleep", options);
        let reply = world.call(MANAGER, Some("org.opdbus.Calls1"), "StartCall", &body).await;
        let reply = reply.unwrap();
        let body = reply.body();
        let (task, _): (Options<'_>, Options<'_>) = body.deserialize().unwrap();
        let id = String::try_from(task["id"].try_clone().unwrap()).unwrap();
        world.service.executor.tasks().find(&id, super::tasks::me()).unwrap()
    };
    let (going, ending) = (start("continue").await, start("cancel").await);
    world.bus.kill();
    eventually("one is cancelled", async || ending.state() == State::Cancelled).await;
    assert_eq!(going.state(), State::Working);
}

#[tokio::test]
async fn a_stop_gives_the_name_back_and_lets_replies_leave() {
    let mut world = World::new().await;
    let server = world.server.take().unwrap();
    let body = (200_000_i64, none());
    let sleeping = world.probe("Sleep", &body);
    let stop = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        server.stop().await;
    };
    let (reply, ()) = tokio::join!(sleeping, stop);
    reply.unwrap();
    let reply = world.probe("Count", &none()).await;
    failed(reply, "org.freedesktop.DBus.Error.ServiceUnknown");
    // The name is free for the next one.
    start(&world.bus, &world.service).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_policy_that_refuses_the_name_is_explained() {
    let bus = Bus::start_with(
        "<policy context=\"mandatory\"><deny own=\"org.opdbus.Agents1\"/></policy>",
    );
    let error = start(&bus, &Service::new(Config::default())).await.err().unwrap();
    assert_eq!(error.kind(), op_dbus::error::ErrorKind::AccessDenied);
    assert!(error.message().contains("org.opdbus.Agents1.conf"), "{error}");
}

#[tokio::test]
async fn new_routes_are_served_without_a_restart() {
    let world = World::new().await;
    world.probe("Count", &none()).await.unwrap();
    world.service.executor.reconfigure(denying());
    failed(world.probe("Count", &none()).await, "org.opdbus.Error.AccessDenied");
    world.service.executor.reconfigure(Config::default());
    world.probe("Count", &none()).await.unwrap();
}
