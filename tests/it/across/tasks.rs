//! Tasks that one transport starts and the other watches, reads and cancels; clients that come back.

use std::time::{Duration, Instant};

use op_dbus::contract::task_path;
use op_dbus::proto::opdbus::agent::probe::v1::{
    GenerateRequest, GenerateResponse, PaceRequest, PaceResponse,
};
use op_dbus::proto::opdbus::v1::watch_task_response::Event;
use op_dbus::proto::opdbus::v1::{
    CancelTaskRequest, CancelTaskResponse, TaskGap, TaskState, WatchTaskResponse,
};
use serde_json::json;
use tonic::{Code, Request, Response, Streaming};
use zbus::Variant;

use super::{BOTH, PACE, Way, World, duration, eventually, reason, task_id, told};
use crate::dbus::watch::{Watch, finished};
use crate::dbus::{Options, call, none, with};
use crate::grpc::{Client, GENERATE};

const CANCEL: &str = "/opdbus.v1.TasksService/CancelTask";
const TASK: Option<&str> = Some("org.opdbus.Task1");

/// So many messages with a pause before each.
fn pace(count: u32, millis: i32) -> PaceRequest {
    let interval = Some(prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 });
    PaceRequest { count, interval, ..PaceRequest::default() }
}

async fn begin(
    client: &Client,
    request: Request<PaceRequest>,
) -> Response<Streaming<PaceResponse>> {
    let (metadata, extensions, request) = request.into_parts();
    let request = Request::from_parts(metadata, extensions, tokio_stream::iter([request]));
    client.stream(PACE, request).await.unwrap()
}

/// The numbers of the messages that came, and the error at the end.
async fn collect(mut stream: Streaming<PaceResponse>) -> (Vec<u32>, Option<tonic::Status>) {
    let mut numbers = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(message)) => numbers.push(message.number),
            Ok(None) => return (numbers, None),
            Err(status) => return (numbers, Some(status)),
        }
    }
}

