//! Limits: each is named in the result, beside what was printed by then.

use op_dbus::proto::opdbus::agent::commands::v1::{ExecResponse, Limits, Run};
use tonic::Code;

use super::{EXEC, World, ended, limited, seconds};
use crate::grpc::check_error;

#[tokio::test]
async fn the_limit_that_was_met_is_named_and_the_output_is_there() {
    let world = World::new().await;
    let met = async |script: &str, limits: Limits, limit: &str, value: &str| {
        let done = world.shell(&format!("echo before; {script}"), limited(limits)).await;
        let how = ended(&done.command);
        assert_eq!((&*how.limit, &*how.limit_value), (limit, value), "{script}: {done:?}");
        assert!(done.stdout.unwrap().text.starts_with("before\n"), "{script}");
    };
    let wall = Limits { wall: seconds(1), ..Limits::default() };
    met("sleep 600", wall, "limits.wall", "1s").await;
    let cpu = Limits { cpu: seconds(1), ..Limits::default() };
    met("while :; do :; done", cpu, "limits.cpu", "1s").await;
    let memory = Limits { memory_bytes: 64 << 20, ..Limits::default() };
    let hog = "head -c 400000000 /dev/zero | tail -c 400000000 | sleep 60";
    met(hog, memory, "limits.memory_bytes", "67108864 bytes").await;
    let processes = Limits { processes: 5, ..Limits::default() };
    let many = "for n in 1 2 3 4 5 6 7 8 9; do sleep 600 & done; wait; sleep 600";
    met(many, processes, "limits.processes", "5 processes").await;
    let output = Limits { output_bytes: 10_000, ..Limits::default() };
    met("yes", output, "limits.output_bytes", "10000 bytes").await;
    let file = Limits { file_size_bytes: 4096, ..Limits::default() };
    let write = "exec head -c 100000 /dev/zero >large";
    met(write, file, "limits.file_size_bytes", "4096 bytes").await;
}

#[tokio::test]
async fn what_ignores_its_end_is_killed_after_its_grace() {
    let world = World::new().await;
    let limits = Limits { wall: seconds(1), grace: seconds(1), ..Limits::default() };
    let done = world.shell("trap '' TERM; echo deaf; sleep 600; sleep 600", limited(limits)).await;
    let how = ended(&done.command);
    assert_eq!((&*how.limit, &*how.signal), ("limits.wall", "KILL"));
    assert_eq!(done.stdout.unwrap().text, "deaf\n");
}

#[tokio::test]
async fn more_than_the_configuration_allows_is_refused() {
    let world = World::new().await;
    let mut request = world.request(&["true"]);
    let wall = Limits { wall: seconds(10_000_000), ..Limits::default() };
    request.run = Some(Run { limits: Some(wall), ..Run::default() });
    let outcome = world.client.call::<_, ExecResponse>(EXEC, request).await;
    let details = check_error(outcome, Code::ResourceExhausted, "LIMIT_EXCEEDED");
    assert_eq!(details.error_info().unwrap().metadata["limit"], "commands.max_wall_ms");
}
