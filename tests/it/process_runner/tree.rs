//! The end of programs and of all that they started.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use op_dbus::error::ErrorKind;
use op_dbus::process::{Exit, Keep, Mechanism, Running, State};

use super::Place;
use crate::process::PATIENCE;

/// Waits until the program has written something.
async fn wait_for_output(running: &mut Running) {
    let chunk = tokio::time::timeout(PATIENCE, running.next()).await.unwrap().unwrap();
    assert!(chunk.is_some(), "it wrote nothing");
}

#[tokio::test]
async fn who_ignores_the_request_to_end_is_killed_after_the_grace() {
    let place = Place::new();
    let mut spec = place.script("trap '' TERM; echo ready; while :; do sleep 0.1; done", &[]);
    spec.limits.grace = Duration::from_millis(400);
    let mut running = place.runner.start(spec).await.unwrap();
    wait_for_output(&mut running).await;
    let asked = Instant::now();
    running.handle().stop().unwrap();
    let ended = running.wait().await.unwrap();
    assert!(asked.elapsed() >= Duration::from_millis(400), "{:?}", asked.elapsed());
    assert_eq!((ended.exit, ended.stopped, ended.limit), (Exit::Signal(9), true, None));
    place.assert_nothing_is_left();
}

#[tokio::test]
async fn who_ends_when_asked_has_the_time_for_it() {
    let place = Place::new();
    let script =
        "trap 'sleep 0.3; echo bye; exit 7' TERM; echo ready; while :; do sleep 0.05; done";
    let mut spec = place.script(script, &[]);
    spec.limits.grace = PATIENCE;
    let mut running = place.runner.start(spec).await.unwrap();
    wait_for_output(&mut running).await;
    running.handle().stop().unwrap();
    let finished = running.finish(Keep::default()).await.unwrap();
    assert_eq!(finished.ended.exit, Exit::Code(7));
    assert!(finished.stdout.text().ends_with("bye\n"));
    place.assert_nothing_is_left();
}

#[tokio::test]
async fn signals_reach_the_group() {
    let place = Place::new();
    // Not what the shell says of its child, which the signal ends.
    let script =
        "exec 2> /dev/null; trap 'echo got it' USR1; echo ready; while :; do sleep 0.05; done";
    let mut running = place.runner.start(place.script(script, &[])).await.unwrap();
    wait_for_output(&mut running).await;
    running.handle().signal(Signal::SIGUSR1 as i32).unwrap();
    let chunk = tokio::time::timeout(PATIENCE, running.next()).await.unwrap().unwrap();
    assert_eq!(chunk.unwrap().text(), "got it\n");
    assert_eq!(running.handle().signal(99).unwrap_err().kind(), ErrorKind::InvalidArgument);
}

#[tokio::test]
async fn a_daemon_that_a_program_leaves_behind_is_ended() {
    let place = Place::new();
    let script = "setsid sh -c 'setsid sleep 1000 & sleep 1000' > /dev/null 2>&1 & \
                  (setsid sleep 1000 &); sleep 0.3; echo done";
    let finished = place.run(place.script(script, &[])).await;
    assert_eq!(finished.ended.exit, Exit::Code(0));
    assert_eq!(finished.stdout.text(), "done\n");
    assert!(finished.ended.left_behind >= 3, "{finished:?}");
    assert_eq!(finished.ended.unkillable, 0);
    place.assert_nothing_is_left();
}

#[tokio::test]
async fn dropping_a_program_ends_its_tree() {
    let place = Place::new();
    let script = "(setsid sleep 1000 &); echo ready; sleep 1000";
    let mut running = place.runner.start(place.script(script, &[])).await.unwrap();
    wait_for_output(&mut running).await;
    let deadline = Instant::now() + PATIENCE;
    while place.processes() < 3 {
        assert!(Instant::now() < deadline, "the daemon does not run");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A handle does not keep it.
    let handle = running.handle();
    drop(running);
    place.wait_until_nothing_is_left();
    assert!(handle.stop().is_err());
}

#[tokio::test]
async fn if_the_stub_is_killed_the_program_ends_and_the_caller_hears_it() {
    let place = Place::new();
    let mut running = place.runner.start(place.spec(["sleep", "1000"])).await.unwrap();
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim();
    kill(Pid::from_raw(parent.parse().unwrap()), Signal::SIGKILL).unwrap();
    let ended = tokio::time::timeout(PATIENCE, running.wait()).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Internal);
    assert!(running.next().await.unwrap().is_none());
    let deadline = Instant::now() + PATIENCE;
    while place.processes() > 0 {
        assert!(Instant::now() < deadline, "the program is left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_cgroup_is_made_and_removed() {
    let Some(parent) = writable_cgroup() else {
        eprintln!("SKIPPED: a_cgroup_is_made_and_removed: there is no writable cgroup v2 here");
        return;
    };
    let place = Place::with_cgroup(Some(parent.clone()));
    let script = "cat /proc/self/cgroup; (setsid sleep 1000 &); sleep 0.1";
    let running = place.runner.start(place.script(script, &[])).await.unwrap();
    assert_eq!(
        running.report().state(Mechanism::Cgroup),
        &State::Enforced("cgroup.kill".to_owned())
    );
    let finished = running.finish(Keep::default()).await.unwrap();
    assert!(finished.stdout.text().contains("/run-"), "{}", finished.stdout.text());
    assert_eq!(finished.ended.left_behind, 1);
    place.assert_nothing_is_left();
    // This fails if the program's cgroup is still in it.
    fs::remove_dir(&parent).unwrap();
}

#[tokio::test]
async fn a_cgroup_that_cannot_be_made_is_reported() {
    let place = Place::with_cgroup(Some("/proc/nowhere".into()));
    let running = place.runner.start(place.spec(["true"])).await.unwrap();
    let state = running.report().state(Mechanism::Cgroup).clone();
    assert!(matches!(&state, State::Unavailable(why) if why.contains("/proc/nowhere")), "{state}");
    assert!(running.finish(Keep::default()).await.unwrap().is_success());
}

/// A cgroup for this test, if it may make one.
fn writable_cgroup() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
    let path =
        Path::new(mount.split(' ').nth(1)?).join(format!("op-dbus-test-{}", std::process::id()));
    fs::create_dir(&path).ok().map(|()| path)
}