#[tokio::test]
async fn a_task_of_the_bus_is_watched_and_cancelled_over_grpc() {
    let world = World::start("").await;
    let mut watch = Watch::new(&world.bus);
    let path = watch.begin("Pace", &(1_000_u32, with("interval", 20_000_i64))).await;
    let id = path.rsplit('/').next().unwrap();
    let mut stream = world.watch(id, 1).await;
    let next = async |stream: &mut Streaming<WatchTaskResponse>| {
        stream.message().await.unwrap().unwrap().event.unwrap()
    };
    // What the task does is told between its messages.
    let message = async |stream: &mut Streaming<WatchTaskResponse>| loop {
        match next(stream).await {
            Event::Message(message) => return message,
            Event::Task(task) => assert_eq!(task.state(), TaskState::Working),
            Event::Gap(gap) => panic!("{gap:?}"),
        }
    };
    let Event::Task(task) = next(&mut stream).await else { panic!("the task comes first") };
    assert_eq!((&*task.transport, &*task.operation, &*task.object_path), ("dbus", "Pace", &*path));
    for number in 1..=5 {
        let message = message(&mut stream).await;
        assert_eq!(message.seq, number);
        assert_eq!(message.json, format!(r#"{{"number":{number},"filler":""}}"#));
    }
    let cancel = CancelTaskRequest { id: id.into() };
    let answer: CancelTaskResponse = world.grpc.call(CANCEL, cancel).await.unwrap();
    assert!(answer.ended && answer.reason.is_empty());
    let (numbers, gaps, task) = told(stream).await;
    assert_eq!((task.state(), gaps.len()), (TaskState::Cancelled, 0));
    assert_eq!(numbers, (6..=task.last_seq).collect::<Vec<_>>());
    let signals = watch.until_end(&path).await;
    let (state, name, _, last) = finished(&signals);
    assert_eq!((&*state, &*name), ("cancelled", "org.opdbus.Error.Cancelled"));
    assert_eq!((signals.len() as u64 - 1, last), (task.last_seq, task.last_seq));
}

#[tokio::test]
async fn a_task_of_grpc_is_read_and_cancelled_on_the_bus() {
    let world = World::start("").await;
    let response = begin(&world.grpc, Request::new(pace(1_000, 20))).await;
    let path = task_path(&task_id(&response));
    let mut stream = response.into_inner();
    for number in 1..=4 {
        assert_eq!(stream.message().await.unwrap().unwrap().number, number);
    }
    let reply = call(&world.bus, &path, TASK, "ReadMessages", &(2_u64, 2_u32, none())).await;
    let reply = reply.unwrap();
    let body = reply.body();
    let (messages, extra): (Vec<(u64, u64, Options<'_>)>, Options<'_>) =
        body.deserialize().unwrap();
    let read: Vec<_> = messages.iter().map(|(seq, _, fields)| (*seq, &fields["number"])).collect();
    assert_eq!(read, [(2, &Variant::from(2_u32)), (3, &Variant::from(3_u32))]);
    assert!(extra.is_empty());

    let reply = call(&world.bus, &path, TASK, "Cancel", &none()).await.unwrap();
    let body = reply.body();
    assert!(body.deserialize::<(bool, Options<'_>)>().unwrap().0);
    let (numbers, status) = collect(stream).await;
    let status = status.unwrap();
    assert_eq!((status.code(), &*reason(&status)), (Code::Cancelled, "CANCELLED"));
    assert!(numbers.iter().copied().eq(5..5 + u32::try_from(numbers.len()).unwrap()));
    // Once more is no error.
    call(&world.bus, &path, TASK, "Cancel", &none()).await.unwrap();
}

#[tokio::test]
async fn work_stops_within_a_tenth_of_a_second_whoever_cancels_it() {
    let world = World::start("").await;
    let mut cancelled = 0;
    for starts in BOTH {
        for cancels in BOTH {
            // The best of five, because the machine may be busy with other things.
            let mut best = Duration::MAX;
            for _ in 0..5 {
                let arguments = duration("60s").to_string();
                let request =
                    json!({"agent": "probe", "operation": "sleep", "arguments": arguments});
                let started = world.call(starts, ("calls", "StartCall"), request).await.unwrap();
                let id = started["task"]["id"].as_str().unwrap().to_owned();
                eventually("it sleeps", async || {
                    world.task(&id).await.unwrap().state() == TaskState::Working
                })
                .await;
                let begun = Instant::now();
                let answer = world.call(cancels, ("tasks", "CancelTask"), json!({"id": id})).await;
                let answer = answer.unwrap();
                assert_eq!(answer["ended"], json!(true), "{answer}");
                cancelled += 1;
                assert_eq!(world.sleeps().await.1, cancelled, "{starts:?} {cancels:?}");
                best = best.min(begun.elapsed());
            }
            assert!(best < Duration::from_millis(100), "{starts:?} {cancels:?}: {best:?}");
        }
    }
}

#[tokio::test]
async fn what_came_before_a_deadline_or_an_error_comes_with_it() {
    let world = World::start("").await;
    let mut watch = Watch::new(&world.bus);
    let mut options = with("interval", 20_000_i64);
    options.insert("deadline-ms", 300.into());
    let path = watch.begin("Pace", &(1_000_u32, options)).await;
    let signals = watch.until_end(&path).await;
    let (state, name, _, last) = finished(&signals);
    assert_eq!((&*state, &*name), ("failed", "org.opdbus.Error.DeadlineExceeded"));
    assert!(last > 0 && signals.len() as u64 == last + 1, "{last}");

    let mut request = Request::new(pace(1_000, 20));
    request.set_timeout(Duration::from_millis(300));
    let response = begin(&world.grpc, request).await;
    let task = task_id(&response);
    let (numbers, status) = collect(response.into_inner()).await;
    assert_eq!(status.unwrap().code(), Code::DeadlineExceeded);
    assert!(!numbers.is_empty());
    let found = world.task(&task).await.unwrap();
    assert_eq!((found.state(), found.last_seq), (TaskState::Failed, numbers.len() as u64));

    let path = watch.begin("Pace", &(9_u32, with("fail_at", 4_u32))).await;
    let signals = watch.until_end(&path).await;
    let (state, name, text, last) = finished(&signals);
    assert_eq!((&*state, &*name, last), ("failed", "org.opdbus.Error.BackendFailed", 3));
    assert_eq!((&*text, signals.len()), ("asked to fail at 4", 4));
    let request = PaceRequest { fail_at: 4, ..pace(9, 0) };
    let (numbers, status) =
        collect(begin(&world.grpc, Request::new(request)).await.into_inner()).await;
    assert_eq!(numbers, [1, 2, 3]);
    let status = status.unwrap();
    assert_eq!((status.message(), &*reason(&status)), ("asked to fail at 4", "BACKEND_FAILED"));
}

#[tokio::test]
async fn a_client_whose_connection_is_cut_comes_back_and_loses_nothing() {
    let world = World::start("").await;
    let client = Client::unix(&world.daemon.grpc_socket()).await;
    let response = begin(&client, Request::new(pace(100, 5))).await;
    let task = task_id(&response);
    let mut stream = response.into_inner();
    for _ in 0..5 {
        stream.message().await.unwrap().unwrap();
    }
    drop((stream, client));
    let (numbers, gaps, ended) = told(world.watch(&task, 6).await).await;
    assert_eq!((numbers, gaps), ((6..=100).collect(), vec![]));
    assert_eq!(ended.state(), TaskState::Completed);

    // One of the bus that goes, and is somebody else on the bus when it comes again.
    let other = crate::dbus::connect(&world.daemon.bus).await;
    let mut watch = Watch::new(&other);
    let path = watch.begin("Pace", &(100_u32, with("interval", 5_000_i64))).await;
    for _ in 0..5 {
        watch.signal(&path).await;
    }
    drop(watch);
    other.close().await.unwrap();
    let again = crate::dbus::connect(&world.daemon.bus).await;
    call(&again, &path, TASK, "Wait", &(20_000_000_u64, none())).await.unwrap();
    let reply = call(&again, &path, TASK, "ReadMessages", &(1_u64, 1_000_u32, none())).await;
    let reply = reply.unwrap();
    let body = reply.body();
    let (messages, extra): (Vec<(u64, u64, Options<'_>)>, Options<'_>) =
        body.deserialize().unwrap();
    let numbers: Vec<u64> = messages.iter().map(|(seq, ..)| *seq).collect();
    assert_eq!((numbers, extra.len()), ((1..=100).collect(), 0));
}

#[tokio::test]
async fn past_the_ring_both_tell_one_gap() {
    let world = World::start("[tasks]\nring_messages = 16\n").await;
    let request = tokio_stream::iter([GenerateRequest { count: 1_000 }]);
    let response = world.grpc.stream::<_, GenerateResponse>(GENERATE, request).await.unwrap();
    let task = task_id(&response);
    let mut stream = response.into_inner();
    let mut read = 0;
    while let Some(message) = stream.message().await.unwrap() {
        read += 1;
        assert_eq!(message.number, read, "who reads loses nothing");
    }
    assert_eq!(read, 1_000);
    let (numbers, gaps, _) = told(world.watch(&task, 3).await).await;
    assert_eq!(gaps, [TaskGap { from: 3, to: 984 }]);
    assert_eq!(numbers, (985..=1_000).collect::<Vec<_>>());
    let path = task_path(&task);
    let reply = call(&world.bus, &path, TASK, "ReadMessages", &(3_u64, 0_u32, none())).await;
    let reply = reply.unwrap();
    let body = reply.body();
    let (messages, extra): (Vec<(u64, u64, Options<'_>)>, Options<'_>) =
        body.deserialize().unwrap();
    assert_eq!((messages.len(), messages[0].0), (16, 985));
    assert_eq!(<(u64, u64)>::try_from(extra["gap"].try_clone().unwrap()).unwrap(), (3, 984));

    for way in BOTH {
        for (request, expected) in [
            (json!({"id": task, "from_seq": "1002"}), "INVALID_ARGUMENT"),
            (json!({"id": "nobody"}), "NOT_FOUND"),
        ] {
            let outcome = world.call(way, ("tasks", "ReadTask"), request).await;
            assert_eq!(outcome, Err(expected.to_owned()), "{way:?}");
        }
    }
    let outcome = world.call(Way::Dbus, ("tasks", "CancelTask"), json!({"id": "nobody"})).await;
    assert_eq!(outcome, Err("NOT_FOUND".to_owned()));
}
