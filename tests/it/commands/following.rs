//! Commands that go on: their output from an offset, by a pattern and to the end; their list and tags;
//! and their session.

use std::collections::HashMap;
use std::time::Duration;

use op_dbus::proto::opdbus::agent::commands::v1::{
    Command, ListRequest, OutputRequest, OutputResponse, Run, SignalRequest, SignalResponse,
    StartRequest, StartResponse, Stream, TagRequest, TagResponse, WaitRequest, WaitResponse,
    WaitUntil,
};
use op_dbus::proto::opdbus::v1::{
    EndSessionRequest, EndSessionResponse, StartSessionRequest, StartSessionResponse,
};
use tonic::{Code, Request, Status};
use zbus::Variant;

use super::{OUTPUT, SIGNAL, START, TAG, WAIT, World, ended, in_time, runs, seconds, words};
use crate::grpc::{check_error, eventually};

impl World {
    async fn output(&self, request: OutputRequest) -> Result<OutputResponse, Status> {
        self.client.call(OUTPUT, request).await
    }

    fn go(&self, file: &str) {
        std::fs::write(self.folder.path().join(file), "").unwrap();
    }
}

fn since(command: &Command, from_offset: u64, until: WaitUntil, pattern: &str) -> OutputRequest {
    OutputRequest {
        id: command.id.clone(),
        from_offset,
        wait: seconds(20),
        until: until.into(),
        pattern: pattern.into(),
        ..OutputRequest::default()
    }
}

#[tokio::test]
async fn output_is_read_on_until_more_a_match_or_the_end() {
    let world = World::new().await;
    let script = "echo one; echo err >&2; until [ -e a ]; do sleep 0.02; done; echo two; \
                  until [ -e b ]; do sleep 0.02; done; echo ready at 8080; \
                  until [ -e c ]; do sleep 0.02; done; echo last; exit 4";
    let command = world.start("script", script, Run::default()).await;
    let first = world.output(since(&command, 0, WaitUntil::Output, "")).await.unwrap();
    assert_eq!((&first.data[..], first.next_offset, first.at_end), (&b"one\n"[..], 4, false));
    let mut none = since(&command, 4, WaitUntil::Output, "");
    none.wait = None;
    let none = world.output(none).await.unwrap();
    assert!(none.data.is_empty() && !none.timed_out && none.next_offset == 4);
    let mut short = since(&command, 4, WaitUntil::Exit, "");
    short.wait = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
    assert!(world.output(short).await.unwrap().timed_out);

    let more = since(&command, 4, WaitUntil::Output, "");
    let (more, ()) = tokio::join!(world.output(more), async { world.go("a") });
    assert_eq!(more.unwrap().data, "two\n");
    let ready = since(&command, 4, WaitUntil::Pattern, r"(?m)^ready at (\d+)$");
    let (ready, ()) = tokio::join!(world.output(ready), async { world.go("b") });
    let ready = ready.unwrap();
    assert!(ready.matched && !ready.at_end);
    assert_eq!(
        (ready.match_offset, ready.match_end, &ready.data[..]),
        (8, 21, &b"two\nready at 8080\n"[..])
    );
    let mut errors = since(&command, 0, WaitUntil::Output, "");
    errors.stream = Stream::Stderr.into();
    assert_eq!(world.output(errors).await.unwrap().data, "err\n");

    let end = since(&command, 22, WaitUntil::Exit, "");
    let (end, ()) = tokio::join!(world.output(end), async { world.go("c") });
    let end = end.unwrap();
    assert_eq!((&end.data[..], end.at_end, end.timed_out), (&b"last\n"[..], true, false));
    assert_eq!(ended(&end.command).code, Some(4));
    // What will never come is not waited for.
    let never = world.output(since(&command, 0, WaitUntil::Pattern, "never")).await.unwrap();
    assert!(!never.matched && !never.timed_out);

    let field = async |request, field: &str| {
        let details =
            check_error(world.output(request).await, Code::InvalidArgument, "INVALID_ARGUMENT");
        assert_eq!(details.error_info().unwrap().metadata["field"], field);
    };
    field(since(&command, 0, WaitUntil::Pattern, "("), "pattern").await;
    field(since(&command, 0, WaitUntil::Pattern, "(a{1000}){1000}"), "pattern").await;
    field(since(&command, 0, WaitUntil::Pattern, ""), "pattern").await;
    field(since(&command, 0, WaitUntil::Exit, "x"), "pattern").await;
    field(since(&command, 1000, WaitUntil::Output, ""), "from_offset").await;
    let nobody = OutputRequest { id: "nobody".into(), ..OutputRequest::default() };
    check_error(world.output(nobody).await, Code::NotFound, "NOT_FOUND");
}

#[tokio::test]
async fn of_much_output_beginning_and_end_are_kept() {
    let world = World::new().await;
    let command = world.start("script", "seq 1 1000000; echo done >&2", Run::default()).await;
    let done = world.wait(&command.id).await;
    let stdout = done.stdout.unwrap();
    assert_eq!(stdout.total_bytes, 6_888_896);
    assert!(stdout.head.starts_with(b"1\n2\n3\n") && stdout.tail.ends_with(b"\n1000000\n"));
    assert_eq!(stdout.left_out_bytes, stdout.total_bytes - 2 * 65_536);
    let mut request = since(&command, 0, WaitUntil::Exit, "");
    request.max_bytes = 4;
    let read = world.output(request).await.unwrap();
    assert_eq!((&read.data[..], read.offset, read.at_end), (&b"1\n2\n"[..], 0, false));
}

