//! When readers hear of changes, and when it will all be over.

use std::time::{Duration, SystemTime};

use futures_util::FutureExt as _;

use super::{Place, config, give};
use crate::call::{Context, Reporter as _};
use crate::contract::InputWatch as _;
use crate::proto::opdbus::v1::{CancelTaskRequest, TasksService as _};
use crate::task::record::expected_end;
use crate::task::{End, Event, PROGRESS_PAUSE, Reading, Service, State};

const CHANGES: Reading = Reading { from: 0, is_client: false, changes: true };

#[tokio::test(start_paused = true)]
async fn progress_is_told_now_and_then_and_the_last_of_it_always() {
    let place = Place::new(config(16, 1024));
    let task = place.start();
    let mut reader = task.read(CHANGES).unwrap();
    task.progress(1, 1000, "lines");
    assert!(matches!(reader.next().await, Some(Event::Changed)));
    let mut told = 0;
    for done in 2..=1000 {
        task.progress(done, 1000, "lines");
        tokio::time::advance(Duration::from_millis(1)).await;
        told += usize::from(reader.next().now_or_never().is_some());
    }
    assert!((8..=10).contains(&told), "{told} times in a second");
    // Nothing happens any more, and what was held back comes.
    task.progress(1001, 2000, "lines");
    let waited = tokio::time::Instant::now();
    assert!(matches!(reader.next().await, Some(Event::Changed)));
    assert!(waited.elapsed() <= PROGRESS_PAUSE);
    assert_eq!(task.record().progress.unwrap().done, 1001);
    // The same again is no change.
    task.progress(1001, 2000, "lines");
    tokio::time::sleep(PROGRESS_PAUSE * 2).await;
    assert!(reader.next().now_or_never().is_none());
}

#[tokio::test(start_paused = true)]
async fn messages_and_the_end_are_not_held_back() {
    let place = Place::new(config(16, 1024));
    let task = place.start();
    let mut reader = task.read(CHANGES).unwrap();
    task.progress(1, 2, "");
    assert!(matches!(reader.next().await, Some(Event::Changed)));
    task.progress(2, 2, "");
    assert!(give(&task, b"x"));
    assert!(matches!(reader.next().now_or_never(), Some(Some(Event::Message(_)))));
    assert!(reader.next().now_or_never().is_none());
    place.tasks.end(&task, End::Completed);
    assert!(matches!(reader.next().now_or_never(), Some(Some(Event::Ended(Ok(()))))));
}

#[tokio::test(start_paused = true)]
async fn waiting_for_input_is_a_state() {
    let place = Place::new(config(16, 1024));
    let task = place.start();
    let mut reader = task.read(CHANGES).unwrap();
    task.waits_for_input(true);
    assert_eq!(task.state(), State::InputRequired);
    assert!(matches!(reader.next().await, Some(Event::Changed)));
    let text = place.metrics.render().unwrap();
    assert!(text.contains("opdbus_tasks{state=\"input_required\"} 1"), "{text}");
    assert!(text.contains("opdbus_tasks{state=\"working\"} 0"), "{text}");
    task.waits_for_input(false);
    assert_eq!(task.state(), State::Working);
    place.tasks.end(&task, End::Completed);
    task.waits_for_input(true);
    assert_eq!(task.state(), State::Completed);
    let text = place.metrics.render().unwrap();
    assert!(text.contains("opdbus_tasks{state=\"working\"} 0"), "{text}");
    assert!(text.contains("opdbus_tasks_kept 1"), "{text}");
}

#[test]
fn the_end_is_foretold_from_the_pace_so_far() {
    let place = Place::new(config(16, 1024));
    let task = place.start();
    let began = task.snapshot().began_at.unwrap();
    let at = began + Duration::from_secs(10);
    let expected = |done, total| {
        task.progress(done, total, "");
        expected_end(&task.snapshot(), at)
    };
    assert_eq!(expected(0, 100), None);
    assert_eq!(expected(25, 100), Some(began + Duration::from_secs(40)));
    assert_eq!(expected(100, 100), Some(at));
    assert_eq!(expected(200, 100), Some(at), "more than everything is everything");
    assert_eq!(expected(1, u64::MAX), None, "too far away to say");
    assert!(expected_end(&task.snapshot(), SystemTime::UNIX_EPOCH).is_none());
    place.tasks.end(&task, End::Completed);
    assert_eq!(expected(50, 100), None);
}

/// The work of this task is never run, as if its agent did not let go.
#[tokio::test(start_paused = true)]
async fn a_task_that_cannot_be_stopped_at_once_says_so() {
    let place = Place::new(config(16, 1024));
    let task = place.start();
    let service = Service::new(std::sync::Arc::clone(&place.tasks));
    let context = Context::new(std::sync::Arc::clone(task.caller()), task.transport());
    let cancel = async || {
        let request = CancelTaskRequest { id: task.id().to_string() };
        service.cancel_task(&context, request).await.unwrap()
    };
    let asked = tokio::time::Instant::now();
    let response = cancel().await;
    assert!(!response.ended);
    assert!(response.reason.contains("probe"), "{}", response.reason);
    assert_eq!(asked.elapsed(), Duration::from_millis(100));
    assert_eq!(task.state(), State::Working);
    let cause = task.cancelled().await;
    place.tasks.end(&task, End::Cancelled(cause));
    let response = cancel().await;
    assert!(response.ended && response.reason.is_empty());
    assert_eq!(task.state(), State::Cancelled);
}
