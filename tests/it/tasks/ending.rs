//! How tasks begin and end: every state, deadlines, cancellation, request ids, chosen ids.

use std::time::{Duration, Instant};

use op_dbus::call::Context;
use op_dbus::contract::RawRequests;
use op_dbus::error::ErrorKind;
use op_dbus::executor::{Config, Input};
use op_dbus::proto::opdbus::agent::probe::v1::{
    ChatRequest, FailRequest, PaceRequest, SleepRequest,
};
use op_dbus::proto::opdbus::v1::{CancelTaskRequest, CancelTaskResponse, TaskState};
use op_dbus::task::{Reading, State};

use super::{context, elsewhere, encoded, get, over, pace, read, start};
use crate::fixture::Service;
use crate::process::PATIENCE;

fn sleep(seconds: i64) -> SleepRequest {
    SleepRequest { duration: Some(prost_types::Duration { seconds, nanos: 0 }) }
}

#[tokio::test]
async fn a_stream_is_a_task_that_completes() {
    let service = Service::new(Config::default());
    let task = start(&service, context(1), "Pace", &pace(5, 0)).await.unwrap();
    let (came, missed, outcome) = read(&task, 0).await;
    outcome.unwrap();
    assert_eq!((came, missed), (vec![1, 2, 3, 4, 5], vec![]));
    let shown = get(&service, context(1), task.id()).await.unwrap();
    assert_eq!(shown.state(), TaskState::Completed);
    assert_eq!((&*shown.agent, &*shown.operation, &*shown.transport), ("probe", "Pace", "grpc"));
    assert_eq!((shown.first_seq, shown.last_seq, shown.started_by_uid), (1, 5, 1));
    assert!(shown.ended_at.is_some() && shown.failure.is_none() && !shown.cancelable);
    assert_eq!(shown.object_path, format!("/org/opdbus/Agents1/task/{}", task.id()));
    let progress = shown.progress.unwrap();
    assert_eq!((progress.done, progress.total, &*progress.unit), (5, 5, "messages"));
    let text = service.executor.metrics().render().unwrap();
    for line in [
        r#"opdbus_stream_messages_total{agent="probe",operation="Pace",transport="grpc"} 5"#
            .to_owned(),
        format!(
            r#"opdbus_stream_bytes_total{{agent="probe",operation="Pace",transport="grpc"}} {}"#,
            shown.bytes
        ),
        r#"opdbus_tasks{state="working"} 0"#.to_owned(),
        "opdbus_tasks_kept 1".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is missing in:\n{text}");
    }
}

#[tokio::test]
async fn a_call_with_one_answer_can_be_a_task() {
    let service = Service::new(Config::default());
    let task = start(&service, context(1), "Count", &()).await.unwrap();
    let (came, _, outcome) = read(&task, 0).await;
    outcome.unwrap();
    assert_eq!(came, [1]);
    let route = service.executor.find("tasks", "GetTask").unwrap();
    let refused = service.executor.start(&route, context(1), Input::One(encoded(&()))).await;
    assert_eq!(refused.unwrap_err().fact("field"), Some("operation"));
}

#[tokio::test]
async fn what_came_before_an_error_is_kept_with_it() {
    let service = Service::new(Config::default());
    let request = PaceRequest { fail_at: 4, ..pace(10, 0) };
    let task = start(&service, context(1), "Pace", &request).await.unwrap();
    let (came, _, outcome) = read(&task, 0).await;
    assert_eq!(came, [1, 2, 3]);
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::BackendFailed);
    let shown = get(&service, context(1), task.id()).await.unwrap();
    assert_eq!((shown.state(), shown.last_seq), (TaskState::Failed, 3));
    let failure = shown.failure.unwrap();
    assert_eq!((&*failure.reason, &*failure.facts["origin"]), ("BACKEND_FAILED", "probe"));
}

