//! How workers end: killed, silent, idle, in favour of others, and with the daemon.

use std::time::{Duration, Instant};

use futures_util::future::join_all;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use op_dbus::proto::opdbus::agent::worker_probe::v1::{
    BlockRequest, BlockResponse, BlocksRequest, BlocksResponse, WaitRequest, WaitResponse,
    WhoAmIThereRequest, WhoAmIThereResponse,
};
use tonic::Code;

use super::{BLOCK, BLOCKS, WAIT, WHO_AM_I_THERE, World, runs};
use crate::grpc::{check_error, eventually};
use crate::process::PATIENCE;

const MINUTE: Option<prost_types::Duration> = Some(prost_types::Duration { seconds: 60, nanos: 0 });

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().unwrap()), signal).unwrap();
}

#[tokio::test]
async fn a_worker_that_is_killed_fails_its_calls_and_the_next_call_works() {
    let world = World::new().await;
    for _ in 0..2 {
        let pid = world.who().await.pid;
        let waits = (0..16).map(|_| {
            let wait = WaitRequest { duration: MINUTE };
            world.client.call::<_, WaitResponse>(WAIT, wait)
        });
        let waits = join_all(waits);
        let request =
            futures_util::stream::iter([BlocksRequest { count: 100_000, size_bytes: 9000 }]);
        let mut replies =
            world.client.stream::<_, BlocksResponse>(BLOCKS, request).await.unwrap().into_inner();
        replies.message().await.unwrap();
        let killing = async {
            eventually("all wait", async || world.count().await.started == 16).await;
            signal(pid, Signal::SIGKILL);
        };
        let (outcomes, ()) = tokio::join!(waits, killing);
        let begun = Instant::now();
        for outcome in outcomes {
            let text = outcome.as_ref().unwrap_err().message().to_owned();
            assert!(text.contains(&format!("(process {pid})")), "{text}");
            let details = check_error(outcome, Code::Unavailable, "UNAVAILABLE");
            assert_eq!(details.error_info().unwrap().metadata["worker_pid"], pid.to_string());
        }
        let broken = loop {
            match replies.message().await {
                Ok(Some(_)) => {}
                other => break other,
            }
        };
        check_error(broken, Code::Unavailable, "UNAVAILABLE");
        let next = world.who().await.pid;
        assert_ne!(next, pid);
        assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    }
    world.daemon.wait_for_log("it was killed by signal 9");
    assert_eq!(world.metric("opdbus_worker_ends_total{reason=\"lost\"}"), 2.0);
}

#[tokio::test]
async fn a_worker_that_keeps_ending_is_left_alone_for_a_while() {
    let world = World::new().await;
    let mut refused = None;
    for _ in 0..20 {
        match world.client.call(WHO_AM_I_THERE, WhoAmIThereRequest {}).await {
            Ok(WhoAmIThereResponse { pid, .. }) => {
                signal(pid, Signal::SIGKILL);
                let lost = format!("(process {pid}) is lost");
                world.daemon.wait_for_log(&lost);
            }
            Err(status) => {
                refused = Some(status);
                break;
            }
        }
    }
    let refused = refused.expect("a worker that keeps ending is not started for ever");
    let details = check_error::<()>(Err(refused), Code::Unavailable, "BACKEND_UNAVAILABLE");
    let wait = details.retry_info().unwrap().retry_delay.unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
    tokio::time::sleep(wait).await;
    let _: WhoAmIThereResponse =
        world.client.call(WHO_AM_I_THERE, WhoAmIThereRequest {}).await.unwrap();
}

#[tokio::test]
async fn a_worker_that_does_not_answer_is_replaced() {
    let world = World::with("check_ms = 100\ncheck_timeout_ms = 5000\n").await;
    let pid = world.who().await.pid;
    // Nobody replaced it if this ended by itself.
    let block = BlockRequest { duration: MINUTE };
    let outcome = world.client.call::<_, BlockResponse>(BLOCK, block).await;
    check_error(outcome, Code::Unavailable, "UNAVAILABLE");
    assert_ne!(world.who().await.pid, pid);
    eventually("it is killed", async || !runs(pid)).await;
    world.daemon.wait_for_log("it does not answer and is killed");
}

#[tokio::test]
async fn a_worker_that_is_idle_ends() {
    let world = World::with("idle_ms = 300\n").await;
    let pid = world.who().await.pid;
    // A call that runs keeps it.
    let wait = WaitRequest { duration: Some(prost_types::Duration { seconds: 1, nanos: 0 }) };
    let _: WaitResponse = world.client.call(WAIT, wait).await.unwrap();
    assert_eq!(world.who().await.pid, pid);
    eventually("it ends", async || !runs(pid)).await;
    world.daemon.wait_for_log("was not needed any more: it ended with code 0");
    assert_eq!(world.metric("opdbus_worker_ends_total{reason=\"idle\"}"), 1.0);
    assert_ne!(world.who().await.pid, pid);
}

#[tokio::test]
async fn there_are_no_more_workers_than_may_be() {
    let world = World::with("max = 1\n").await;
    let pid = world.who().await.pid;
    // The place of one that is idle is given to another.
    let there: WhoAmIThereResponse =
        world.client.call(WHO_AM_I_THERE, WhoAmIThereRequest {}).await.unwrap();
    assert!(runs(there.pid) && !runs(pid));
    let first = world.who().await.pid;
    let busy = world.client.call::<_, WaitResponse>(WAIT, WaitRequest { duration: MINUTE });
    let trying = async {
        eventually("the call runs", async || world.count().await.started == 1).await;
        world.client.call::<_, WhoAmIThereResponse>(WHO_AM_I_THERE, WhoAmIThereRequest {}).await
    };
    let refused = tokio::select! {
        outcome = busy => panic!("{outcome:?}"),
        refused = trying => refused,
    };
    let details = check_error(refused, Code::ResourceExhausted, "LIMIT_EXCEEDED");
    assert_eq!(details.error_info().unwrap().metadata["limit"], "worker.max");
    assert!(runs(first));
}

#[tokio::test]
async fn workers_end_with_the_daemon_however_it_ends() {
    let world = World::new().await;
    let pid = world.who().await.pid;
    let log = world.daemon.stop();
    assert!(log.contains("was not needed any more"), "{log}");
    assert!(!runs(pid));

    let world = World::new().await;
    let pid = world.who().await.pid;
    world.daemon.signal(Signal::SIGKILL);
    eventually("it ends", async || !runs(pid)).await;
}
