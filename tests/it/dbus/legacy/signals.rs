//! The signals: who hears of a task that has ended, and of an agent that does something else.

use std::time::Duration;

use op_dbus::daemon::compose::Starts;
use op_dbus::executor::Config;
use zbus::message::{Flags, Message, Type};

use super::super::watch::Watch;
use super::super::{World, connect, serve};
use super::{INTERFACE, ask, bus_name, memory, path};
use crate::fixture::{Bus, Service};

/// Has the bus pass on whatever an older agent sends to everybody.
async fn hear(client: &zbus::Connection, agent: &str) {
    let rule = format!("type='signal',path='{}'", path(agent));
    let bus = "org.freedesktop.DBus";
    client
        .call_method(Some(bus), "/org/freedesktop/DBus", Some(bus), "AddMatch", &rule)
        .await
        .unwrap();
}

/// The next signal of that name.
async fn signal(watch: &mut Watch, agent: &str, name: &str) -> Message {
    loop {
        let (found, message) = watch.signal(&path(agent)).await;
        if found == name {
            return message;
        }
    }
}

#[tokio::test]
async fn the_caller_hears_of_his_task_and_nobody_else_does() {
    let world = World::new().await;
    let other = connect(&world.bus).await;
    for client in [&world.client, &other] {
        hear(client, "Memory").await;
    }
    let (mut own, mut others) = (Watch::new(&world.client), Watch::new(&other));
    let result = world.operate("Memory", "remember", "secret", "of mine").await;
    let completed = signal(&mut own, "Memory", "TaskCompleted").await;
    assert_eq!(completed.header().interface().unwrap().as_str(), INTERFACE);
    assert!(completed.header().destination().is_some(), "it is for one client");
    let body = completed.body();
    assert_eq!(body.signature().to_string_no_parens(), "sbs");
    let (id, success, json): (&str, bool, &str) = body.deserialize().unwrap();
    assert!(success);
    assert_eq!(result["metadata"]["task_id"], id);
    assert_eq!(result.to_string(), json);

    let failed = world.operate("Memory", "recall", "nothing", "").await;
    let completed = signal(&mut own, "Memory", "TaskCompleted").await;
    let body = completed.body();
    let (id, success, _): (&str, bool, &str) = body.deserialize().unwrap();
    assert!(!success);
    assert_eq!(failed["metadata"]["task_id"], id);

    // What the other one hears first is of a task of its own.
    let task = memory("recall", "secret", "").to_string();
    ask(&other, "Memory", false, "Execute", &task).await.unwrap();
    let first = signal(&mut others, "Memory", "TaskCompleted").await;
    let own_name = other.unique_name().unwrap().as_str();
    assert_eq!(first.header().destination().unwrap().as_str(), own_name);
    let body = first.body();
    let (_, _, json): (&str, bool, &str) = body.deserialize().unwrap();
    assert!(json.contains("Recalled (exact)"), "{json}");
}

#[tokio::test]
async fn the_first_generation_has_a_signal_of_its_own() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let task = memory("remember", "a", "1").to_string();
    let reply = ask(&world.client, "Memory", true, "Execute", &task).await.unwrap();
    let completed = signal(&mut watch, "Memory", "TaskCompleted").await;
    assert_eq!(completed.header().interface().unwrap().as_str(), bus_name("Memory"));
    let json: String = completed.body().deserialize().unwrap();
    assert_eq!(json, reply.body().deserialize::<String>().unwrap());
}

#[tokio::test]
async fn who_wants_no_reply_gets_the_signal_alone() {
    let world = World::new().await;
    let mut watch = Watch::new(&world.client);
    let call = Message::method_call(path("Memory"), "RunOperation")
        .destination(bus_name("Memory"))
        .interface(INTERFACE)
        .with_flags(Flags::NO_REPLY_EXPECTED)
        .build(&("remember", "a", "1"))
        .unwrap();
    world.client.send(&call).await.unwrap();
    let (name, _) = watch.signal(&path("Memory")).await;
    assert_eq!(name, "TaskCompleted");
    let ping = Message::method_call(path("Memory"), "Ping")
        .destination(bus_name("Memory"))
        .interface(INTERFACE)
        .build(&())
        .unwrap();
    world.client.send(&ping).await.unwrap();
    let reply = watch.next().await;
    assert_eq!(reply.message_type(), Type::MethodReturn);
    assert_eq!(reply.header().reply_serial(), Some(ping.primary_header().serial_num()));
}

#[tokio::test]
async fn everybody_hears_when_an_agent_does_something_else() {
    let bus = Bus::start();
    let starts = Starts {
        at_first_call: vec!["memory".into()],
        idle_stop: Some(Duration::from_millis(200)),
        ..Starts::default()
    };
    let service = Service::starting(Config::default(), &starts, tempfile::tempdir().unwrap());
    let server = serve(&bus, &service.executor, &service.status).await.unwrap();
    let client = connect(&bus).await;
    let world = World { bus, service, server: Some(server), client };
    let other = connect(&world.bus).await;
    hear(&other, "Memory").await;
    let mut watch = Watch::new(&other);
    let status = async || {
        let reply = ask(&world.client, "Memory", false, "Status", &()).await.unwrap();
        reply.body().deserialize::<String>().unwrap()
    };
    assert_eq!(status().await, "Memory is stopped");
    world.data("Memory", "remember", "a", "1").await;
    let mut told = Vec::new();
    while told.last().is_none_or(|last| last != "Memory is stopped") {
        let changed = signal(&mut watch, "Memory", "StatusChanged").await;
        assert!(changed.header().destination().is_none(), "it is for everybody");
        told.push(changed.body().deserialize::<String>().unwrap());
    }
    assert_eq!(told.first().map(String::as_str), Some("Memory is starting"));
    assert!(told.contains(&"Memory is running".to_owned()), "{told:?}");
    assert_eq!(status().await, "Memory is stopped");
}
