//! Programs that are run to their end, or for a while: what comes back, and what is refused.

use std::time::Duration;

use op_dbus::proto::opdbus::agent::commands::v1::{
    CommandState, Confinement, ExecRequest, ExecResponse, ListRequest, MechanismState, Run, Stdin,
};
use tonic::Code;

use super::{EXEC, World, ended, in_time, number_in, runs, seconds, words};
use crate::grpc::{check_error, eventually};

#[tokio::test]
async fn a_program_runs_in_its_folder_and_says_how_it_ended() {
    let world = World::new().await;
    std::fs::write(world.folder.path().join("here"), "").unwrap();
    let done = world.exec(&["ls"]).await.unwrap();
    let command = done.command.as_ref().unwrap();
    let stdout = done.stdout.as_ref().unwrap();
    assert_eq!((&*stdout.text, stdout.total_bytes, stdout.left_out_bytes), ("here\n", 5, 0));
    assert_eq!((ended(&done.command).code, &*ended(&done.command).signal), (Some(0), ""));
    assert!(!done.running && command.state() == CommandState::Ended);
    assert!(command.program.ends_with("/ls"), "{}", command.program);
    assert_eq!((&command.directory, &*command.profile), (&world.directory(), "exec"));
    assert_eq!(command.sandbox.len(), op_dbus::process::Mechanism::ALL.len());
    assert!(command.sandbox.iter().any(|m| m.state() == MechanismState::Enforced));

    let done = world.exec(&["ls", "/no such file"]).await.unwrap();
    assert_eq!(ended(&done.command).code, Some(2));
    assert!(done.stderr.unwrap().text.contains("no such file"));

    // It is gone with its call: nobody asked to keep it.
    assert!(world.list(ListRequest::default()).await.commands.is_empty());
}

#[tokio::test]
async fn a_signal_an_input_and_a_variable_are_told() {
    let world = World::new().await;
    let done = world.shell("kill -USR1 $$", Run::default()).await;
    assert_eq!((ended(&done.command).code, &*ended(&done.command).signal), (None, "USR1"));

    let mut request = world.request(&["cat"]);
    request.run = Some(Run { input: vec![b'x'; 300_000].into(), ..Run::default() });
    let done: ExecResponse = world.client.call(EXEC, request).await.unwrap();
    let stdout = done.stdout.unwrap();
    assert_eq!(
        (stdout.total_bytes, stdout.head.len(), stdout.tail.len()),
        (300_000, 65_536, 65_536)
    );
    assert_eq!(stdout.left_out_bytes, 300_000 - 2 * 65_536);
    assert!(stdout.text.contains("[168928 bytes left out]"));

    let run = Run { environment: [("GREETING".into(), "hello".into())].into(), ..Run::default() };
    let done =
        world.shell("echo $GREETING; echo $NO_COLOR; pwd; readlink /proc/self/fd/0", run).await;
    let expected = format!("hello\n1\n{}\n/dev/null\n", world.directory());
    assert_eq!(done.stdout.unwrap().text, expected);
    // A text that begins with a dash is a text.
    let done = world.shell("-x", Run::default()).await;
    assert_eq!(ended(&done.command).code, Some(127));
}

#[tokio::test]
async fn a_terminal_is_one() {
    let world = World::new().await;
    let size = op_dbus::proto::opdbus::agent::commands::v1::TerminalSize { rows: 7, columns: 33 };
    let run = Run { stdin: Stdin::Terminal.into(), terminal: Some(size), ..Run::default() };
    let done = world.shell("stty size; tty >/dev/null && echo yes >&2", run).await;
    assert_eq!(done.stdout.unwrap().text, "7 33\r\nyes\r\n");
    assert_eq!(done.stderr.unwrap().total_bytes, 0);
}

#[tokio::test]
async fn what_does_not_end_in_time_goes_on_as_a_command() {
    let world = World::new().await;
    let mut request = world.request(&["sh", "script"]);
    world
        .program("script", "echo begun; while [ ! -e go ]; do sleep 0.05; done; echo done; exit 3");
    request.r#yield = Some(prost_types::Duration { seconds: 0, nanos: 500_000_000 });
    request.tag = "slow".into();
    let answer: ExecResponse = world.client.call(EXEC, request).await.unwrap();
    let command = answer.command.unwrap();
    assert!(answer.running && command.state() == CommandState::Running && command.ended.is_none());
    assert_eq!(answer.stdout.unwrap().text, "begun\n");
    std::fs::write(world.folder.path().join("go"), "").unwrap();
    let done = world.wait(&command.id).await;
    assert_eq!(ended(&done.command).code, Some(3));
    assert_eq!(done.stdout.unwrap().text, "begun\ndone\n");
    let tagged = ListRequest { tag: "slow".into(), ..ListRequest::default() };
    assert_eq!(world.list(tagged).await.commands.len(), 1);
}

