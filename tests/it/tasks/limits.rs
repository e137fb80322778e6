//! What bounds tasks, and what they hear who meet a bound.

use std::time::Duration;

use op_dbus::call::Context;
use op_dbus::error::ErrorKind;
use op_dbus::executor::{Config, Input};
use op_dbus::proto::opdbus::v1::WatchTaskRequest;
use op_dbus::task::{Event, State};

use super::{context, encoded, get, next, over, pace, start};
use crate::fixture::Service;
use crate::process::PATIENCE;

#[tokio::test]
async fn so_many_run_at_once() {
    let mut config = Config::default();
    (config.tasks.max_running, config.tasks.max_running_per_caller) = (3, 2);
    let service = Service::new(config);
    let long = pace(1000, 50);
    let first = start(&service, context(1), "Pace", &long).await.unwrap();
    start(&service, context(1), "Pace", &long).await.unwrap();
    let error = start(&service, context(1), "Pace", &long).await.unwrap_err();
    assert_eq!(error.fact("limit"), Some("tasks.max_running_per_caller"));
    assert_eq!((error.kind(), error.fact("limit_value")), (ErrorKind::LimitExceeded, Some("2")));
    assert!(error.retry_after().is_some());
    start(&service, context(2), "Pace", &long).await.unwrap();
    let error = start(&service, context(3), "Pace", &long).await.unwrap_err();
    assert_eq!(error.fact("limit"), Some("tasks.max_running"));
    // Views are no tasks.
    let route = service.executor.find("tasks", "WatchTask").unwrap();
    let request = WatchTaskRequest { id: first.id().to_string(), ..Default::default() };
    let input = Input::One(encoded(&request));
    let mut view = service.executor.start_reading(&route, context(1), input, false).await.unwrap();
    assert!(matches!(next(&mut view).await, Some(Event::Message(_))));
    // What ends makes room.
    first.cancel();
    over(&first).await;
    start(&service, context(1), "Pace", &long).await.unwrap();
}

#[tokio::test]
async fn what_has_ended_is_kept_for_a_time() {
    let mut config = Config::default();
    config.tasks.keep = Duration::from_millis(80);
    let service = Service::new(config);
    let task = start(&service, context(1), "Pace", &pace(1, 0)).await.unwrap();
    over(&task).await;
    get(&service, context(1), task.id()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    let error = get(&service, context(1), task.id()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = service.executor.metrics().render().unwrap();
    assert!(text.contains("opdbus_tasks_kept 0"), "{text}");
}

#[tokio::test]
async fn who_has_most_makes_room_for_the_others() {
    let mut config = Config::default();
    config.tasks.keep_max = 4;
    let service = Service::new(config);
    let run = async |uid| {
        let task = start(&service, context(uid), "Pace", &pace(1, 0)).await.unwrap();
        over(&task).await;
        task.id().to_string()
    };
    let lonely = run(1).await;
    let mut many = Vec::new();
    for _ in 0..20 {
        many.push(run(2).await);
    }
    get(&service, context(1), &lonely).await.unwrap();
    for (index, id) in many.iter().enumerate() {
        assert_eq!(get(&service, context(2), id).await.is_ok(), index >= 17, "{index}");
    }
}

#[tokio::test]
async fn a_reload_moves_the_limits() {
    let service = Service::new(Config::default());
    let mut config = Config::default();
    (config.tasks.max_running, config.tasks.max_running_per_caller) = (1, 1);
    service.executor.reconfigure(config);
    start(&service, context(1), "Pace", &pace(1000, 50)).await.unwrap();
    let error = start(&service, context(1), "Pace", &pace(1, 0)).await.unwrap_err();
    assert_eq!(error.fact("limit_value"), Some("1"));
}

#[tokio::test]
async fn stopping_ends_what_waits_at_once_and_the_rest_after_the_grace() {
    let service = Service::new(Config::default());
    let task = start(&service, context(1), "Pace", &pace(1000, 50)).await.unwrap();
    let route = service.executor.find("tasks", "WatchTask").unwrap();
    let request = WatchTaskRequest { id: task.id().to_string(), ..Default::default() };
    let input = Input::One(encoded(&request));
    let mut view = service.executor.start_reading(&route, context(1), input, false).await.unwrap();
    assert!(matches!(next(&mut view).await, Some(Event::Message(_))));
    service.executor.drain();
    let error = start(&service, context(1), "Pace", &pace(1, 0)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let outcome = loop {
        match next(&mut view).await {
            Some(Event::Ended(outcome)) => break outcome,
            Some(_) => {}
            None => panic!("no end"),
        }
    };
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(task.state(), State::Working);
    service.executor.tasks().stop(Duration::from_secs(5)).await;
    assert_eq!(task.state(), State::Cancelled);
    let failure = task.record().failure.unwrap();
    assert_eq!((&*failure.reason, &*failure.message), ("UNAVAILABLE", "the service is stopping"));
    tokio::time::timeout(PATIENCE, service.executor.idle()).await.unwrap();
}

#[tokio::test]
async fn request_ids_of_tasks_are_bounded() {
    let service = Service::new(Config { request_id_max: 1, ..Config::default() });
    let with_id = |id: &str| Context { request_id: Some(id.into()), ..context(1) };
    start(&service, with_id("a"), "Pace", &pace(1000, 50)).await.unwrap();
    let error = start(&service, with_id("b"), "Pace", &pace(1, 0)).await.unwrap_err();
    assert_eq!(error.fact("limit"), Some("executor.request_id_max"));
}