#[tokio::test]
async fn a_panic_fails_its_task_only() {
    let service = Service::new(Config::default());
    let request = FailRequest { reason: "PANIC".into(), ..FailRequest::default() };
    let task = start(&service, context(1), "Fail", &request).await.unwrap();
    let (_, _, outcome) = read(&task, 0).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(task.state(), State::Failed);
    let after = start(&service, context(1), "Pace", &pace(1, 0)).await.unwrap();
    read(&after, 0).await.2.unwrap();
}

#[tokio::test]
async fn a_deadline_ends_it_and_keeps_what_came() {
    let service = Service::new(Config::default());
    let context = Context { timeout: Some(Duration::from_millis(100)), ..context(1) };
    let task = start(&service, context.clone(), "Pace", &pace(1000, 20)).await.unwrap();
    assert!(get(&service, context, task.id()).await.unwrap().deadline.is_some());
    let (came, _, outcome) = read(&task, 0).await;
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
    assert!((1..10).contains(&came.len()), "{came:?}");
    assert_eq!(task.state(), State::Failed);

    let mut config = Config::default();
    config.tasks.max_runtime = Duration::from_millis(50);
    let service = Service::new(config);
    let task = start(&service, super::context(1), "Sleep", &sleep(60)).await.unwrap();
    assert_eq!(read(&task, 0).await.2.unwrap_err().kind(), ErrorKind::DeadlineExceeded);
}

#[tokio::test]
async fn another_connection_of_the_user_cancels_it_at_once() {
    let service = Service::new(Config::default());
    let task = start(&service, context(1), "Sleep", &sleep(600)).await.unwrap();
    let cancel = async |context| {
        let request = CancelTaskRequest { id: task.id().to_string() };
        super::call::<CancelTaskResponse>(&service, context, "CancelTask", &request).await
    };
    tokio::task::yield_now().await;
    let foreign = cancel(elsewhere(2)).await.unwrap_err();
    assert_eq!(foreign.kind(), ErrorKind::NotFound);
    assert_eq!(task.state(), State::Working);
    let asked = Instant::now();
    let response = cancel(elsewhere(1)).await.unwrap();
    assert!(response.ended && asked.elapsed() < PATIENCE);
    assert_eq!(response.task.unwrap().state(), TaskState::Cancelled);
    // Once more changes nothing.
    let again = cancel(context(1)).await.unwrap();
    assert!(again.ended && again.reason.is_empty());
    assert_eq!(again.task.unwrap().failure.unwrap().reason, "CANCELLED");
    // The agent has noticed: the wait was dropped, not left to run.
    let counted = start(&service, context(1), "Sleep", &sleep(0)).await.unwrap();
    let mut reader = counted.read(Reading::default()).unwrap();
    let Some(op_dbus::task::Event::Message(message)) = super::next(&mut reader).await else {
        panic!("no answer")
    };
    let counters: op_dbus::proto::opdbus::agent::probe::v1::SleepResponse =
        prost::Message::decode(message.payload).unwrap();
    assert_eq!(counters.cancelled, 1);
}

#[tokio::test]
async fn refused_before_it_began_is_rejected() {
    let config =
        Config { max_in_flight: 1, max_in_flight_per_agent: 1, queue: 1, ..Config::default() };
    let service = Service::new(config);
    let running = start(&service, context(1), "Sleep", &sleep(600)).await.unwrap();
    tokio::task::yield_now().await;
    let waiting = start(&service, context(1), "Sleep", &sleep(600)).await.unwrap();
    tokio::task::yield_now().await;
    assert_eq!((running.state(), waiting.state()), (State::Working, State::Submitted));
    let refused = start(&service, context(1), "Sleep", &sleep(600)).await.unwrap();
    over(&refused).await;
    assert_eq!(refused.state(), State::Rejected);
    // Calls of op-dbus's own services find a place when agents are busy.
    let shown = get(&service, context(1), refused.id()).await.unwrap();
    assert_eq!(shown.failure.unwrap().facts["limit"], "executor.queue");
    // Cancelled before it began is cancelled all the same.
    waiting.cancel();
    over(&waiting).await;
    assert_eq!(waiting.state(), State::Cancelled);
}

