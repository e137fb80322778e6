//! How many sessions there may be, and what ten thousand of them take.

use std::fs;
use std::time::{Duration, Instant};

use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::v1::StartSessionResponse;
use op_dbus::session::Config;

use super::{ALICE, BOB, World, context, folder, request};
use crate::grpc::Client;
use crate::process::Daemon;
use crate::process::PATIENCE;

#[tokio::test]
async fn past_a_limit_a_client_is_told_which() {
    let folder = folder();
    let world =
        World::new(folder.path(), Config { max: 3, max_per_caller: 2, ..Config::default() });
    let first = world.start(context(ALICE), "1").await.unwrap();
    world.start(context(ALICE), "2").await.unwrap();
    let error = world.start(context(ALICE), "3").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
    assert_eq!(error.fact("limit"), Some("sessions.max_per_caller"));
    assert_eq!(error.fact("limit_value"), Some("2"));
    world.start(context(BOB), "1").await.unwrap();
    let error = world.start(context(BOB), "2").await.unwrap_err();
    assert_eq!(error.fact("limit"), Some("sessions.max"));
    // One that is there already is no further one.
    world.resume(context(ALICE), "1", &first.token).await.unwrap();
    world.end(ALICE, "1").await.unwrap();
    world.start(context(BOB), "2").await.unwrap();
    world.metric(r#"opdbus_active_sessions{transport="grpc"} 3"#);
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_sessions_end_together() {
    let folder = folder();
    let config = Config { max_per_caller: 10_000, ..Config::default() };
    let world = World::new(folder.path(), config);
    for number in 0..10_000 {
        world.start(context(ALICE), &format!("session-{number}")).await.unwrap();
    }
    world.metric(r#"opdbus_active_sessions{transport="grpc"} 10000"#);
    let begun = Instant::now();
    tokio::time::advance(Duration::from_secs(1801)).await;
    while world.is_there(ALICE, "session-9999") {
        tokio::task::yield_now().await;
    }
    world.metric(r#"opdbus_active_sessions{transport="grpc"} 0"#);
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

/// The memory that the daemon has in use, in bytes.
fn resident(daemon: &Daemon) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn ten_thousand_sessions_take_little_memory() {
    const COUNT: usize = 10_000;
    let daemon = Daemon::start("[sessions]\nmax_per_caller = 16384\n");
    let client = Client::unix(&daemon.grpc_socket()).await;
    let start = async |id: String| {
        let path = "/opdbus.v1.SessionsService/StartSession";
        client.call::<_, StartSessionResponse>(path, request(&id)).await.unwrap();
    };
    // What the first ones take is there once: buffers, pages of the database.
    for number in 0..2000 {
        start(format!("first-{number}")).await;
    }
    let before = resident(&daemon);
    for number in 0..COUNT {
        start(format!("session-{number}")).await;
    }
    let each = resident(&daemon).saturating_sub(before) / COUNT;
    let name = r#"opdbus_active_sessions{transport="grpc"}"#;
    assert_eq!(daemon.metric(name), Some(12_000.0));
    assert!(each < 2048, "a session takes {each} bytes");
}
