//! How shells end, and that nothing is left of them.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use op_dbus::agents::{InWorker, WorkerSettings, commands};
use op_dbus::call::{Attested, Caller, Context, Identity, Transport};
use op_dbus::contract::Contract;
use op_dbus::process::Runner;
use op_dbus::proto::opdbus::agent::commands::v1::{
    ListShellsResponse, OpenShellRequest, OpenShellResponse, Run, Stdin,
};
use op_dbus::proto::opdbus::v1::{
    EndSessionRequest, EndSessionResponse, StartSessionRequest, StartSessionResponse,
};
use prost::Message as _;
use tonic::{Code, Request};

use super::{OPEN, POSIX, World, finish};
use crate::grpc::{check_error, eventually};
use crate::process::PATIENCE;

/// Processes that run in the folder of the world.
fn processes(world: &World) -> usize {
    let is_here = |entry: &fs::DirEntry| {
        fs::read_link(entry.path().join("cwd"))
            .is_ok_and(|cwd| cwd.starts_with(world.folder.path()))
    };
    fs::read_dir("/proc").unwrap().flatten().filter(is_here).count()
}

#[tokio::test]
async fn a_shell_that_exits_is_gone_with_all_that_it_started() {
    let world = World::new().await;
    for (kind, text) in [
        ("sh", "sleep 1000 & setsid sleep 1000 & echo bye; exit 5; echo not"),
        ("bash", "sleep 1000 & setsid sleep 1000 & echo bye; exit 5; echo not"),
        (
            "python3",
            "import subprocess, sys\nsubprocess.Popen(['sleep', '1000'])\nprint('bye')\nsys.exit(5)",
        ),
    ] {
        let shell = world.open(kind).await;
        assert!(processes(&world) > 0);
        let ran = world.run(&shell, text).await;
        assert!(ran.done.shell_ended && !ran.done.timed_out, "{kind}: {ran:?}");
        assert_eq!((ran.done.code, &*ran.stdout), (5, "bye\n"), "{kind}");
        assert_eq!(ran.done.ended.unwrap().code, Some(5));
        assert_eq!(processes(&world), 0, "{kind}");
        assert!(world.list().await.is_empty());
        check_error(world.run_for(&shell, "", None).await, Code::NotFound, "NOT_FOUND");
        check_error(world.close(&shell).await, Code::NotFound, "NOT_FOUND");
    }
}

#[tokio::test]
async fn a_shell_that_dies_is_gone() {
    let world = World::new().await;
    for kind in ["sh", "bash", "python3"] {
        let shell = world.open(kind).await;
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(shell.pid.try_into().unwrap()),
            nix::sys::signal::Signal::SIGKILL,
        )
        .unwrap();
        eventually("the shell is gone", async || world.list().await.is_empty()).await;
    }
    let shell = world.open("sh").await;
    let ran = world.run(&shell, "kill -9 $$").await;
    assert!(ran.done.shell_ended && ran.done.code == 137, "{ran:?}");
    // Errors that are to end it do.
    let shell = world.open("bash").await;
    let ran = world.run(&shell, "set -e; false; echo not").await;
    assert!(ran.done.shell_ended && ran.done.code == 1 && ran.stdout.is_empty(), "{ran:?}");
}

/// The shell keeps the descriptor of its marker out of reach, but a text that looks for it finds it. Then
/// the shell cannot say any more when a text has ended, and is ended itself.
#[tokio::test]
async fn a_shell_that_cannot_say_any_more_is_ended() {
    let world = World::new().await;
    let shell = world.open("bash").await;
    let text = "for f in /proc/$$/fd/*; do n=${f##*/}; [ \"$n\" -gt 9 ] && eval \"exec $n>&-\"; done; \
                sleep 0.1";
    let ran = world.run(&shell, text).await;
    assert!(ran.done.shell_ended, "{ran:?}");
    assert!(world.list().await.is_empty());
    let shell = world.open("python3").await;
    let ran = world.run(&shell, "import os\nos.closerange(3, 100)").await;
    assert!(ran.done.shell_ended, "{ran:?}");
    assert_eq!(processes(&world), 0);
}

#[tokio::test]
async fn closing_ends_what_runs_in_it() {
    let world = World::new().await;
    for kind in POSIX {
        let idle = world.open(kind).await;
        world.run(&idle, "sleep 1000 &").await;
        let ended = world.close(&idle).await.unwrap().ended.unwrap();
        assert!(ended.stopped && ended.limit.is_empty(), "{kind}: {ended:?}");
        assert_eq!(processes(&world), 0, "{kind}");

        let busy = world.open(kind).await;
        let text = "echo begun; sleep 1000; touch left; sleep 1000";
        let mut replies = world.begin(&busy, text, None).await.unwrap();
        replies.message().await.unwrap();
        let ended = world.close(&busy).await.unwrap().ended.unwrap();
        assert!(ended.stopped, "{kind}: {ended:?}");
        let ran = tokio::time::timeout(PATIENCE, finish(&mut replies)).await.unwrap().unwrap();
        assert!(ran.done.shell_ended && ran.done.ended.unwrap().stopped, "{kind}");
        assert_eq!(processes(&world), 0, "{kind}");
        assert!(!world.folder.path().join("left").exists(), "{kind}");
    }
}

