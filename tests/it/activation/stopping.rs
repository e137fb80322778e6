//! Stops: of what nobody wants, and of nothing else.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use op_dbus::agents::Start;
use op_dbus::call::SessionScope;
use op_dbus::daemon::compose::Starts;
use op_dbus::executor::Config;
use op_dbus::host::State;
use op_dbus::proto::opdbus::agent::memory::v1::{RecallRequest, RememberRequest};
use op_dbus::testing::probe;

use super::{World, call, in_time, until};
use crate::fixture::Service;

const IDLE: Option<Duration> = Some(Duration::from_millis(150));

#[tokio::test]
async fn an_idle_agent_stops_and_the_next_call_finds_what_it_kept() {
    let starts = Starts {
        at_first_call: vec!["memory".into()],
        idle_stop: Some(Duration::from_millis(50)),
        ..Starts::default()
    };
    let service = Service::starting(Config::default(), &starts, tempfile::tempdir().unwrap());
    let executor = &service.executor;
    let mut changes = executor.registry().changes();
    for round in 0..3 {
        let key = format!("key-{round}");
        let value = Some(prost_types::Value { kind: None });
        let remember = RememberRequest { key, value, ..RememberRequest::default() };
        call(executor, "memory", "Remember", remember).await.unwrap();
        let stopped = in_time(async {
            loop {
                let change = changes.next().await;
                if &*change.agent == "memory" && change.state == State::Stopping {
                    return changes.next().await;
                }
            }
        })
        .await;
        assert_eq!(stopped.state, State::Stopped);
        // The file is closed: another may have it.
        let lock = std::fs::File::open(service.folder.path().join("memory.lock")).unwrap();
        lock.try_lock().unwrap();
    }
    for round in 0..3 {
        let recall = RecallRequest { key: format!("key-{round}"), ..RecallRequest::default() };
        call(executor, "memory", "Recall", recall).await.unwrap();
    }
    let metrics = executor.metrics().render().unwrap();
    assert!(metrics.contains("opdbus_store{agent=\"memory\",quantity=\"keys\"} 3\n"), "{metrics}");
}

#[tokio::test]
async fn a_call_that_runs_keeps_its_agent() {
    let world = World::new(Start::AtFirstCall, IDLE, |_| Ok(probe()));
    let mut changes = world.registry().changes();
    let begun = Instant::now();
    let sleep = world.sleep(800);
    until(&mut changes, State::Busy).await;
    in_time(sleep).await.unwrap().unwrap();
    // Next it is running, and only then stopping.
    assert_eq!(in_time(changes.next()).await.state, State::Running);
    assert_eq!(in_time(changes.next()).await.state, State::Stopping);
    assert!(begun.elapsed() >= Duration::from_millis(950), "{:?}", begun.elapsed());
    assert_eq!(world.builds(), 1);
    assert_eq!(world.count().await.unwrap(), 1, "it was built anew");
    assert_eq!(world.builds(), 2);
}

#[tokio::test]
async fn calls_that_come_while_it_stops_start_it_anew() {
    /// Holds up the end of what it is part of.
    struct Slow(Arc<dyn op_dbus::contract::Agent>);
    impl Drop for Slow {
        fn drop(&mut self) {
            thread::sleep(Duration::from_millis(200));
        }
    }
    impl op_dbus::contract::Agent for Slow {
        fn service(&self) -> &'static str {
            self.0.service()
        }
        fn call<'a>(
            &'a self,
            operation: usize,
            context: &'a op_dbus::call::Context,
            request: bytes::Bytes,
        ) -> op_dbus::contract::Running<'a, bytes::Bytes> {
            self.0.call(operation, context, request)
        }
        fn stream<'a>(
            &'a self,
            operation: usize,
            context: &'a op_dbus::call::Context,
            requests: op_dbus::contract::RawRequests,
            replies: op_dbus::contract::RawReplies,
        ) -> op_dbus::contract::Running<'a, ()> {
            self.0.stream(operation, context, requests, replies)
        }
        fn session_ended<'a>(
            &'a self,
            session: &'a SessionScope,
        ) -> op_dbus::contract::Running<'a, ()> {
            self.0.session_ended(session)
        }
    }
    let world = World::new(Start::AtFirstCall, IDLE, |_| Ok(Arc::new(Slow(probe()))));
    let mut changes = world.registry().changes();
    world.count().await.unwrap();
    until(&mut changes, State::Stopping).await;
    let counted =
        in_time(futures_util::future::try_join_all((0..10).map(|_| world.count()))).await.unwrap();
    assert_eq!(counted.iter().max(), Some(&10));
    assert_eq!(world.builds(), 2);
    let states = [State::Stopped, State::Starting, State::Running];
    for state in states {
        assert_eq!(in_time(changes.next()).await.state, state);
    }
}

#[tokio::test]
async fn a_session_keeps_its_agents_and_no_others() {
    for (start, is_kept) in [(Start::WithSession, true), (Start::AtFirstCall, false)] {
        let world = World::new(start, IDLE, |_| Ok(probe()));
        let mut changes = world.registry().changes();
        let session = world.registry().session_opened(1000);
        world.count().await.unwrap();
        if is_kept {
            tokio::time::sleep(Duration::from_millis(600)).await;
            assert_eq!(world.state(), State::Running);
        }
        let second = world.registry().session_opened(1000);
        drop(session);
        if is_kept {
            tokio::time::sleep(Duration::from_millis(400)).await;
            assert_eq!(world.state(), State::Running);
            drop(second);
        }
        until(&mut changes, State::Stopped).await;
        assert_eq!(world.builds(), 1);
    }
}

#[tokio::test]
async fn what_starts_with_the_daemon_stays() {
    let starts = Starts { idle_stop: Some(Duration::from_millis(20)), ..Starts::default() };
    let service = Service::starting(Config::default(), &starts, tempfile::tempdir().unwrap());
    let registry = service.executor.registry();
    let recall = RecallRequest { key: "none".into(), ..RecallRequest::default() };
    call(&service.executor, "memory", "Recall", recall).await.unwrap_err();
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(registry.roster().condition("memory").unwrap().state, State::Running);
}

#[tokio::test]
async fn the_end_of_a_session_reaches_an_agent_that_has_stopped() {
    let world = World::new(Start::AtFirstCall, IDLE, |number| match number {
        3 => Err(op_dbus::error::Error::internal("not this time")),
        _ => Ok(probe()),
    });
    let mut changes = world.registry().changes();
    let snapshot = world.registry().snapshot();
    let probe = snapshot.registrations().find(|found| found.service.id == "probe").unwrap();
    let session = SessionScope { uid: 1000, id: "s".into() };
    for builds in 1..=2 {
        in_time(probe.host.session_ended(&session)).await.unwrap();
        assert_eq!(world.builds(), builds);
        until(&mut changes, State::Stopping).await;
        until(&mut changes, State::Stopped).await;
    }
    // It cannot be started for that: nothing hangs, and nobody is bothered.
    in_time(probe.host.session_ended(&session)).await.unwrap();
    assert_eq!((world.builds(), world.state()), (3, State::Failed));
}
