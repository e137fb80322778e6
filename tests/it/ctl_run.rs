//! `op-dbusctl run` against a real daemon and its workers, over both transports: the program's streams
//! and its end as those of the command.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::commands::{number_in, runs};
use crate::ctl::{stderr, stdout, to};
use crate::ctl_live::TRANSPORTS;
use crate::process::{Daemon, PATIENCE};

struct World {
    daemon: Daemon,
    folder: TempDir,
}

impl World {
    fn new() -> Self {
        let daemon = Daemon::start("[worker]\nmin_uid = 0\n");
        Self { daemon, folder: tempfile::tempdir().unwrap() }
    }

    /// `op-dbusctl run` in the folder.
    fn command(&self, via: &str, words: &[&str]) -> Command {
        let mut command = to(&self.daemon, via);
        command.arg("run").args(words).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    fn run(&self, via: &str, words: &[&str]) -> Output {
        self.command(via, words).output().unwrap()
    }

    /// A script of this text in the folder.
    fn script(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }
}

#[track_caller]
fn assert_ended(output: &Output, code: i32) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
}

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it did not come about that {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn pid_in(path: &Path) -> u32 {
    wait_until("the program has begun", || number_in(path).is_some());
    number_in(path).unwrap()
}

#[test]
fn the_program_ends_and_prints_as_if_it_ran_here() {
    let world = World::new();
    world.script("three", "echo out; echo err >&2; exit 3");
    world.script("killed", "kill -TERM $$");
    for via in TRANSPORTS {
        assert_ended(&world.run(via, &["--", "true"]), 0);
        let output = world.run(via, &["--", "sh", "three"]);
        assert_ended(&output, 3);
        assert_eq!((&*stdout(&output), &*stderr(&output)), ("out\n", "err\n"), "{via}");
        assert_ended(&world.run(via, &["--", "sh", "killed"]), 128 + 15);

        let output = world.run(via, &["--limit", "500ms", "--", "sleep", "600"]);
        assert_ended(&output, 124);
        assert!(stderr(&output).contains("limits.wall"), "{output:?}");
        for words in [
            &["--", "/no/such/program"][..],
            &["--", "sh", "-c", "true"],
            &["--profile", "none", "--", "true"],
        ] {
            let output = world.run(via, words);
            assert_ended(&output, 125);
            assert!(stdout(&output).is_empty() && !stderr(&output).is_empty(), "{output:?}");
        }
    }
}

#[test]
fn input_environment_and_folder_are_given() {
    let world = World::new();
    // No text: every byte value, and more than one message's worth of output.
    let bytes: Vec<u8> = (0..=u8::MAX).cycle().take(512 << 10).collect();
    fs::write(world.folder.path().join("data"), &bytes).unwrap();
    for via in TRANSPORTS {
        let output = world.run(via, &["--input", "data", "--", "cat"]);
        assert_ended(&output, 0);
        assert!(output.stdout == bytes, "{via}: {} bytes", output.stdout.len());

        let mut child = world.command(via, &["--input", "-", "--", "cat"]);
        let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"from here").unwrap();
        assert_eq!(stdout(&child.wait_with_output().unwrap()), "from here", "{via}");

        let output = world.run(via, &["--env", "GREETING=hello=you", "--", "printenv", "GREETING"]);
        assert_eq!(stdout(&output), "hello=you\n", "{via}");
        let output = world.run(via, &["--env", "GREETING", "--", "true"]);
        assert_ended(&output, 125);
        assert!(stderr(&output).contains("has no `=`"), "{output:?}");
        let output = world.run(via, &["--", "pwd", "-P"]);
        let folder = world.folder.path().canonicalize().unwrap();
        assert_eq!(stdout(&output).trim_end(), folder.display().to_string(), "{via}");
    }
}

#[test]
fn what_is_required_is_enforced_or_nothing_runs() {
    let world = World::new();
    for via in TRANSPORTS {
        let output = world.run(via, &["--verbose", "--", "touch", via]);
        assert_ended(&output, 0);
        assert!(stderr(&output).contains("enforced: "), "{output:?}");
        // What a profile consists of; limits are no part of it.
        let parts = ["files: ", "scope: ", "sockets: ", "system_calls: "];
        let is_missing =
            |line: &str| parts.iter().any(|part| line.starts_with(&format!("{part}NOT")));
        let is_whole = !stderr(&output).lines().any(is_missing);
        let name = format!("{via}-required");
        let output = world.run(via, &["--require", "--", "touch", &name]);
        assert_ended(&output, if is_whole { 0 } else { 125 });
        assert_eq!(world.folder.path().join(&name).exists(), is_whole);
    }
}

#[test]
fn ctrl_c_ends_the_program_with_all_that_it_started() {
    let world = World::new();
    world.script("sleeps", "sleep 600 & echo $! > child; echo $$ > parent; echo ready; wait");
    for via in TRANSPORTS {
        let mut child = world.command(via, &["--", "sh", "sleeps"]);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut printed = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(printed.next().unwrap().unwrap(), "ready", "{via}");
        let pids = ["parent", "child"].map(|name| pid_in(&world.folder.path().join(name)));
        assert!(pids.iter().all(|pid| runs(*pid)));
        kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_ended(&output, 130);
        assert!(printed.next().is_none(), "{via}");
        for pid in pids {
            wait_until("it has ended", || !runs(pid));
        }
        for name in ["parent", "child"] {
            fs::remove_file(world.folder.path().join(name)).unwrap();
        }
    }
}

#[test]
fn a_reader_who_goes_away_ends_the_program() {
    let world = World::new();
    world.script("prints", "echo $$ > parent; while :; do echo line; done");
    for via in TRANSPORTS {
        let mut child = world.command(via, &["--", "sh", "prints"]);
        let mut child = child.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let parent = world.folder.path().join("parent");
        let pid = pid_in(&parent);
        drop(child.stdout.take());
        child.wait().unwrap();
        wait_until("it has ended", || !runs(pid));
        fs::remove_file(parent).unwrap();
    }
}
