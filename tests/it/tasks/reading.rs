//! What is kept of a task's messages, and how clients read them: from a number on, past a gap, as JSON,
//! slowly.

use std::sync::Arc;

use op_dbus::error::{Error, ErrorKind};
use op_dbus::executor::{Config, Input};
use op_dbus::proto::opdbus::agent::probe::v1::{PaceRequest, PaceResponse};
use op_dbus::proto::opdbus::v1::watch_task_response::Event as Shown;
use op_dbus::proto::opdbus::v1::{
    ReadTaskRequest, ReadTaskResponse, TaskGap, TaskState, WatchTaskRequest, WatchTaskResponse,
};
use op_dbus::task::{Bounds, Event, Reading, State};
use prost::Message as _;

use super::{call, context, elsewhere, encoded, next, over, pace, read, start};
use crate::fixture::Service;

fn keeping(messages: usize) -> Config {
    let mut config = Config::default();
    config.tasks.ring = Bounds { messages, bytes: 1 << 20 };
    config
}

/// Watches a task as a client does.
async fn watch(service: &Service, request: WatchTaskRequest) -> Result<Vec<Shown>, Error> {
    let route = service.executor.find("tasks", "WatchTask")?;
    let input = Input::One(encoded(&request));
    let mut reader = service.executor.start_reading(&route, elsewhere(1), input, false).await?;
    let mut events = Vec::new();
    loop {
        match next(&mut reader).await.unwrap() {
            Event::Message(message) => {
                events.extend(WatchTaskResponse::decode(message.payload).unwrap().event);
            }
            Event::Ended(outcome) => return outcome.map(|()| events),
            other @ (Event::Gap { .. } | Event::Changed) => panic!("a view has no {other:?}"),
        }
    }
}

#[tokio::test]
async fn a_client_comes_back_and_reads_on() {
    let service = Service::new(Config::default());
    let route = service.executor.find("probe", "Pace").unwrap();
    let input = Input::One(encoded(&pace(20, 5)));
    let mut client =
        service.executor.start_reading(&route, context(1), input, false).await.unwrap();
    let task = Arc::clone(client.task());
    for expected in 1..=5 {
        let Some(Event::Message(message)) = next(&mut client).await else { panic!() };
        assert_eq!(message.seq, expected);
    }
    drop(client);
    let found = service.executor.tasks().find(task.id(), elsewhere(1).caller.identity).unwrap();
    let (came, missed, outcome) = read(&found, 6).await;
    outcome.unwrap();
    assert_eq!((came, missed), ((6..=20).collect(), vec![]));
}

#[tokio::test]
async fn past_the_ring_there_is_one_gap() {
    let service = Service::new(keeping(4));
    let task = start(&service, context(1), "Pace", &pace(10, 0)).await.unwrap();
    over(&task).await;
    for from in [1, 3] {
        let (came, missed, _) = read(&task, from).await;
        assert_eq!((came, missed), (vec![7, 8, 9, 10], vec![(from, 6)]));
    }
    let (came, missed, _) = read(&task, 0).await;
    assert_eq!((came, missed), (vec![7, 8, 9, 10], vec![]), "0 asks for what there is");
    let request = WatchTaskRequest { id: task.id().to_string(), from_seq: 2, json: false };
    let events = watch(&service, request).await.unwrap();
    assert_eq!(events[1], Shown::Gap(TaskGap { from: 2, to: 6 }));
}

#[tokio::test]
async fn a_number_in_the_future_is_refused() {
    let service = Service::new(Config::default());
    let task = start(&service, context(1), "Pace", &pace(2, 0)).await.unwrap();
    over(&task).await;
    assert!(read(&task, 3).await.0.is_empty(), "the next number is none in the future");
    let error = task.read(Reading { from: 4, ..Reading::default() }).unwrap_err();
    assert_eq!((error.kind(), error.fact("field")), (ErrorKind::InvalidArgument, Some("from_seq")));
    let request = ReadTaskRequest { id: task.id().to_string(), from_seq: 9, ..Default::default() };
    let error = call::<ReadTaskResponse>(&service, context(1), "ReadTask", &request).await;
    assert_eq!(error.unwrap_err().fact("field"), Some("from_seq"));
    let request = WatchTaskRequest { id: task.id().to_string(), from_seq: 9, json: false };
    assert_eq!(watch(&service, request).await.unwrap_err().fact("field"), Some("from_seq"));
}

