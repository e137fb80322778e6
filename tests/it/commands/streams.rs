//! ExecStream: output as it comes, at the pace of its reader, and a program that ends with its call.

use std::fs;
use std::time::Duration;

use futures_util::stream;
use op_dbus::proto::opdbus::agent::commands::v1::{
    CommandState, ExecStreamRequest, ExecStreamResponse, ListRequest, Run, Stream,
};
use tonic::{Request, Streaming};

use super::{EXEC_STREAM, World, ended, in_time, number_in, runs, words};
use crate::grpc::eventually;

impl World {
    /// A call that ends with its client.
    async fn exec_stream(&self, argv: &[&str], run: Run) -> Streaming<ExecStreamResponse> {
        let request =
            ExecStreamRequest { argv: words(argv), directory: self.directory(), run: Some(run) };
        let mut request = Request::new(stream::iter([request]));
        request.metadata_mut().insert("opdbus-on-disconnect", "cancel".parse().unwrap());
        self.client.stream(EXEC_STREAM, request).await.unwrap().into_inner()
    }
}

#[tokio::test]
async fn output_comes_before_the_end() {
    let world = World::new().await;
    let script = "echo one; until [ -e go ]; do sleep 0.02; done; echo two >&2; exit 5";
    world.program("script", script);
    let mut replies = world.exec_stream(&["sh", "script"], Run::default()).await;
    let begun = replies.message().await.unwrap().unwrap().command.unwrap();
    assert!(begun.state() == CommandState::Running && begun.pid > 0);
    let chunk = replies.message().await.unwrap().unwrap().chunk.unwrap();
    assert_eq!((chunk.stream(), chunk.offset, &chunk.data[..]), (Stream::Stdout, 0, &b"one\n"[..]));
    assert_eq!(world.list(ListRequest::default()).await.commands[0].id, begun.id);
    fs::write(world.folder.path().join("go"), "").unwrap();
    let chunk = replies.message().await.unwrap().unwrap().chunk.unwrap();
    assert_eq!((chunk.stream(), &chunk.data[..]), (Stream::Stderr, &b"two\n"[..]));
    let last = replies.message().await.unwrap().unwrap();
    assert_eq!(ended(&last.command).code, Some(5));
    assert_eq!(last.command.unwrap().stdout_bytes, 4);
    assert!(replies.message().await.unwrap().is_none());
}

#[tokio::test]
async fn a_flood_goes_no_faster_than_it_is_read_and_takes_little_memory() {
    let world = World::new().await;
    const ALL: u64 = 1_000_000_000;
    let argv = ["head", "-c", "1000000000", "/dev/zero"];
    let mut replies = world.exec_stream(&argv, Run::default()).await;
    let pid = replies.message().await.unwrap().unwrap().command.unwrap().pid;
    let written = || {
        let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap_or_default();
        let line = io.lines().find_map(|line| line.strip_prefix("wchar: ").map(str::to_owned));
        line.and_then(|number| number.parse::<u64>().ok()).unwrap_or_default()
    };
    let held = loop {
        let before = written();
        tokio::time::sleep(Duration::from_millis(300)).await;
        if before > 0 && before == written() {
            break before;
        }
    };
    assert!(held < 64 << 20, "{held} bytes were written although nobody read");
    let mut got = 0;
    let last = loop {
        let reply = replies.message().await.unwrap().unwrap();
        match (reply.chunk, reply.command) {
            (Some(chunk), _) => {
                assert_eq!(chunk.offset, got);
                got += chunk.data.len() as u64;
            }
            (None, last) => break last,
        }
    };
    assert_eq!((got, ended(&last).code), (ALL, Some(0)));
    let status = fs::read_to_string(format!("/proc/{}/status", world.daemon.pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").trim().parse().unwrap();
    assert!(peak < 256 << 10, "the daemon took {peak} kB");
}

#[tokio::test]
async fn a_reader_that_goes_ends_the_tree() {
    let world = World::new().await;
    world.program("script", "(echo begun; exec sleep 600) & echo $! >inner; exec sleep 600");
    let mut replies = world.exec_stream(&["sh", "script"], Run::default()).await;
    let pid = replies.message().await.unwrap().unwrap().command.unwrap().pid;
    let inner = || number_in(&world.folder.path().join("inner"));
    eventually("it runs", async || inner().is_some_and(runs)).await;
    drop(replies);
    let inner = inner().unwrap();
    eventually("the tree ends", async || !runs(pid) && !runs(inner)).await;
    eventually("it is forgotten", async || {
        world.list(ListRequest::default()).await.commands.is_empty()
    })
    .await;
}

#[tokio::test]
async fn at_the_deadline_the_end_is_still_told() {
    let world = World::new().await;
    let request = ExecStreamRequest {
        argv: words(&["sleep", "600"]),
        directory: world.directory(),
        run: None,
    };
    let request = in_time(stream::iter([request]), Duration::from_secs(4));
    let replies = world.client.stream::<_, ExecStreamResponse>(EXEC_STREAM, request);
    let mut replies = replies.await.unwrap().into_inner();
    assert!(replies.message().await.unwrap().unwrap().command.unwrap().ended.is_none());
    let last = replies.message().await.unwrap().unwrap();
    assert_eq!(&*ended(&last.command).limit, "deadline");
}
