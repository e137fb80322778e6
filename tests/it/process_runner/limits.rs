//! Programs that take too much: each is ended, the limit is named, and nothing is left.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use op_dbus::error::ErrorKind;
use op_dbus::process::{Exit, Limit, Mechanism, State};

use super::Place;

#[tokio::test]
async fn the_deadline_ends_a_program_and_keeps_what_it_wrote() {
    let place = Place::new();
    let mut spec = place.script("echo before; sleep 60; echo after", &[]);
    spec.limits.wall = Some(Duration::from_millis(300));
    let finished = place.run(spec).await;
    assert_eq!(finished.ended.limit, Some(Limit::Wall));
    assert_eq!(finished.ended.exit, Exit::Signal(15));
    assert!(finished.ended.wall >= Duration::from_millis(300), "{finished:?}");
    assert_eq!(finished.stdout.text(), "before\n");
    let error = finished.within_limits().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DeadlineExceeded);
    assert_eq!(error.fact("limit"), Some("limits.wall"));
    place.assert_nothing_is_left();
}

#[tokio::test]
async fn processor_time_is_counted_for_the_whole_tree() {
    let place = Place::new();
    // Neither of the two reaches a second, which is the least that the kernel limits.
    let script = "spin() { while :; do :; done; }; spin & spin & wait";
    let mut spec = place.script(script, &[]);
    spec.limits.cpu = Some(Duration::from_millis(600));
    let finished = place.run(spec).await;
    assert_eq!(finished.ended.limit, Some(Limit::Cpu), "{finished:?}");
    assert!(finished.ended.usage.user + finished.ended.usage.system >= Duration::from_millis(500));
    place.assert_nothing_is_left();
}

#[tokio::test]
async fn a_program_that_takes_memory_is_ended() {
    let place = Place::new();
    let mut spec = place.script("head -c 4000000000 /dev/zero | tail -c 4000000000 | wc -c", &[]);
    spec.limits.memory_bytes = Some(64 << 20);
    let running = place.runner.start(spec).await.unwrap();
    let by = running.report().state(Mechanism::Memory).clone();
    assert!(matches!(by, State::Enforced(_)), "{by}");
    let finished = running.finish(op_dbus::process::Keep::default()).await.unwrap();
    assert_eq!(finished.ended.limit, Some(Limit::Memory), "{finished:?}");
    assert!(finished.ended.usage.memory_max_bytes < 512 << 20, "{finished:?}");
    place.assert_nothing_is_left();
}

#[tokio::test]
async fn a_fork_bomb_is_ended() {
    let place = Place::of_nobody();
    let mut spec = place.script("bomb() { bomb | bomb & }; bomb; sleep 60", &[]);
    spec.limits.processes = Some(50);
    let finished = place.run(spec).await;
    assert_eq!(finished.ended.limit, Some(Limit::Processes), "{finished:?}");
    assert_eq!(finished.ended.unkillable, 0);
    let error = finished.within_limits().unwrap_err();
    assert_eq!(error.fact("limit"), Some("limits.processes"));
    place.assert_nothing_is_left();
}

#[tokio::test]
async fn a_fork_bomb_of_sessions_is_ended() {
    let place = Place::of_nobody();
    let bomb = place.work().join("bomb");
    fs::write(&bomb, "#!/bin/sh\nsetsid \"$0\" & setsid \"$0\" & exit 0\n").unwrap();
    fs::set_permissions(&bomb, fs::Permissions::from_mode(0o755)).unwrap();
    let mut spec = place.script("./bomb; sleep 60", &[]);
    spec.limits.processes = Some(50);
    let finished = place.run(spec).await;
    assert_eq!(finished.ended.limit, Some(Limit::Processes), "{finished:?}");
    assert_eq!(finished.ended.unkillable, 0);
    place.assert_nothing_is_left();
}

#[tokio::test]
async fn a_file_that_grows_too_large_ends_its_program() {
    let place = Place::new();
    let mut spec = place.script("exec head -c 10000000 /dev/zero > large", &[]);
    spec.limits.file_size_bytes = Some(1_000_000);
    let finished = place.run(spec).await;
    assert_eq!(finished.ended.limit, Some(Limit::FileSize), "{finished:?}");
    assert_eq!(fs::metadata(place.work().join("large")).unwrap().len(), 1_000_000);
}

#[tokio::test]
async fn open_files_are_limited_and_no_core_is_left() {
    let place = Place::new();
    let mut spec = place.script("ulimit -n; ulimit -c", &[]);
    spec.limits.open_files = 77;
    assert_eq!(place.run(spec).await.stdout.text(), "77\n0\n");
}