#[tokio::test]
async fn a_wait_answers_before_its_deadline() {
    let world = World::new().await;
    let command = world.start_argv(&["sleep", "600"], Run::default()).await.unwrap();
    let request = WaitRequest { id: command.id.clone(), wait: None };
    let request = in_time(request, Duration::from_secs(2));
    let answer: WaitResponse = world.client.request(WAIT, request).await.unwrap().into_inner();
    assert!(answer.running);
    let stop = SignalRequest { id: command.id.clone(), signal: String::new() };
    let _: SignalResponse = world.client.call(SIGNAL, stop).await.unwrap();
    let done = world.wait(&command.id).await;
    assert!(ended(&done.command).stopped && !runs(command.pid));
}

#[tokio::test]
async fn commands_are_listed_in_pages_and_found_by_tag() {
    let world = World::new().await;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.push(world.start_argv(&["true"], Run::default()).await.unwrap().id);
    }
    let sleeper = world.start_argv(&["sleep", "600"], Run::default()).await.unwrap();
    ids.push(sleeper.id.clone());
    for id in &ids[..5] {
        world.wait(id).await;
    }
    let mut request = ListRequest { page_size: 4, ..ListRequest::default() };
    let page = world.list(request.clone()).await;
    let mut listed: Vec<_> = page.commands.iter().map(|command| command.id.clone()).collect();
    assert_eq!(listed.len(), 4);
    request.page_token = page.next_page_token;
    let page = world.list(request).await;
    listed.extend(page.commands.iter().map(|command| command.id.clone()));
    listed.reverse();
    assert_eq!((listed, &*page.next_page_token), (ids.clone(), ""));
    let running = ListRequest { running_only: true, ..ListRequest::default() };
    assert_eq!(world.list(running).await.commands.len(), 1);

    let tag = TagRequest { id: ids[2].clone(), tag: "mine".into() };
    let _: TagResponse = world.client.call(TAG, tag).await.unwrap();
    let tagged = ListRequest { tag: "mine".into(), ..ListRequest::default() };
    let found = world.list(tagged).await.commands;
    assert_eq!((found.len(), &found[0].id, &*found[0].tag), (1, &ids[2], "mine"));
    let long = TagRequest { id: ids[2].clone(), tag: "x".repeat(257) };
    let outcome = world.client.call::<_, TagResponse>(TAG, long).await;
    check_error(outcome, Code::InvalidArgument, "INVALID_ARGUMENT");
}

#[tokio::test]
async fn a_command_ends_with_its_session() {
    let world = World::new().await;
    let start = StartSessionRequest {
        client_name: "test".into(),
        session_id: "work".into(),
        ..Default::default()
    };
    let path = "/opdbus.v1.SessionsService/StartSession";
    let _: StartSessionResponse = world.client.call(path, start).await.unwrap();
    let request = StartRequest {
        argv: words(&["sleep", "600"]),
        directory: world.directory(),
        ..StartRequest::default()
    };
    let other: StartResponse = world.client.call(START, request.clone()).await.unwrap();
    let mut request = Request::new(request);
    request.metadata_mut().insert("opdbus-session-id", "work".parse().unwrap());
    let started: StartResponse = world.client.request(START, request).await.unwrap().into_inner();
    let (started, other) = (started.command.unwrap(), other.command.unwrap());
    assert_eq!(started.session, "work");
    let end = EndSessionRequest { session_id: "work".into() };
    let path = "/opdbus.v1.SessionsService/EndSession";
    let _: EndSessionResponse = world.client.call(path, end).await.unwrap();
    let done = world.wait(&started.id).await;
    assert!(ended(&done.command).stopped);
    eventually("it is gone", async || !runs(started.pid)).await;
    assert!(runs(other.pid));
}

#[tokio::test]
async fn both_transports_see_the_same_command() {
    let world = World::new().await;
    let bus = zbus::connection::Builder::address(world.daemon.bus.address.as_str());
    let bus = bus.build().await.unwrap();
    let call = async |method: &str, body: zbus::Structure<'static>| {
        let path = "/org/opdbus/Agents1/agent/commands";
        let name = Some("org.opdbus.Agents1");
        bus.call_method(name, path, Some("org.opdbus.Commands1"), method, &body).await
    };
    let none = HashMap::<String, Variant<'static>>::new;
    let mut options = none();
    options.insert("directory".to_owned(), Variant::from(world.directory()));
    let body = zbus::Structure::builder().add_field(words(&["sleep", "600"])).add_field(options);
    call("Start", body.build().unwrap()).await.unwrap();
    let listed = world.list(ListRequest::default()).await.commands;
    assert_eq!((listed.len(), &listed[0].argv), (1, &words(&["sleep", "600"])));
    let id = listed[0].id.clone();
    let body = || zbus::Structure::builder().add_field(id.clone()).add_field(none());
    call("Signal", body().build().unwrap()).await.unwrap();
    assert!(ended(&world.wait(&id).await.command).stopped);
    let error = call("Signal", body().build().unwrap()).await.unwrap_err().to_string();
    assert!(error.contains("org.opdbus.Error.Conflict"), "{error}");
}
