//! Texts that take too long, that nobody waits for, and that do not heed an interrupt.

use std::time::{Duration, Instant};

use tonic::Code;

use super::{POSIX, World, little_grace};
use crate::grpc::{check_error, eventually};
use crate::process::PATIENCE;

const SOON: Option<Duration> = Some(Duration::from_millis(300));

#[tokio::test]
async fn a_text_whose_time_is_over_is_interrupted_and_the_shell_goes_on() {
    let world = World::new().await;
    for kind in POSIX {
        let shell = world.open(kind).await;
        world.run(&shell, "x=kept").await;
        for text in
            ["sleep 100; echo not", "while :; do :; done", "(sleep 100; echo not) | cat; echo not"]
        {
            let begun = Instant::now();
            let ran = world.run_for(&shell, &format!("echo begun; {text}"), SOON).await.unwrap();
            assert!(ran.done.timed_out && !ran.done.shell_ended, "{kind}: {text}: {ran:?}");
            assert_eq!((ran.done.code, &*ran.stdout), (130, "begun\n"), "{kind}: {text}");
            assert!(begun.elapsed() < PATIENCE, "{kind}: {text}");
            assert_eq!(world.run(&shell, "echo $x").await.ok(), "kept\n", "{kind}: {text}");
        }
    }
    let shell = world.open("python3").await;
    for text in [
        "import time; time.sleep(100)",
        "while True: pass",
        "import subprocess; subprocess.run(['sleep', '100'])",
    ] {
        let ran = world.run_for(&shell, text, SOON).await.unwrap();
        assert!(ran.done.timed_out && !ran.done.shell_ended, "{text}: {ran:?}");
        assert_eq!(ran.done.code, 130, "{text}");
        assert_eq!(world.run(&shell, "print('on')").await.ok(), "on\n", "{text}");
    }
}

#[tokio::test]
async fn a_shell_that_does_not_heed_an_interrupt_is_killed() {
    let world = World::new().await;
    for (kind, text) in [
        ("sh", "trap '' INT; sleep 100; echo not"),
        ("bash", "trap '' INT TERM; while :; do sleep 1; done"),
        ("python3", "import signal, time\nsignal.signal(2, signal.SIG_IGN)\ntime.sleep(100)"),
    ] {
        let mut request = world.request(kind);
        request.run = Some(little_grace());
        let shell = world.open_as(request).await.unwrap();
        let ran = world.run_for(&shell, text, SOON).await.unwrap();
        assert!(ran.done.timed_out && ran.done.shell_ended, "{kind}: {ran:?}");
        assert_eq!(ran.done.ended.as_ref().unwrap().signal, "KILL", "{kind}: {ran:?}");
        assert_eq!((ran.done.code, &*ran.stdout), (137, ""), "{kind}");
        let outcome = world.run_for(&shell, "echo", None).await;
        check_error(outcome, Code::NotFound, "NOT_FOUND");
    }
    assert!(world.list().await.is_empty());
}

/// A text may handle an interrupt itself, and then has the grace to end.
#[tokio::test]
async fn a_text_may_tidy_up_after_an_interrupt() {
    let world = World::new().await;
    for kind in POSIX {
        let shell = world.open(kind).await;
        let text = "trap 'echo tidy; tidied=1' INT; sleep 100; echo \"after $tidied\"";
        let ran = world.run_for(&shell, text, SOON).await.unwrap();
        assert!(ran.done.timed_out && !ran.done.shell_ended, "{kind}: {ran:?}");
        assert_eq!(ran.stdout, "tidy\nafter 1\n", "{kind}: {ran:?}");
        assert_eq!(world.run(&shell, "trap - INT; echo on").await.ok(), "on\n", "{kind}");
    }
}

#[tokio::test]
async fn one_text_runs_at_a_time_and_one_that_is_given_up_is_interrupted() {
    let world = World::new().await;
    for (kind, text) in [
        ("sh", "echo begun; sleep 100; echo not >left"),
        ("python3", "print('begun')\nimport time\ntime.sleep(100)\nopen('left', 'w')"),
    ] {
        let shell = world.open(kind).await;
        let other = world.open(kind).await;
        let mut replies = world.begin(&shell, text, None).await.unwrap();
        let chunk = replies.message().await.unwrap().unwrap().chunk.unwrap();
        assert!(chunk.data.starts_with(b"begun"));
        check_error(world.run_for(&shell, "", None).await, Code::Aborted, "CONFLICT");
        let busy = async || world.list().await.iter().filter(|shell| shell.busy).count();
        assert_eq!(busy().await, 1);
        assert_eq!(world.run(&other, "").await.ok(), "");
        drop(replies);
        eventually("the shell is free", async || busy().await == 0).await;
        assert_eq!(world.run(&shell, "").await.ok(), "");
        assert!(!world.folder.path().join("left").exists());
    }
}

/// Many interrupts of texts that end by themselves at about the same moment: none of them reaches the
/// text after it.
#[tokio::test]
async fn an_interrupt_never_hits_the_next_text() {
    let world = World::new().await;
    for kind in POSIX {
        let shell = world.open(kind).await;
        for round in 0..12 {
            let timeout = Some(Duration::from_millis(95 + round));
            let ran = world.run_for(&shell, "sleep 0.1", timeout).await.unwrap();
            assert!(!ran.done.shell_ended, "{kind}: {ran:?}");
            let ran = world.run(&shell, "sleep 0.05; echo whole").await;
            assert_eq!((ran.done.code, &*ran.stdout), (0, "whole\n"), "{kind}: {ran:?}");
        }
    }
}
