//! What goes over a worker's socket beside calls: the settings, and how far calls are.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use op_dbus::agents::WorkerSettings;
use op_dbus::proto::opdbus::agent::worker_probe::v1::{ChatRequest, ChatResponse};
use op_dbus::proto::opdbus::v1::{
    GetTaskRequest, GetTaskResponse, StartCallRequest, StartCallResponse, Task, TaskProgress,
    TaskState,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::{CHAT, World, runs};
use crate::grpc::eventually;
use crate::process::PATIENCE;

const START_CALL: &str = "/opdbus.v1.CallsService/StartCall";
const GET_TASK: &str = "/opdbus.v1.TasksService/GetTask";

async fn task(world: &World, id: &str) -> Task {
    let request = GetTaskRequest { id: id.into() };
    let found: GetTaskResponse = world.client.call(GET_TASK, request).await.unwrap();
    found.task.unwrap()
}

async fn start(world: &World, operation: &str, arguments: &str) -> String {
    let request = StartCallRequest {
        agent: "worker_probe".into(),
        operation: operation.into(),
        arguments: arguments.into(),
        ..StartCallRequest::default()
    };
    let started: StartCallResponse = world.client.call(START_CALL, request).await.unwrap();
    started.task.unwrap().id
}

fn steps(done: u64, total: u64) -> Option<TaskProgress> {
    Some(TaskProgress { done, total, unit: "steps".into() })
}

#[tokio::test]
async fn a_task_in_a_worker_says_how_far_it_is() {
    let world = World::new().await;
    let id = start(&world, "Steps", r#"{"steps": 9, "restAfter": 4, "rest": "1.5s"}"#).await;
    eventually("it rests", async || task(&world, &id).await.progress == steps(4, 9)).await;
    assert_eq!(task(&world, &id).await.state(), TaskState::Working);
    eventually("it ends", async || task(&world, &id).await.state() == TaskState::Completed).await;
    // What is said last comes before the answer.
    assert_eq!(task(&world, &id).await.progress, steps(9, 9));
}

#[tokio::test]
async fn a_task_that_fails_in_a_worker_has_its_error() {
    let world = World::new().await;
    let id = start(&world, "Fail", r#"{"reason": "CONFLICT", "message": "on purpose"}"#).await;
    eventually("it ends", async || task(&world, &id).await.state() == TaskState::Failed).await;
    let failure = task(&world, &id).await.failure.unwrap();
    assert_eq!((&*failure.reason, &*failure.message), ("CONFLICT", "on purpose"));
}

#[tokio::test]
async fn a_task_in_a_worker_says_that_it_waits_for_its_client() {
    let world = World::new().await;
    let (sender, requests) = mpsc::channel(1);
    let response =
        world.client.stream::<_, ChatResponse>(CHAT, ReceiverStream::new(requests)).await.unwrap();
    let id = response.metadata().get("opdbus-task-id").unwrap().to_str().unwrap().to_owned();
    let mut replies = response.into_inner();
    for text in ["a", "b"] {
        let waits = async || task(&world, &id).await.state() == TaskState::InputRequired;
        eventually("it waits for its client", waits).await;
        sender.send(ChatRequest { text: text.into() }).await.unwrap();
        assert_eq!(replies.message().await.unwrap().unwrap().text, text);
    }
    drop(sender);
    assert!(replies.message().await.unwrap().is_none());
    eventually("it ends", async || task(&world, &id).await.state() == TaskState::Completed).await;
}

#[tokio::test]
async fn a_worker_is_told_the_settings_and_every_change() {
    let world = World::new().await;
    let first = world.who().await;
    let settings: WorkerSettings = serde_json::from_str(&first.settings).unwrap();
    assert_eq!(settings, WorkerSettings::default());
    world.daemon.signal(Signal::SIGHUP);
    world.daemon.wait_for_log("the new configuration is in force");
    eventually("it is told again", async || world.who().await.settings_at != first.settings_at)
        .await;
    assert_eq!(world.who().await.pid, first.pid);
}

#[tokio::test]
async fn a_worker_that_does_not_take_settings_up_is_replaced() {
    // It is asked for nothing else meanwhile.
    let world = World::with("check_ms = 60000\ncheck_timeout_ms = 300\n").await;
    let pid = world.who().await.pid;
    let stopped = Pid::from_raw(pid.try_into().unwrap());
    kill(stopped, Signal::SIGSTOP).unwrap();
    world.daemon.signal(Signal::SIGHUP);
    world.daemon.wait_for_log("does not take up the changed settings and is ended");
    eventually("it is killed", async || !runs(pid)).await;
    let next = tokio::time::timeout(PATIENCE, world.who()).await.unwrap();
    assert_ne!(next.pid, pid);
}