#[tokio::test]
async fn shells_end_with_their_session() {
    let world = World::new().await;
    let begin = StartSessionRequest {
        session_id: "work".into(),
        client_name: "test".into(),
        ..Default::default()
    };
    let _: StartSessionResponse =
        world.client.call("/opdbus.v1.SessionsService/StartSession", begin).await.unwrap();
    let mut request = Request::new(world.request("bash"));
    request.metadata_mut().insert("opdbus-session-id", "work".parse().unwrap());
    let opened: OpenShellResponse = world.client.request(OPEN, request).await.unwrap().into_inner();
    assert_eq!(opened.shell.unwrap().session, "work");
    let other = world.open("sh").await;
    let end = EndSessionRequest { session_id: "work".into() };
    let _: EndSessionResponse =
        world.client.call("/opdbus.v1.SessionsService/EndSession", end).await.unwrap();
    eventually("the session's shell is gone", async || world.list().await.len() == 1).await;
    assert_eq!(world.list().await[0].id, other.id);
    assert_eq!(world.run(&other, "echo on").await.ok(), "on\n");
}

#[tokio::test]
async fn what_a_shell_cannot_have_is_refused() {
    let world = World::new().await;
    for (field, change) in [
        ("shell", (|request| request.shell = "zsh".into()) as fn(&mut OpenShellRequest)),
        ("directory", |request| request.directory = "relative".into()),
        ("run.input", |request| {
            request.run = Some(Run { input: b"x".as_slice().into(), ..Run::default() });
        }),
        ("run.stdin", |request| {
            request.run = Some(Run { stdin: Stdin::Terminal.into(), ..Run::default() });
        }),
        ("run.keep_bytes", |request| {
            request.run = Some(Run { keep_bytes: 1, ..Run::default() });
        }),
    ] {
        let mut request = world.request("sh");
        change(&mut request);
        let error =
            check_error(world.open_as(request).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(error.error_info().unwrap().metadata["field"], field);
    }
    let mut request = world.request("sh");
    request.directory = world.folder.path().join("missing").display().to_string();
    check_error(world.open_as(request).await, Code::NotFound, "NOT_FOUND");
    assert!(world.list().await.is_empty());
    // None of them has taken a place.
    let shell = world.open("").await;
    assert_eq!(shell.shell, "bash");
    let outcome = world.run_for(&shell, "", Some(Duration::ZERO)).await;
    check_error(outcome, Code::InvalidArgument, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn there_are_no_more_shells_than_may_be() {
    let world = World::new().await;
    let mut shells = Vec::new();
    for _ in 0..8 {
        shells.push(world.open("sh").await);
    }
    let outcome = world.open_as(world.request("sh")).await;
    let error = check_error(outcome, Code::ResourceExhausted, "LIMIT_EXCEEDED");
    assert_eq!(error.error_info().unwrap().metadata["limit"], "commands.max_shells");
    world.close(&shells[3]).await.unwrap();
    world.open("sh").await;
    let listed = world.list().await;
    assert_eq!((listed.len(), &*listed[7].id), (8, &*shells[0].id), "the latest comes first");
}

/// The agent as a worker has it, with a time that a daemon would not take.
#[tokio::test]
async fn a_shell_that_nobody_uses_is_ended() {
    let mut settings = WorkerSettings::default();
    settings.commands.shell_idle = Duration::from_millis(1500);
    let settings = Arc::new(ArcSwap::from_pointee(settings));
    let runner = Runner::new(op_dbus::process::Config {
        stub: env!("CARGO_BIN_EXE_op-dbusd").into(),
        ..op_dbus::process::Config::default()
    });
    let agent =
        commands::at_caller(&InWorker { profile: "exec".into(), cgroup: None, settings }, &runner);
    let contract = Contract::built_in().unwrap();
    let service = contract.service("opdbus.agent.commands.v1.CommandsService").unwrap();
    let index = |name: &str| {
        service.operations.iter().find(|operation| operation.name == name).unwrap().index
    };
    let identity = Identity::User { uid: 0, gid: None };
    let caller = Arc::new(Caller::new(identity, Attested::Kernel, "test"));
    let context = Context::new(caller, Transport::Grpc);
    let request = OpenShellRequest { directory: "/usr".into(), ..OpenShellRequest::default() };
    agent.call(index("OpenShell"), &context, request.encode_to_vec().into()).await.unwrap();
    assert_eq!(agent.going_on(), 1);
    eventually("the shell has ended", async || agent.going_on() == 0).await;
    let listed = agent.call(index("ListShells"), &context, Vec::new().into()).await.unwrap();
    assert!(ListShellsResponse::decode(listed).unwrap().shells.is_empty());
}
