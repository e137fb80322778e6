//! All output of a command, which is read after it was left out of the answer: from its file, as far as
//! the configuration and the disk let it be kept.

use std::process::Command as Program;

use op_dbus::agents::commands::Config;
use op_dbus::proto::opdbus::agent::commands::v1::{
    ExecResponse, ListRequest, ListResponse, OutputRequest, OutputResponse, Run, Stream,
    WaitRequest, WaitResponse,
};

use super::policy::Place;
use super::{OUTPUT, World, seconds};
use crate::grpc::eventually;

/// What `seq 1 last` prints.
fn numbers(last: u64) -> Vec<u8> {
    (1..=last).flat_map(|number| format!("{number}\n").into_bytes()).collect()
}

/// A place in what is in memory.
fn index(offset: u64) -> usize {
    offset.try_into().unwrap()
}

fn at(id: &str, from_offset: u64) -> OutputRequest {
    OutputRequest { id: id.into(), from_offset, max_bytes: 300_000, ..OutputRequest::default() }
}

/// All that can be read of a stream, and where there is a gap.
async fn all(
    read: impl AsyncFn(OutputRequest) -> OutputResponse,
    request: OutputRequest,
) -> (Vec<u8>, Option<(u64, u64)>) {
    let (mut bytes, mut gap, mut next) = (Vec::new(), None, 0);
    loop {
        let answer = read(OutputRequest { from_offset: next, ..request.clone() }).await;
        if answer.offset != next {
            assert!(gap.replace((next, answer.offset)).is_none(), "there is one gap at most");
        }
        bytes.extend_from_slice(&answer.data);
        next = answer.next_offset;
        if answer.at_end {
            return (bytes, gap);
        }
        assert!(!answer.data.is_empty(), "nothing at {next}");
    }
}

#[tokio::test]
async fn what_an_answer_leaves_out_is_read_by_the_commands_id() {
    let world = World::new().await;
    let done = world.exec(&["seq", "1", "1000000"]).await.unwrap();
    let id = done.command.unwrap().id;
    let stdout = done.stdout.unwrap();
    assert!(stdout.left_out_bytes > 6_000_000 && stdout.lost_bytes == 0, "{}", stdout.lost_bytes);
    let read = async |request| world.client.call(OUTPUT, request).await.unwrap();
    assert!(all(read, at(&id, 0)).await == (numbers(1_000_000), None));
    let middle: OutputResponse = read(at(&id, 3_000_000)).await;
    assert_eq!((middle.offset, middle.data.len()), (3_000_000, 300_000));

    // What was whole in its answer is not kept, nor what was read as it came.
    world.exec(&["seq", "1", "1000"]).await.unwrap();
    let kept = world.list(ListRequest::default()).await.commands;
    assert_eq!(kept.iter().map(|command| &*command.id).collect::<Vec<_>>(), [&*id]);
}

#[tokio::test]
async fn a_command_that_runs_is_read_from_any_offset() {
    let world = World::new().await;
    let script = "seq 1 200000; seq 1 200000 >&2; until [ -e go ]; do sleep 0.02; done; echo end";
    let command = world.start("script", script, Run::default()).await;
    let expected = numbers(200_000);
    for stream in [Stream::Stdout, Stream::Stderr] {
        let mut next = 0;
        while next < expected.len() as u64 {
            let mut request = at(&command.id, next);
            (request.stream, request.wait) = (stream.into(), seconds(20));
            let answer: OutputResponse = world.client.call(OUTPUT, request).await.unwrap();
            let begin = index(next);
            assert!(answer.offset == next && !answer.data.is_empty() && !answer.at_end);
            assert!(answer.data == expected[begin..begin + answer.data.len()], "{begin}");
            next = answer.next_offset;
        }
    }
    std::fs::write(world.folder.path().join("go"), "").unwrap();
    let done = world.wait(&command.id).await;
    assert_eq!(done.stderr.unwrap().lost_bytes, 0);
    let read = async |request| world.client.call(OUTPUT, request).await.unwrap();
    let mut whole = expected;
    whole.extend_from_slice(b"end\n");
    assert!(all(read, at(&command.id, 0)).await == (whole, None));
}

impl Place {
    async fn read(&self, request: OutputRequest) -> OutputResponse {
        self.call("Output", request).await.unwrap()
    }

    /// How much of `seq 1 300000` is lost, and why; what there is comes from before and after the gap.
    async fn lost(&self) -> (u64, String) {
        let done: ExecResponse = self.exec(&["seq", "1", "300000"]).await.unwrap();
        let id = done.command.unwrap().id;
        let wait = WaitRequest { id: id.clone(), wait: None };
        let waited: WaitResponse = self.call("Wait", wait).await.unwrap();
        let stdout = waited.stdout.unwrap();
        let (read, gap) = all(async |request| self.read(request).await, at(&id, 0)).await;
        let expected = numbers(300_000);
        let (from, to) = gap.unwrap_or_default();
        assert_eq!(stdout.lost_bytes, to - from);
        let [from, to] = [from, to].map(index);
        assert!(read == [&expected[..from], &expected[to..]].concat());
        (stdout.lost_bytes, stdout.lost_reason)
    }
}

/// How long `seq 1 300000` is, and how much of it memory keeps besides what the file has.
const LENGTH: u64 = 1_988_895;
const RING: u64 = 256 << 10;

#[tokio::test]
async fn the_bounds_hold_and_are_named() {
    let config =
        Config { artifact_bytes: 1 << 20, artifact_total_bytes: 1_500_000, ..Config::default() };
    let place = Place::new(config.clone());
    let (lost, reason) = place.lost().await;
    assert_eq!(
        (lost, &*reason),
        (LENGTH - (1 << 20) - RING, "[commands] artifact_bytes is 1048576")
    );
    let (lost, reason) = place.lost().await;
    let left = 1_500_000 - (1 << 20);
    let text = "[commands] artifact_total_bytes is 1500000";
    assert_eq!((lost, &*reason), (LENGTH - left - RING, text));

    let place = Place::new(Config { artifact_bytes: 0, ..config.clone() });
    let (lost, reason) = place.lost().await;
    let head = 64 << 10;
    assert_eq!((lost, &*reason), (LENGTH - head - RING, "[commands] artifact_bytes is 0"));

    // A command that is forgotten gives back what it took.
    let keep = std::time::Duration::ZERO;
    let place = Place::new(Config { keep, ..config });
    for _ in 0..3 {
        let done = place.exec(&["seq", "1", "300000"]).await.unwrap();
        assert_eq!(done.stdout.unwrap().lost_bytes, LENGTH - (1 << 20) - RING);
        eventually("it is forgotten", async || {
            let list: ListResponse = place.call("List", ListRequest::default()).await.unwrap();
            list.commands.is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn a_full_disk_is_told_and_the_program_goes_on() {
    let place = Place::new(Config::default());
    let small = place.temporary();
    let mut mount = Program::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(&small);
    if !mount.output().is_ok_and(|output| output.status.success()) {
        eprintln!(
            "SKIPPED: a_full_disk_is_told_and_the_program_goes_on may not mount a small disk"
        );
        return;
    }
    let (lost, reason) = place.lost().await;
    // It is gone with whoever still has a file on it.
    assert!(Program::new("umount").arg("-l").arg(&small).status().unwrap().success());
    assert!(reason.contains("No space left"), "{reason}");
    assert!(lost > 0 && lost < LENGTH - RING, "{lost}");
}
