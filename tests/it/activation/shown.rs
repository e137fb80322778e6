//! What is told of the states: in the list, by the watch, on both transports and by the command.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use op_dbus::agents::Start;
use op_dbus::error::{Error, ErrorKind};
use op_dbus::host::State;
use op_dbus::proto::opdbus::v1::AgentState;
use op_dbus::status::Status;
use op_dbus::task::Event;
use op_dbus::testing::probe;
use op_dbus::transport::grpc;
use serde_json::{Value, json};
use tokio_stream::StreamExt as _;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{World, in_time, listed, told, until, watch};
use crate::ctl::{command, stdout};
use crate::grpc::{config, place};
use crate::process::{Daemon, Prepared};

#[tokio::test]
async fn a_watch_begins_with_what_is_and_tells_every_change() {
    let world =
        World::new(Start::AtFirstCall, Some(Duration::from_millis(150)), |number| match number {
            1 => Err(Error::new(ErrorKind::BackendFailed, "the well is dry")),
            _ => Ok(probe()),
        });
    let mut watch = watch(&world.executor, &["probe"]).await;
    let first = told(&mut watch).await;
    assert_eq!((first.agent.as_str(), first.state()), ("probe", AgentState::Stopped));

    let error = world.count().await.unwrap_err();
    assert_eq!(told(&mut watch).await.state(), AgentState::Starting);
    let failed = told(&mut watch).await;
    assert_eq!(failed.state(), AgentState::Failed);
    assert!(failed.reason.contains("the well is dry; it is tried again"), "{}", failed.reason);
    let agents = listed(&world.executor).await.agents;
    assert_eq!(agents[0].state(), AgentState::Failed);
    assert!(agents[0].state_reason.contains("the well is dry"), "{agents:?}");

    tokio::time::sleep(error.retry_after().unwrap()).await;
    let sleep = world.sleep(300);
    assert_eq!(told(&mut watch).await.state(), AgentState::Starting);
    let running = told(&mut watch).await;
    assert_eq!((running.state(), running.took.is_some()), (AgentState::Running, true));
    assert_eq!(told(&mut watch).await.state(), AgentState::Busy);
    assert_eq!(listed(&world.executor).await.agents[0].state(), AgentState::Busy);
    in_time(sleep).await.unwrap().unwrap();
    for state in [AgentState::Running, AgentState::Stopping, AgentState::Stopped] {
        let change = told(&mut watch).await;
        assert_eq!((change.state(), change.took, change.reason.as_str()), (state, None, ""));
    }
}

