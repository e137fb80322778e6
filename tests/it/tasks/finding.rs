//! Who finds which tasks: by id, in pages, while waiting; what goes with a client or a session.

use std::collections::HashSet;
use std::time::Duration;

use op_dbus::call::{Context, OnDisconnect, Transport};
use op_dbus::error::ErrorKind;
use op_dbus::executor::Config;
use op_dbus::proto::opdbus::v1::{
    ListTasksRequest, ListTasksResponse, TaskState, WaitTaskRequest, WaitTaskResponse,
};
use op_dbus::task::State;

use super::{call, context, elsewhere, get, over, pace, start};
use crate::fixture::Service;

async fn list(service: &Service, uid: u32, request: ListTasksRequest) -> (Vec<String>, String) {
    let response: ListTasksResponse =
        call(service, elsewhere(uid), "ListTasks", &request).await.unwrap();
    (response.tasks.into_iter().map(|task| task.id).collect(), response.next_page_token)
}

#[tokio::test]
async fn another_users_task_is_unknown() {
    let service = Service::new(Config::default());
    let task = start(&service, context(1), "Pace", &pace(1, 0)).await.unwrap();
    let foreign = get(&service, context(2), task.id()).await.unwrap_err();
    let unknown = get(&service, context(2), "0123").await.unwrap_err();
    assert_eq!((foreign.kind(), unknown.kind()), (ErrorKind::NotFound, ErrorKind::NotFound));
    assert_eq!(foreign.message().replace(&**task.id(), "0123"), unknown.message());
    assert_eq!(foreign.facts(), unknown.facts());
    assert!(list(&service, 2, ListTasksRequest::default()).await.0.is_empty());
    assert_eq!(list(&service, 1, ListTasksRequest::default()).await.0, [task.id().to_string()]);
    let empty = get(&service, context(1), "").await.unwrap_err();
    assert_eq!(empty.fact("field"), Some("id"));
}

#[tokio::test]
async fn pages_stay_right_while_tasks_come_and_go() {
    let mut config = Config::default();
    config.tasks.keep_max = 12;
    let service = Service::new(config);
    let mut ids = Vec::new();
    for _ in 0..10 {
        let task = start(&service, context(1), "Pace", &pace(1, 0)).await.unwrap();
        over(&task).await;
        ids.push(task.id().to_string());
    }
    ids.reverse();
    let (mut seen, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListTasksRequest { page_size: 3, page_token, ..Default::default() };
        let (page, next) = list(&service, 1, request).await;
        seen.extend(page);
        // One comes with each page, and in the end the oldest ones go.
        let task = start(&service, context(1), "Pace", &pace(1, 0)).await.unwrap();
        over(&task).await;
        page_token = next;
        if page_token.is_empty() {
            break;
        }
    }
    assert!(seen.len() >= 8, "{seen:?}");
    assert_eq!(seen, ids[..seen.len()], "each once, the newest first");
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), seen.len());
    for (field, request) in [
        ("page_token", ListTasksRequest { page_token: "?".into(), ..Default::default() }),
        ("page_size", ListTasksRequest { page_size: 1001, ..Default::default() }),
        ("states[0]", ListTasksRequest { states: vec![0], ..Default::default() }),
    ] {
        let error = call::<ListTasksResponse>(&service, context(1), "ListTasks", &request).await;
        assert_eq!(error.unwrap_err().fact("field"), Some(field));
    }
}

#[tokio::test]
async fn lists_are_filtered() {
    let service = Service::new(Config::default());
    service.session(1, "s").await;
    let in_session = Context { session: Some("s".into()), ..context(1) };
    let running = start(&service, in_session, "Pace", &pace(1000, 50)).await.unwrap();
    let ended = start(&service, context(1), "Pace", &pace(1, 0)).await.unwrap();
    over(&ended).await;
    let only = async |request| list(&service, 1, request).await.0;
    let working = TaskState::Working.into();
    let request = ListTasksRequest { states: vec![working], ..Default::default() };
    assert_eq!(only(request).await, [running.id().to_string()]);
    let request = ListTasksRequest { session: "s".into(), ..Default::default() };
    assert_eq!(only(request).await, [running.id().to_string()]);
    let request = ListTasksRequest { agent: "memory".into(), ..Default::default() };
    assert!(only(request).await.is_empty());
    let request = ListTasksRequest { agent: "probe".into(), ..Default::default() };
    assert_eq!(only(request).await, [ended.id().to_string(), running.id().to_string()]);
}

#[tokio::test]
async fn waiting_ends_with_the_task_or_the_time() {
    let service = Service::new(Config::default());
    let task = start(&service, context(1), "Pace", &pace(3, 30)).await.unwrap();
    let wait = async |nanos: Option<i32>| {
        let timeout = nanos.map(|nanos| prost_types::Duration { seconds: 0, nanos });
        let request = WaitTaskRequest { id: task.id().to_string(), timeout };
        call::<WaitTaskResponse>(&service, context(1), "WaitTask", &request).await
    };
    let early = wait(Some(10_000_000)).await.unwrap();
    assert!(!early.ended && early.task.unwrap().state() == TaskState::Working);
    let late = wait(None).await.unwrap();
    assert!(late.ended && late.task.unwrap().state() == TaskState::Completed);
    let error = wait(Some(-1)).await.unwrap_err();
    assert_eq!(error.fact("field"), Some("timeout"));
}

#[tokio::test]
async fn tasks_go_with_their_client_or_session_if_they_are_to() {
    let service = Service::new(Config::default());
    let tasks = service.executor.tasks();
    let begin = async |on_disconnect, session: Option<&str>| {
        let session = session.map(Into::into);
        let context = Context { on_disconnect: Some(on_disconnect), session, ..elsewhere(1) };
        let task = start(&service, context, "Pace", &pace(1000, 50)).await.unwrap();
        tokio::task::yield_now().await;
        task
    };
    let goes = begin(OnDisconnect::Cancel, None).await;
    let stays = begin(OnDisconnect::Continue, None).await;
    tasks.client_gone(Transport::Grpc, ":1.7");
    tasks.client_gone(Transport::Dbus, ":1.8");
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(goes.state(), State::Working);
    tasks.client_gone(Transport::Dbus, ":1.7");
    over(&goes).await;
    assert_eq!((goes.state(), stays.state()), (State::Cancelled, State::Working));
    let failure = goes.record().failure.unwrap();
    assert!(failure.message.contains("client"), "{}", failure.message);

    service.session(1, "s").await;
    service.session(1, "t").await;
    service.session(2, "s").await;
    let goes = begin(OnDisconnect::Cancel, Some("s")).await;
    let stays = begin(OnDisconnect::Continue, Some("s")).await;
    let sessions = service.executor.sessions();
    sessions.end(2, "s").unwrap();
    sessions.end(1, "t").unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    assert_eq!(goes.state(), State::Working);
    sessions.end(1, "s").unwrap();
    over(&goes).await;
    assert_eq!((goes.state(), stays.state()), (State::Cancelled, State::Working));
}
