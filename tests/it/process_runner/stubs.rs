//! Stubs run one program after the other: what stays with them, and when they end.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use op_dbus::process::{Exit, Keep, Limit, Policy, Profile, Running, Spec, remove_left_over};

use super::Place;
use crate::process::PATIENCE;

/// The process that watches a program.
fn stub_of(running: &Running) -> i32 {
    let status = fs::read_to_string(format!("/proc/{}/status", running.pid())).unwrap();
    status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().parse().unwrap()
}

/// Runs a program that waits until it is seen, and gives its stub.
async fn run(place: &Place, change: impl FnOnce(&mut Spec)) -> i32 {
    let mut spec = place.script("echo ready; read line; exit 0", &[]);
    spec.stdio = op_dbus::process::Stdio::Piped;
    change(&mut spec);
    let mut running = place.runner.start(spec).await.unwrap();
    let stub = stub_of(&running);
    running.take_input();
    running.finish(Keep::default()).await.unwrap();
    stub
}

fn wait_for_end(stub: i32) {
    let deadline = Instant::now() + PATIENCE;
    // A zombie has closed its socket as well. Until then it still takes orders, which nobody follows.
    let is_there = |stat: String| !stat.rsplit(')').next().unwrap().starts_with(" Z");
    while fs::read_to_string(format!("/proc/{stub}/stat")).is_ok_and(is_there) {
        assert!(Instant::now() < deadline, "the stub is left");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn a_stub_runs_one_program_after_the_other() {
    let place = Place::new();
    let first = run(&place, |_| {}).await;
    assert_eq!(run(&place, |_| {}).await, first);
    // Another filter of system calls needs another stub, and each is there for its own kind.
    let other = run(&place, |spec| spec.profile = Profile::Network).await;
    assert_ne!(other, first);
    assert_eq!(run(&place, |spec| spec.profile = Profile::Network).await, other);
    assert_eq!(run(&place, |spec| spec.profile = Profile::Read).await, first);
}

#[tokio::test]
async fn what_may_have_reached_its_stub_has_it_for_itself() {
    let place = Place::new();
    let off = run(&place, |spec| spec.policy = Policy::Off).await;
    wait_for_end(off);
    let none = run(&place, |spec| spec.profile = Profile::None).await;
    wait_for_end(none);
    assert_ne!(run(&place, |spec| spec.policy = Policy::Off).await, off);
}

#[tokio::test]
async fn a_stub_ends_after_a_program_that_was_stopped() {
    let place = Place::new();
    let mut running = place.runner.start(place.script("echo ready; sleep 60", &[])).await.unwrap();
    let stub = stub_of(&running);
    running.next().await.unwrap();
    running.handle().stop().unwrap();
    running.wait().await.unwrap();
    wait_for_end(stub);
    assert_ne!(run(&place, |_| {}).await, stub);
}

#[tokio::test]
async fn the_next_program_finds_nothing_of_the_last_one() {
    let place = Place::new();
    let script = "umask; ulimit -n; ls -A $TMPDIR; echo $TMPDIR; \
        mkdir -p $TMPDIR/a/b; echo x > $TMPDIR/a/b/file; chmod 0 $TMPDIR/a; umask 0; cd /";
    let run = |files| {
        let mut spec = place.script(script, &[]);
        spec.limits.open_files = files;
        spec.limits.processes = Some(files.try_into().unwrap());
        place.run(spec)
    };
    let first = run(100).await;
    let second = run(200).await;
    assert!(first.is_success() && second.is_success(), "{first:?} {second:?}");
    let (first, second) = (first.stdout.text(), second.stdout.text());
    let rest = first.strip_prefix("0022\n100\n").unwrap();
    // The same folder, so that nothing at all stands before its name.
    assert_eq!(second, format!("0022\n200\n{rest}"));
    assert!(rest.starts_with('/'), "{rest}");
    place.assert_nothing_is_left();
}

#[tokio::test]
async fn usage_is_each_programs_own() {
    let place = Place::new();
    let script = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
    let worked = place.run(place.script(script, &[])).await.ended.usage;
    let rested = place.run(place.spec(["true"])).await.ended.usage;
    assert!(worked.user > rested.user, "{worked:?} {rested:?}");
}

#[tokio::test]
async fn a_program_that_waits_costs_its_stub_next_to_nothing() {
    let place = Place::new();
    let mut spec = place.script("echo ready; exec sleep 600", &[]);
    spec.limits.cpu = Some(Duration::from_secs(600));
    spec.limits.memory_bytes = Some(256 << 20);
    spec.limits.processes = Some(64);
    let mut running = place.runner.start(spec).await.unwrap();
    running.next().await.unwrap();
    let stub = stub_of(&running);
    let wakings = || {
        let status = fs::read_to_string(format!("/proc/{stub}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.unwrap().trim().parse::<u64>().unwrap()
    };
    let (began, before) = (Instant::now(), wakings());
    tokio::time::sleep(Duration::from_secs(4)).await;
    let woken = wakings() - before;
    // Four in a second, and a few while it was not known to be quiet.
    let most = began.elapsed().as_millis() / 200 + 15;
    assert!(u128::from(woken) <= most, "{woken} times in {:?}", began.elapsed());
    assert!(woken > 0, "it does not look at all");
    running.handle().stop().unwrap();
    running.wait().await.unwrap();
    place.assert_nothing_is_left();
}

#[tokio::test]
async fn a_program_that_wakes_after_a_while_is_held_to_its_processor_time() {
    let place = Place::new();
    // Neither of the two reaches a second, which is the least that the kernel limits.
    let script = "sleep 2; spin() { while :; do :; done; }; spin & spin & wait";
    let mut spec = place.script(script, &[]);
    spec.limits.cpu = Some(Duration::from_millis(600));
    let finished = place.run(spec).await;
    assert_eq!(finished.ended.limit, Some(Limit::Cpu), "{finished:?}");
    place.assert_nothing_is_left();
}

#[tokio::test]
async fn a_signal_that_comes_late_reaches_nobody() {
    let place = Place::new();
    let mut first = place.runner.start(place.spec(["true"])).await.unwrap();
    let handle = first.handle();
    first.wait().await.unwrap();
    let mut second = place.runner.start(place.script("echo ready; read line", &[])).await.unwrap();
    assert!(handle.signal(9).is_err());
    assert!(handle.stop().is_err());
    drop(first);
    assert_eq!(second.wait().await.unwrap().exit, Exit::Code(1));
}

#[tokio::test]
async fn a_ready_stub_that_was_killed_is_replaced() {
    let place = Place::new();
    let stub = run(&place, |_| {}).await;
    kill(Pid::from_raw(stub), Signal::SIGKILL).unwrap();
    wait_for_end(stub);
    assert_ne!(run(&place, |_| {}).await, stub);
    // And one that was asked to end does.
    let stub = run(&place, |_| {}).await;
    kill(Pid::from_raw(stub), Signal::SIGTERM).unwrap();
    wait_for_end(stub);
}

#[tokio::test]
async fn ready_stubs_end_with_their_runner() {
    let place = Place::new();
    let stub = run(&place, |_| {}).await;
    let Place { folder, runner } = place;
    drop(runner);
    wait_for_end(stub);
    let left = fs::read_dir(folder.path().join("temporary")).unwrap().count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn what_a_killed_stub_leaves_is_removed_and_what_a_living_one_has_is_not() {
    let place = Place::new();
    let temporary = place.folder.path().join("temporary");
    let start = async || {
        let mut spec = place.script("echo x > \"$TMPDIR/file\"; echo ready; read line", &[]);
        spec.stdio = op_dbus::process::Stdio::Piped;
        let mut running = place.runner.start(spec).await.unwrap();
        running.next().await.unwrap().unwrap();
        running
    };
    let (living, killed) = (start().await, start().await);
    let stub = stub_of(&killed);
    kill(Pid::from_raw(stub), Signal::SIGKILL).unwrap();
    wait_for_end(stub);
    let files = || {
        let folders = fs::read_dir(&temporary).unwrap().flatten();
        folders.map(|folder| folder.path().join("file")).collect::<Vec<_>>()
    };
    assert_eq!(files().len(), 2);
    remove_left_over(&temporary);
    let left = files();
    assert_eq!(left.len(), 1);
    assert!(left[0].exists(), "it is the one that is used");
    drop(living);
}

#[tokio::test]
async fn long_orders_arrive() {
    let place = Place::new();
    for length in [15_000, 17_000, 100_000] {
        let long = "x".repeat(length);
        let finished = place.run(place.script("printf %s \"$1\" | wc -c", &[&long])).await;
        assert_eq!(finished.stdout.text().trim(), length.to_string());
    }
}

#[tokio::test]
async fn rules_for_files_are_those_of_each_program() {
    let place = Place::new();
    for folder in ["one", "two"] {
        fs::create_dir(place.work().join(folder)).unwrap();
    }
    let run = |folder: &str| {
        let mut spec = place.script("echo x > file && ls ..", &[]);
        spec.directory = place.work().join(folder).into();
        place.run(spec)
    };
    let stub = run_in(&place, "one").await;
    for folder in ["one", "two", "one", "two"] {
        let finished = run(folder).await;
        // It writes in its own folder, and does not see the one above.
        assert!(place.work().join(folder).join("file").exists(), "{finished:?}");
        assert!(!finished.is_success(), "{finished:?}");
        fs::remove_file(place.work().join(folder).join("file")).unwrap();
        // Exchanged for another one of the same name: the rules of the last program hold for the old.
        fs::rename(place.work().join(folder), place.work().join("old")).unwrap();
        fs::create_dir(place.work().join(folder)).unwrap();
        fs::remove_dir(place.work().join("old")).unwrap();
    }
    assert_eq!(run_in(&place, "one").await, stub);
}

#[tokio::test]
async fn a_program_of_its_folder_runs_where_nothing_else_of_the_folder_does() {
    let place = Place::new();
    for name in ["tool", "other"] {
        fs::write(place.work().join(name), "#!/bin/sh\n[ $0 = ./other ] || ./other\n").unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(place.work().join(name), mode).unwrap();
    }
    for (name, code) in [("./other", 0), ("./tool", 126)] {
        let mut spec = place.spec([name]);
        spec.profile = Profile::Read;
        assert_eq!(place.run(spec).await.ended.exit, Exit::Code(code), "{name}");
    }
}

/// Runs a program in a folder, and gives its stub.
async fn run_in(place: &Place, folder: &str) -> i32 {
    run(place, |spec| spec.directory = place.work().join(folder).into()).await
}