#[tokio::test]
async fn a_watch_of_an_unknown_agent_ends_at_once() {
    let world = World::new(Start::AtFirstCall, None, |_| Ok(probe()));
    let mut watch = watch(&world.executor, &["probe", "nobody"]).await;
    match in_time(watch.next()).await {
        Some(Event::Ended(Err(error))) => assert_eq!(error.kind(), ErrorKind::UnknownAgent),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_service_is_not_well_until_its_failed_agent_has_started() {
    let works = Arc::new(AtomicBool::new(false));
    let may = Arc::clone(&works);
    let world = World::new(Start::AtFirstCall, None, move |_| {
        let dry = || Error::new(ErrorKind::BackendFailed, "the well is dry");
        may.load(Ordering::SeqCst).then(probe).ok_or_else(dry)
    });
    let (_folder, path) = place();
    let status = Arc::new(Status::default());
    let _server = grpc::start(config(&path), Arc::clone(&world.executor), status).await.unwrap();
    let channel = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
    let mut health = HealthClient::new(channel.connect().await.unwrap());
    let of = |service: &str| HealthCheckRequest { service: service.into() };
    let probe = "opdbus.agent.probe.v1.ProbeService";
    let mut watch = health.watch(of(probe)).await.unwrap().into_inner();
    let mut next = async || in_time(watch.next()).await.unwrap().unwrap().status();
    assert_eq!(next().await, ServingStatus::Serving);

    world.count().await.unwrap_err();
    assert_eq!(next().await, ServingStatus::NotServing);
    let checked = health.check(of(probe)).await.unwrap().into_inner();
    assert_eq!(checked.status(), ServingStatus::NotServing);
    // The service as a whole is.
    let checked = health.check(of("")).await.unwrap().into_inner();
    assert_eq!(checked.status(), ServingStatus::Serving);

    // Tried again in vain, it is not well for a moment in between.
    tokio::time::sleep(world.count().await.unwrap_err().retry_after().unwrap()).await;
    let again = world.count().await.unwrap_err();
    assert_eq!(world.builds(), 2);
    works.store(true, Ordering::SeqCst);
    tokio::time::sleep(again.retry_after().unwrap()).await;
    world.count().await.unwrap();
    assert_eq!(next().await, ServingStatus::Serving);
    assert!(tokio::time::timeout(Duration::from_millis(50), watch.next()).await.is_err());
}

#[tokio::test]
async fn ten_thousand_short_calls_make_few_changes() {
    let world = World::new(Start::AtFirstCall, None, |_| Ok(probe()));
    let mut changes = world.registry().changes();
    world.count().await.unwrap();
    until(&mut changes, State::Running).await;
    let begun = std::time::Instant::now();
    for _ in 0..10_000 {
        world.count().await.unwrap();
        tokio::task::yield_now().await;
    }
    let most = 4 + begun.elapsed().as_millis() / 100;
    let mut told = 0;
    while tokio::time::timeout(Duration::from_millis(300), changes.next()).await.is_ok() {
        told += 1;
    }
    assert!(told <= most, "{told} changes, at most {most} are allowed");
}

/// Runs op-dbusctl against `daemon`.
fn run(daemon: &Daemon, via: &str, words: &[&str]) -> std::process::Output {
    let socket = daemon.grpc_socket().display().to_string();
    let places = ["--address", &socket, "--bus", &daemon.bus.address, "--via", via];
    command().args(places).args(words).output().unwrap()
}

#[test]
fn both_transports_and_the_command_show_the_states() {
    let prepared = Prepared::new("[agents]\non_demand = [\"sequential_thinking\"]\n");
    // A folder where a file should be.
    let in_the_way = prepared.folder.path().join("state").join("context_manager.db");
    std::fs::create_dir_all(&in_the_way).unwrap();
    let daemon = prepared.start();
    for via in ["grpc", "dbus"] {
        let list = ["--json", "call", "context_manager", "List"];
        let error: Value = serde_json::from_str(&stdout(&run(&daemon, via, &list))).unwrap();
        assert_eq!(error["error"]["kind"], "BACKEND_UNAVAILABLE", "{error}");
        let agents: Value =
            serde_json::from_str(&stdout(&run(&daemon, via, &["--json", "agents"]))).unwrap();
        let agent = |id: &str| {
            let agents = agents["agents"].as_array().unwrap();
            agents.iter().find(|agent| agent["id"] == id).unwrap().clone()
        };
        assert_eq!(agent("memory")["state"], json!("AGENT_STATE_RUNNING"), "{via}");
        assert_eq!(agent("sequential_thinking")["state"], json!("AGENT_STATE_STOPPED"), "{via}");
        assert_eq!(agent("context_manager")["state"], json!("AGENT_STATE_FAILED"), "{via}");
        let reason = agent("context_manager")["state_reason"].to_string();
        assert!(reason.contains("context_manager.db"), "{via}: {reason}");

        let table = stdout(&run(&daemon, via, &["agents"]));
        let line = table.lines().find(|line| line.starts_with("context_manager ")).unwrap();
        assert!(line.contains(" failed "), "{table}");
        assert!(table.contains("problem: context_manager: "), "{table}");
        let described = stdout(&run(&daemon, via, &["describe", "context_manager"]));
        assert!(described.contains("failed: "), "{described}");
        let status = stdout(&run(&daemon, via, &["status"]));
        assert!(status.contains("warning: agent context_manager has failed: "), "{status}");
    }
    let log = daemon.stop();
    assert_eq!(log.matches("agent context_manager cannot be started").count(), 1, "{log}");
}