#[tokio::test]
async fn at_the_deadline_of_the_call_what_was_printed_is_not_lost() {
    let world = World::new().await;
    world.program("script", "echo $$ >pid; echo before; sleep 600; echo after");
    let request = in_time(world.request(&["sh", "script"]), Duration::from_secs(4));
    let done: ExecResponse = world.client.request(EXEC, request).await.unwrap().into_inner();
    assert_eq!(done.stdout.unwrap().text, "before\n");
    let how = ended(&done.command);
    assert_eq!((&*how.limit, how.stopped), ("deadline", false));
    assert!(how.limit_value.ends_with('s'), "{}", how.limit_value);
    let pid = number_in(&world.folder.path().join("pid")).unwrap();
    eventually("it ends", async || !runs(pid)).await;

    // Without a word about it, it goes on instead.
    let mut request = world.request(&["sh", "script"]);
    request.r#yield = None;
    let request = in_time(request, Duration::from_secs(3));
    let answer: ExecResponse = world.client.request(EXEC, request).await.unwrap().into_inner();
    assert!(answer.running);
}

#[tokio::test]
async fn a_call_that_is_given_up_leaves_nothing() {
    let world = World::new().await;
    world.program("script", "(echo $$ >inner; exec sleep 600) & echo $$ >pid; exec sleep 600");
    let pid = || number_in(&world.folder.path().join("pid"));
    let request = world.request(&["sh", "script"]);
    let call = world.client.call::<ExecRequest, ExecResponse>(EXEC, request);
    tokio::select! {
        outcome = call => panic!("{outcome:?}"),
        () = eventually("it runs", async || pid().is_some_and(runs)) => {}
    }
    let pid = pid().unwrap();
    eventually("it ends", async || !runs(pid)).await;
    eventually("it is forgotten", async || {
        world.list(ListRequest::default()).await.commands.is_empty()
    })
    .await;
    assert!(world.daemon.pid() > 0);
}

#[tokio::test]
async fn what_cannot_be_run_is_refused_by_name() {
    let world = World::new().await;
    let refused =
        async |change: &dyn Fn(&mut ExecRequest), code, reason, fact: &str, value: &str| {
            let mut request = world.request(&["true"]);
            change(&mut request);
            let outcome = world.client.call::<_, ExecResponse>(EXEC, request).await;
            let text = format!("{outcome:?}");
            let details = check_error(outcome, code, reason);
            let facts = details.error_info().unwrap().metadata.clone();
            assert_eq!(facts.get(fact).map(String::as_str), Some(value), "{text}");
        };
    let invalid = (Code::InvalidArgument, "INVALID_ARGUMENT");
    let run = |run: Run| move |request: &mut ExecRequest| request.run = Some(run.clone());
    refused(&|r| r.argv.clear(), invalid.0, invalid.1, "field", "argv").await;
    refused(&|r| r.argv = words(&["echo", "a\0b"]), invalid.0, invalid.1, "field", "argv").await;
    refused(&|r| r.directory = "here".into(), invalid.0, invalid.1, "field", "directory").await;
    let missing = |r: &mut ExecRequest| r.directory = "/no/such".into();
    refused(&missing, Code::NotFound, "NOT_FOUND", "field", "directory").await;
    let token = Run { environment: [("A_TOKEN".into(), "x".into())].into(), ..Run::default() };
    refused(&run(token), invalid.0, invalid.1, "field", "environment").await;
    let profile = Run { profile: "all".into(), ..Run::default() };
    refused(&run(profile), invalid.0, invalid.1, "field", "run.profile").await;
    let both = Run { stdin: Stdin::Null.into(), input: "x".into(), ..Run::default() };
    refused(&run(both), invalid.0, invalid.1, "field", "run.input").await;
    refused(&|r| r.r#yield = seconds(-1), invalid.0, invalid.1, "field", "yield").await;
    let program = |r: &mut ExecRequest| r.argv = words(&["no-such-program"]);
    refused(&program, Code::FailedPrecondition, "BACKEND_MISSING", "program", "no-such-program")
        .await;
    let none = Run { profile: "none".into(), ..Run::default() };
    let denied = (Code::PermissionDenied, "ACCESS_DENIED");
    refused(&run(none), denied.0, denied.1, "limit", "commands.profiles").await;
    let off = Run { confinement: Confinement::Off.into(), ..Run::default() };
    refused(&run(off), denied.0, denied.1, "limit", "commands.confinement").await;
    let much = Run { keep_bytes: 1 << 30, ..Run::default() };
    let over = (Code::ResourceExhausted, "LIMIT_EXCEEDED");
    refused(&run(much), over.0, over.1, "limit", "commands.keep_bytes_max").await;
}
