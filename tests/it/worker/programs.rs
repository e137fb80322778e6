//! Programs that agents start in workers: they keep their worker, and end with it.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use op_dbus::proto::opdbus::agent::worker_probe::v1::{
    StartProgramRequest, StartProgramResponse, WhoAmIThereRequest, WhoAmIThereResponse,
};
use op_dbus::proto::opdbus::v1::{GetStatusRequest, GetStatusResponse};
use tonic::Code;

use super::{START_PROGRAM, WHO_AM_I_THERE, World, runs};
use crate::grpc::{Client, check_error, eventually};

fn end(pid: u32) {
    kill(Pid::from_raw(pid.try_into().unwrap()), Signal::SIGKILL).unwrap();
}

async fn start(client: &Client, argv: &[&str]) -> u32 {
    let request = StartProgramRequest { argv: argv.iter().map(ToString::to_string).collect() };
    client.call::<_, StartProgramResponse>(START_PROGRAM, request).await.unwrap().pid
}

#[tokio::test]
async fn a_worker_in_which_a_program_runs_is_not_idle() {
    let world = World::with("idle_ms = 300\ncheck_ms = 100\nmax = 1\n").await;
    let worker = world.who().await.pid;
    let program = start(&world.client, &["sleep", "600"]).await;
    let going_on = async || world.metric("opdbus_worker_going_on");
    eventually("it is known to go on", async || going_on().await == 1.0).await;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    assert!(runs(program) && runs(worker), "it was ended as idle");
    // Nor does it make room for another.
    let other = world.client.call::<_, WhoAmIThereResponse>(WHO_AM_I_THERE, WhoAmIThereRequest {});
    let details = check_error(other.await, Code::ResourceExhausted, "LIMIT_EXCEEDED");
    assert_eq!(details.error_info().unwrap().metadata["limit"], "worker.max");
    let path = "/opdbus.v1.AgentsService/GetStatus";
    let status: GetStatusResponse = world.client.call(path, GetStatusRequest {}).await.unwrap();
    assert_eq!((status.workers_running, status.workers_going_on), (1, 1));

    end(program);
    eventually("the worker ends", async || !runs(worker)).await;
    eventually("nothing goes on", async || going_on().await == 0.0).await;
    assert_eq!(world.metric("opdbus_worker_ends_total{reason=\"idle\"}"), 1.0);
}

/// A program that has left its group and its parent behind and does not end when asked to.
const STRAY: &str = "trap '' TERM HUP; (setsid sh -c 'trap \"\" TERM HUP; while :; do sleep 1; done' \
                     </dev/null >/dev/null 2>&1 &); while :; do sleep 1; done";

/// The processes whose environment or command line is of the program `pid`: it and what it has started.
fn tree(name: &str) -> Vec<u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_of = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(name) && runs(*pid)
    };
    pids.filter(is_of).collect()
}

#[tokio::test]
async fn programs_end_with_their_worker_and_with_the_daemon() {
    let world = World::new().await;
    for (round, ends_daemon) in [false, true].into_iter().enumerate() {
        let worker = world.who().await.pid;
        // So that the processes can be told from those of other tests.
        let name = format!("stray-{}-{round}", std::process::id());
        let script =
            format!(": {name}; {}", STRAY.replace("trap \"\"", &format!(": {name}; trap \"\"")));
        start(&world.client, &["sh", "-c", &script]).await;
        eventually("both run", async || tree(&name).len() >= 2).await;
        match ends_daemon {
            false => end(worker),
            true => world.daemon.signal(Signal::SIGKILL),
        }
        eventually("all of it has ended", async || !runs(worker) && tree(&name).is_empty()).await;
    }
}
