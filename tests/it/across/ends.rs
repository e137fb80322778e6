//! The end of the daemon while streams are open, in order and by a kill, and what the next one has.

use std::path::Path;

use nix::sys::signal::Signal;
use op_dbus::proto::opdbus::agent::probe::v1::{PaceRequest, PaceResponse};
use op_dbus::proto::opdbus::v1::TaskState;
use tonic::Code;

use super::{PACE, World, eventually, reason, task_id, told};
use crate::dbus::watch::{Watch, finished};
use crate::dbus::with;

const INTERVAL: i64 = 10_000;

/// Starts a task on each transport that goes on for long, and one on each that ends: their ids.
async fn begin(world: &World, watch: &mut Watch) -> [String; 4] {
    let stream = async |count: u32| {
        let interval = Some(prost_types::Duration { seconds: 0, nanos: 10_000_000 });
        let request = PaceRequest { count, interval, ..PaceRequest::default() };
        let request = tokio_stream::iter([request]);
        world.grpc.stream::<_, PaceResponse>(PACE, request).await.unwrap()
    };
    let id = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let over_grpc = stream(5).await;
    let ended = task_id(&over_grpc);
    let mut replies = over_grpc.into_inner();
    while replies.message().await.unwrap().is_some() {}
    let path = watch.begin("Pace", &(5_u32, with("interval", INTERVAL))).await;
    watch.until_end(&path).await;
    let long = watch.begin("Pace", &(100_000_u32, with("interval", INTERVAL))).await;
    // It goes on without its client, which is dropped here.
    let alone = task_id(&stream(100_000).await);
    [ended, id(&path), id(&long), alone]
}

/// Waits until the record has so many tasks that have ended and so many that have not.
async fn recorded(folder: &Path, ended: i64, running: i64) {
    let counts = || -> Result<(i64, i64), rusqlite::Error> {
        let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
        let file = folder.join("state").join("tasks.db");
        let database = rusqlite::Connection::open_with_flags(file, flags)?;
        database.query_row("SELECT count(ended_at), count(*) FROM task", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
    };
    eventually("they are recorded", async || {
        counts().is_ok_and(|found| found == (ended, ended + running))
    })
    .await;
}

/// Checks that the tasks that ended can be watched from a number on, as before.
async fn kept(world: &World, ids: &[String]) {
    for id in ids {
        let (numbers, gaps, task) = told(world.watch(id, 3).await).await;
        assert_eq!((numbers, gaps), (vec![3, 4, 5], vec![]));
        assert_eq!((task.state(), task.last_seq), (TaskState::Completed, 5));
    }
}

#[tokio::test]
async fn a_stop_ends_streams_as_unavailable_and_what_they_gave_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::keeping(folder.path(), "[daemon]\ndrain_grace_ms = 300\n").await;
    let mut watch = Watch::new(&world.bus);
    let ids = begin(&world, &mut watch).await;
    let interval = Some(prost_types::Duration { seconds: 0, nanos: 10_000_000 });
    let request = PaceRequest { count: 100_000, interval, ..PaceRequest::default() };
    let response = world.grpc.stream::<_, PaceResponse>(PACE, tokio_stream::iter([request])).await;
    let mut stream = response.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();

    let World { daemon, grpc, bus } = world;
    daemon.signal(Signal::SIGTERM);
    let status = loop {
        match stream.message().await {
            Ok(message) => assert!(message.is_some(), "it has not ended well"),
            Err(status) => break status,
        }
    };
    assert_eq!(
        (status.code(), &*reason(&status)),
        (Code::Unavailable, "UNAVAILABLE"),
        "{status:?}"
    );
    let path = op_dbus::contract::task_path(&ids[2]);
    let signals = watch.until_end(&path).await;
    let (state, name, _, last) = finished(&signals);
    assert_eq!((&*state, &*name), ("cancelled", "org.opdbus.Error.Unavailable"));
    drop((watch, bus, grpc, stream));
    let mut daemon = daemon;
    let code = tokio::task::spawn_blocking(move || daemon.wait().code()).await.unwrap();
    assert_eq!(code, Some(0));

    let world = World::keeping(folder.path(), "").await;
    kept(&world, &ids[..2]).await;
    for id in &ids[2..] {
        let (numbers, _, task) = told(world.watch(id, 0).await).await;
        assert_eq!(task.state(), TaskState::Cancelled);
        assert_eq!(task.failure.unwrap().reason, "UNAVAILABLE");
        assert!(task.last_seq > 0 && numbers.last() == Some(&task.last_seq), "{numbers:?}");
    }
    assert_eq!(world.task(&ids[2]).await.unwrap().last_seq, last);
}

#[tokio::test]
async fn after_a_kill_what_ended_is_watched_and_what_ran_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::keeping(folder.path(), "").await;
    let mut watch = Watch::new(&world.bus);
    let ids = begin(&world, &mut watch).await;
    recorded(folder.path(), 2, 2).await;
    let World { mut daemon, grpc, bus } = world;
    daemon.signal(Signal::SIGKILL);
    daemon.wait();
    drop((watch, grpc, bus));

    let world = World::keeping(folder.path(), "").await;
    kept(&world, &ids[..2]).await;
    for id in &ids[2..] {
        let (numbers, _, task) = told(world.watch(id, 0).await).await;
        assert_eq!((numbers.len(), task.state()), (0, TaskState::Failed));
        let failure = task.failure.unwrap();
        assert_eq!(
            (&*failure.reason, &*failure.message),
            ("UNAVAILABLE", "the service ended while it ran")
        );
    }
}