#[tokio::test]
async fn a_watcher_sees_the_task_first_and_its_end_last() {
    let service = Service::new(Config::default());
    let request = PaceRequest { fail_at: 31, ..pace(100, 10) };
    let task = start(&service, context(1), "Pace", &request).await.unwrap();
    let id = task.id().to_string();
    let events = watch(&service, WatchTaskRequest { id, from_seq: 1, json: true }).await.unwrap();
    let Shown::Task(first) = &events[0] else { panic!("{:?}", events[0]) };
    assert!(matches!(first.state(), TaskState::Submitted | TaskState::Working));
    let Some(Shown::Task(last)) = events.last() else { panic!("{events:?}") };
    assert_eq!((last.state(), last.last_seq), (TaskState::Failed, 30));
    let messages: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            Shown::Message(message) => Some(message),
            Shown::Gap(_) | Shown::Task(_) => None,
        })
        .collect();
    assert_eq!(
        messages.iter().map(|message| message.seq).collect::<Vec<_>>(),
        (1..=30).collect::<Vec<_>>()
    );
    assert_eq!(messages[2].json, r#"{"number":3,"filler":""}"#);
    assert!(messages[2].payload.is_empty());
    // 300 ms of work: it was told of a few times, not of every step.
    let told = events.iter().filter(|event| matches!(event, Shown::Task(_))).count();
    assert!((3..=12).contains(&told), "{told} times");
    let working = events.iter().rev().skip(1).find_map(|event| match event {
        Shown::Task(task) => Some(task),
        Shown::Message(_) | Shown::Gap(_) => None,
    });
    assert!(working.unwrap().expected_end.is_some());
}

#[tokio::test]
async fn a_read_is_bounded_and_goes_on_where_it_was() {
    let service = Service::new(keeping(100));
    let request = PaceRequest { size_bytes: 100_000, ..pace(10, 0) };
    let task = start(&service, context(1), "Pace", &request).await.unwrap();
    over(&task).await;
    let (mut from_seq, mut sizes) = (1, Vec::new());
    while from_seq <= 10 {
        let request = ReadTaskRequest { id: task.id().to_string(), from_seq, ..Default::default() };
        let response: ReadTaskResponse =
            call(&service, context(1), "ReadTask", &request).await.unwrap();
        for message in &response.messages {
            assert_eq!((message.seq, message.offset % 100_000 < 1000), (from_seq, true));
            let message = PaceResponse::decode(&*message.payload).unwrap();
            assert_eq!(u64::from(message.number), from_seq);
            from_seq += 1;
        }
        assert!(response.gap.is_none() && response.encoded_len() < 1 << 20);
        sizes.push(response.messages.len());
    }
    assert_eq!(sizes, [7, 3]);
    let request =
        ReadTaskRequest { id: task.id().to_string(), max_messages: 2, ..Default::default() };
    let response: ReadTaskResponse =
        call(&service, context(1), "ReadTask", &request).await.unwrap();
    assert_eq!(response.messages.len(), 2);
    let request = ReadTaskRequest { max_messages: 1001, ..request };
    let error = call::<ReadTaskResponse>(&service, context(1), "ReadTask", &request).await;
    assert_eq!(error.unwrap_err().fact("field"), Some("max_messages"));
}

#[tokio::test]
async fn one_that_never_reads_and_fifty_that_do() {
    let service = Service::new(keeping(8));
    let task = start(&service, context(1), "Pace", &pace(200, 1)).await.unwrap();
    let mut stalled = task.read(Reading { from: 1, ..Reading::default() }).unwrap();
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let task = Arc::clone(&task);
        readers.spawn(async move { read(&task, 1).await });
    }
    for (came, missed, outcome) in readers.join_all().await {
        outcome.unwrap();
        assert_eq!((came, missed), ((1..=200).collect::<Vec<u64>>(), vec![]));
    }
    let Some(Event::Gap { from: 1, to: 192 }) = next(&mut stalled).await else { panic!() };
}

#[tokio::test]
async fn a_slow_client_holds_its_own_work_and_no_other() {
    let service = Service::new(keeping(4));
    let route = service.executor.find("probe", "Generate").unwrap();
    let input = || Input::One(encoded(&pace(1000, 0)));
    let mut slow =
        service.executor.start_reading(&route, context(1), input(), false).await.unwrap();
    let other = service.executor.start(&route, context(1), input()).await.unwrap();
    over(&other).await;
    assert_eq!(slow.task().state(), State::Working);
    assert_eq!(slow.task().record().last_seq, 4, "the work waits for its client");
    for expected in 1..=1000 {
        let Some(Event::Message(message)) = next(&mut slow).await else { panic!() };
        assert_eq!(message.seq, expected);
    }
    assert!(matches!(next(&mut slow).await, Some(Event::Ended(Ok(())))));
}
