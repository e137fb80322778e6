//! Starts: once for all who wait, again after a failure, ahead of a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use op_dbus::agents::Start;
use op_dbus::daemon::compose::Starts;
use op_dbus::error::{Error, ErrorKind};
use op_dbus::executor::Config;
use op_dbus::host::State;
use op_dbus::testing::probe;
use rusqlite::Connection;

use super::{World, call, in_time, until};
use crate::fixture::Service;

fn unavailable(text: &str) -> Error {
    Error::new(ErrorKind::BackendFailed, text)
}

#[tokio::test]
async fn concurrent_first_calls_start_an_agent_once() {
    let world = World::new(Start::AtFirstCall, None, |_| {
        thread::sleep(Duration::from_millis(50));
        Ok(probe())
    });
    assert_eq!(world.state(), State::Stopped);
    let mut counted =
        in_time(futures_util::future::try_join_all((0..50).map(|_| world.count()))).await.unwrap();
    counted.sort_unstable();
    assert_eq!(counted, (1..=50).collect::<Vec<u64>>());
    assert_eq!(world.builds(), 1);
    assert!(world.metric(r#"opdbus_agent_starts_total{agent="probe",outcome="ok"} 1"#));
    assert!(world.metric(r#"opdbus_agent_start_duration_seconds_count{agent="probe"} 1"#));
}

#[tokio::test]
async fn a_caller_that_gives_up_does_not_end_the_start() {
    let world = World::new(Start::AtFirstCall, None, |_| {
        thread::sleep(Duration::from_millis(100));
        Ok(probe())
    });
    let mut changes = world.registry().changes();
    assert!(tokio::time::timeout(Duration::from_millis(10), world.count()).await.is_err());
    let running = until(&mut changes, State::Running).await;
    assert!(running.took.unwrap() >= Duration::from_millis(100));
    assert_eq!(world.count().await.unwrap(), 1);
    assert_eq!(world.builds(), 1);
}

#[tokio::test]
async fn after_a_failed_start_calls_are_refused_at_once_until_it_is_tried_again() {
    let works = Arc::new(AtomicBool::new(false));
    let may = Arc::clone(&works);
    let world = World::new(Start::AtFirstCall, None, move |_| {
        may.load(Ordering::SeqCst).then(probe).ok_or_else(|| unavailable("the well is dry"))
    });
    let first = world.count().await.unwrap_err();
    let begun = Instant::now();
    let mut error = first;
    while world.builds() == 1 {
        assert_eq!(error.kind(), ErrorKind::BackendUnavailable);
        assert!(error.message().contains("the well is dry"), "{error}");
        assert_eq!(error.fact("cause"), Some("BACKEND_FAILED"));
        assert!(error.retry_after().unwrap() <= Duration::from_millis(250));
        tokio::time::sleep(Duration::from_millis(5)).await;
        error = world.count().await.unwrap_err();
    }
    assert!(begun.elapsed() > Duration::from_millis(150), "{:?}", begun.elapsed());
    // The pause has doubled.
    assert!(error.retry_after().unwrap() > Duration::from_millis(250), "{error:?}");
    assert_eq!(world.state(), State::Failed);
    assert!(world.metric(r#"opdbus_agent_state{agent="probe",state="failed"} 1"#));
    assert!(world.metric(r#"opdbus_agent_starts_total{agent="probe",outcome="failed"} 2"#));

    works.store(true, Ordering::SeqCst);
    in_time(async {
        while world.count().await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(world.builds(), 3);
    assert!(world.metric(r#"opdbus_agent_state{agent="probe",state="failed"} 0"#));
}

#[tokio::test]
async fn a_panic_while_an_agent_starts_is_a_failed_start() {
    let world = World::new(Start::AtFirstCall, None, |number| {
        assert_ne!(number, 1, "a build that panics on purpose");
        Ok(probe())
    });
    let error = world.count().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BackendUnavailable);
    assert!(error.message().contains("panicked"), "{error}");
    assert_eq!(error.fact("cause"), Some("INTERNAL"));
    tokio::time::sleep(error.retry_after().unwrap()).await;
    assert_eq!(world.count().await.unwrap(), 1);
}

#[tokio::test]
async fn while_a_session_is_open_its_agents_are_tried_again_by_themselves() {
    let world = World::new(Start::WithSession, None, |number| {
        if number < 3 { Err(unavailable("not yet")) } else { Ok(probe()) }
    });
    let mut changes = world.registry().changes();
    let session = world.registry().session_opened(1000);
    let warmed = in_time(world.registry().warm(1000)).await;
    let [started] = warmed.as_slice() else { panic!("{warmed:?}") };
    assert_eq!((&*started.agent, started.state), ("probe", State::Failed));
    assert!(started.reason.contains("not yet") && started.took.is_none(), "{started:?}");
    // Nobody calls.
    until(&mut changes, State::Running).await;
    assert_eq!(world.builds(), 3);
    drop(session);
}

#[tokio::test]
async fn without_a_session_nobody_tries_again() {
    let world = World::new(Start::WithSession, None, |_| Err(unavailable("never")));
    in_time(world.registry().warm(1000)).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(world.builds(), 1);
}

#[tokio::test]
async fn a_session_finds_its_agents_ready() {
    let starts = Starts {
        with_session: vec!["probe".into()],
        at_first_call: vec!["sequential_thinking".into()],
        ..Starts::default()
    };
    let folder = tempfile::tempdir().unwrap();
    let service = Service::starting(Config::default(), &starts, folder);
    let registry = service.executor.registry();
    let state = |agent: &str| registry.roster().condition(agent).unwrap().state;
    assert_eq!(state("memory"), State::Running);
    assert_eq!(state("context_manager"), State::Stopped);
    let warmed = in_time(registry.warm(1000)).await;
    let said: Vec<_> =
        warmed.iter().map(|s| (&*s.agent, s.state, s.took.is_some(), s.reason.as_str())).collect();
    assert_eq!(
        said,
        [
            ("context_manager", State::Running, true, ""),
            ("memory", State::Running, false, ""),
            ("probe", State::Running, true, ""),
        ]
    );
    assert_eq!(state("sequential_thinking"), State::Stopped);
    let shared = Arc::clone(registry);
    let again = in_time(tokio::spawn(async move { shared.warm(1000).await })).await.unwrap();
    assert!(again.len() == 3 && again.iter().all(|started| started.took.is_none()), "{again:?}");
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_a_reason_and_its_repair_a_recovery() {
    use op_dbus::proto::opdbus::agent::context_manager::v1::ListRequest;
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("context_manager.db");
    let service = Service::new(Config::default());
    call(&service.executor, "context_manager", "List", ListRequest::default()).await.unwrap();
    let made = service.folder.path().join("context_manager.db");
    let version = |version: Option<i64>| {
        let connection = Connection::open(&database).unwrap();
        match version {
            Some(version) => {
                connection.pragma_update(None, "user_version", version).unwrap();
                version
            }
            None => connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap(),
        }
    };
    Connection::open(made)
        .unwrap()
        .execute("VACUUM INTO ?1", [database.to_str().unwrap()])
        .unwrap();
    let right = version(None);
    version(Some(right + 1));

    let service = Service::starting(Config::default(), &Starts::default(), folder);
    let list = || call(&service.executor, "context_manager", "List", ListRequest::default());
    let error = list().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BackendUnavailable);
    assert!(error.message().contains("newer"), "{error}");
    // The others go on.
    let memory = op_dbus::proto::opdbus::agent::memory::v1::ListRequest::default();
    call(&service.executor, "memory", "List", memory).await.unwrap();

    version(Some(right));
    tokio::time::sleep(error.retry_after().unwrap()).await;
    list().await.unwrap();
}