#[tokio::test]
async fn a_task_says_that_it_waits_for_its_client() {
    let service = Service::new(Config::default());
    let (sender, requests) = RawRequests::bounded(1);
    let route = service.executor.find("probe", "Chat").unwrap();
    let task = service.executor.start(&route, context(1), Input::Many(requests)).await.unwrap();
    let state = async |expected| {
        while task.state() != expected {
            tokio::task::yield_now().await;
        }
    };
    state(State::InputRequired).await;
    sender.send(Ok(encoded(&ChatRequest { text: "a".into() }))).await.unwrap();
    let mut reader = task.read(Reading::default()).unwrap();
    super::next(&mut reader).await.unwrap();
    state(State::InputRequired).await;
    drop(sender);
    over(&task).await;
    assert_eq!(task.state(), State::Completed);
}

#[tokio::test]
async fn a_repeated_request_id_gives_the_first_task() {
    let service = Service::new(Config::default());
    let with_id = |uid, id: &str| Context { request_id: Some(id.into()), ..context(uid) };
    let first = start(&service, with_id(1, "a"), "Pace", &pace(3, 10)).await.unwrap();
    let again = start(&service, with_id(1, "a"), "Pace", &pace(3, 10)).await.unwrap();
    assert_eq!(first.id(), again.id());
    let other_way = Context { request_id: Some("a".into()), ..elsewhere(1) };
    let again = start(&service, other_way, "Pace", &pace(3, 10)).await.unwrap();
    assert_eq!(first.id(), again.id(), "also by the other transport");
    assert_eq!(read(&again, 1).await.0, [1, 2, 3]);
    let after = start(&service, with_id(1, "a"), "Pace", &pace(3, 10)).await.unwrap();
    assert_eq!(first.id(), after.id(), "also when it has ended");
    let other = start(&service, with_id(1, "a"), "Pace", &pace(4, 10)).await.unwrap_err();
    assert_eq!(other.fact("field"), Some("request-id"));
    for (uid, id, operation) in [(2, "a", "Pace"), (1, "b", "Pace"), (1, "a", "Generate")] {
        let another = start(&service, with_id(uid, id), operation, &pace(3, 10)).await.unwrap();
        assert_ne!(first.id(), another.id());
    }
}

#[tokio::test]
async fn a_chosen_id_is_taken_while_its_task_runs() {
    let service = Service::new(Config::default());
    let with_id = |uid, id: &str| Context { task_id: Some(id.into()), ..context(uid) };
    let first = start(&service, with_id(1, "1_42_mine"), "Pace", &pace(1, 30)).await.unwrap();
    assert_eq!(&**first.id(), "1_42_mine");
    for uid in [1, 2] {
        let error = start(&service, with_id(uid, "1_42_mine"), "Pace", &pace(1, 0)).await;
        assert_eq!(error.unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
    over(&first).await;
    let foreign = start(&service, with_id(2, "1_42_mine"), "Pace", &pace(1, 0)).await;
    assert_eq!(foreign.unwrap_err().kind(), ErrorKind::AlreadyExists);
    let second = start(&service, with_id(1, "1_42_mine"), "Pace", &pace(2, 0)).await.unwrap();
    over(&second).await;
    assert_eq!(get(&service, context(1), "1_42_mine").await.unwrap().last_seq, 2);
    assert_eq!(read(&first, 1).await.0, [1], "who reads the first one is not disturbed");
    for wrong in ["", "a/b", &"a".repeat(300)] {
        let error = start(&service, with_id(1, wrong), "Pace", &pace(1, 0)).await.unwrap_err();
        assert_eq!(error.fact("field"), Some("task_id"));
    }
}
