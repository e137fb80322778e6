//! Calls that are started as tasks.

use std::time::Duration;

use op_dbus::error::{Error, ErrorKind};
use op_dbus::proto::opdbus::agent::probe::v1::{GenerateRequest, GenerateResponse};
use op_dbus::proto::opdbus::v1::{
    OnDisconnect, StartCallRequest, StartCallResponse, Task, TaskState,
};
use op_dbus::task::{Event, Reading};
use prost::Message;

use super::{context, service, waits, with_timeout};
use crate::fixture::{Service, denying};

fn request(operation: &str, arguments: &str) -> StartCallRequest {
    StartCallRequest {
        agent: "probe".into(),
        operation: operation.into(),
        arguments: arguments.into(),
        ..StartCallRequest::default()
    }
}

async fn start_in(
    service: &Service,
    context: op_dbus::call::Context,
    request: StartCallRequest,
) -> Result<Task, Error> {
    let route = service.executor.find("calls", "start_call")?;
    let response = service.executor.call(&route, context, request.encode_to_vec().into()).await?;
    Ok(StartCallResponse::decode(response).unwrap().task.unwrap())
}

async fn start(service: &Service, request: StartCallRequest) -> Result<Task, Error> {
    start_in(service, context(), request).await
}

/// Reads a task to its end: its messages, and it as it is then.
async fn read(service: &Service, task: &Task) -> (Vec<bytes::Bytes>, Task) {
    let found = service.executor.tasks().find(&task.id, context().caller.identity).unwrap();
    let mut reader = found.read(Reading::default()).unwrap();
    let mut messages = Vec::new();
    while let Some(event) = reader.next().await {
        if let Event::Message(message) = event {
            messages.push(message.payload);
        }
    }
    (messages, found.record())
}

#[tokio::test]
async fn a_stream_and_a_single_call_become_tasks() {
    let service = service();
    let encoded = StartCallRequest {
        request: Some(GenerateRequest { count: 5 }.encode_to_vec().into()),
        ..request("Generate", "")
    };
    for request in [request("generate", r#"{"count":5}"#), encoded] {
        let task = start(&service, request).await.unwrap();
        assert_eq!(
            (&*task.agent, &*task.operation, &*task.transport),
            ("probe", "Generate", "grpc")
        );
        assert_eq!((task.started_by_uid, task.on_disconnect()), (1000, OnDisconnect::Continue));
        assert!(task.cancelable && task.started_at.is_some() && task.ended_at.is_none());
        assert_eq!(task.object_path, format!("/org/opdbus/Agents1/task/{}", task.id));
        let (messages, ended) = read(&service, &task).await;
        let last = GenerateResponse::decode(messages[4].clone()).unwrap().number;
        assert_eq!((messages.len(), last), (5, 5));
        assert_eq!((ended.state(), ended.cancelable), (TaskState::Completed, false));
        assert_eq!((ended.first_seq, ended.last_seq, ended.bytes), (1, 5, 10));
        assert!(ended.ended_at.is_some() && ended.failure.is_none());
    }
    let task = start(&service, request("count", "")).await.unwrap();
    let (messages, ended) = read(&service, &task).await;
    assert_eq!((messages.len(), &*messages[0]), (1, [8, 1].as_slice()));
    assert_eq!(ended.state(), TaskState::Completed);
}

#[tokio::test]
async fn a_task_outlives_the_call_that_started_it_and_its_deadline() {
    let service = service();
    let task = start_in(&service, with_timeout(30), request("sleep", r#"{"duration":"0.1s"}"#));
    let task = task.await.unwrap();
    assert_eq!(read(&service, &task).await.1.state(), TaskState::Completed);

    let short = Some(prost_types::Duration { seconds: 0, nanos: 20_000_000 });
    let request = request("sleep", r#"{"duration":"5s"}"#);
    let task = start(&service, StartCallRequest { timeout: short, ..request.clone() });
    let (_, ended) = read(&service, &task.await.unwrap()).await;
    assert_eq!(ended.state(), TaskState::Failed);
    assert_eq!(ended.failure.unwrap().reason, "DEADLINE_EXCEEDED");

    let cancel = OnDisconnect::Cancel.into();
    let task = start(&service, StartCallRequest { on_disconnect: cancel, ..request });
    let task = task.await.unwrap();
    assert_eq!(task.on_disconnect(), OnDisconnect::Cancel);
    tokio::time::sleep(Duration::from_millis(20)).await;
    service.executor.tasks().find(&task.id, context().caller.identity).unwrap().cancel();
    assert_eq!(read(&service, &task).await.1.state(), TaskState::Cancelled);
    assert_eq!(waits(&service).await, (3, 1, 2));
}

#[tokio::test]
async fn a_task_that_fails_says_why() {
    let service = service();
    let arguments = r#"{"reason":"CONFLICT","message":"as asked"}"#;
    let task = start(&service, request("fail", arguments)).await.unwrap();
    let (messages, ended) = read(&service, &task).await;
    assert_eq!((messages.len(), ended.state(), ended.first_seq), (0, TaskState::Failed, 0));
    let failure = ended.failure.unwrap();
    assert_eq!((&*failure.reason, &*failure.message), ("CONFLICT", "as asked"));
}

#[tokio::test]
async fn what_cannot_be_a_task_is_refused() {
    let service = service();
    let of = |agent: &str, operation: &str| StartCallRequest {
        agent: agent.into(),
        ..request(operation, "")
    };
    let both = StartCallRequest { request: Some("".into()), ..request("count", "{}") };
    let negative = prost_types::Duration { seconds: -1, nanos: 0 };
    let negative = StartCallRequest { timeout: Some(negative), ..request("count", "") };
    for (kind, field, request) in [
        (ErrorKind::InvalidArgument, Some("operation"), request("sum", "")),
        (ErrorKind::InvalidArgument, Some("operation"), of("agents", "ping")),
        (ErrorKind::InvalidArgument, Some("operation"), of("calls", "batch_call_stream")),
        (ErrorKind::InvalidArgument, Some("arguments"), request("count", r#"{"x":1}"#)),
        (ErrorKind::InvalidArgument, Some("request"), both),
        (ErrorKind::InvalidArgument, Some("timeout"), negative),
        (ErrorKind::UnknownAgent, None, of("prob", "count")),
        (ErrorKind::UnknownOperation, None, request("cuont", "")),
    ] {
        let error = start(&service, request).await.unwrap_err();
        assert_eq!((error.kind(), error.fact("field")), (kind, field), "{error}");
    }
    let denied = Service::new(denying());
    let error = start(&denied, request("count", "")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AccessDenied);
}

#[tokio::test]
async fn a_repeated_request_starts_no_second_task() {
    let service = service();
    let once = || op_dbus::call::Context { request_id: Some("once".into()), ..context() };
    let first = start_in(&service, once(), request("count", "")).await.unwrap();
    let second = start_in(&service, once(), request("count", "")).await.unwrap();
    assert_eq!(first.id, second.id);
}
