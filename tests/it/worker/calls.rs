//! Calls with one request and one response: what the worker is, what it is told, how calls end.

use std::time::Duration;

use futures_util::future::join_all;
use op_dbus::proto::opdbus::agent::worker_probe::v1::{
    EchoRequest, EchoResponse, FailRequest, FailResponse, WaitRequest, WaitResponse, WhoAmIRequest,
    WhoAmIResponse, WhoAmIThereRequest, WhoAmIThereResponse,
};
use op_dbus::proto::opdbus::v1::{
    EndSessionRequest, EndSessionResponse, GetStatusRequest, GetStatusResponse,
    StartSessionRequest, StartSessionResponse,
};
use tonic::{Code, Request};

use super::{
    ECHO, FAIL, WAIT, WHO_AM_I, WHO_AM_I_THERE, World, ctl_as, for_everybody, is_root, uid,
};
use crate::grpc::{Client, check_error, eventually};
use crate::process::PATIENCE;

#[tokio::test]
async fn a_worker_has_its_callers_uid_and_nothing_else() {
    let world = World::new().await;
    let who = world.who().await;
    assert_eq!((who.uid, who.caller_uid), (uid(), uid()));
    assert_ne!(who.pid, world.daemon.pid());
    assert!(who.no_new_privs);
    for set in ["Inh", "Prm", "Eff", "Amb"] {
        assert_eq!(who.capabilities[set], "0000000000000000", "{set}");
    }
    assert_eq!((&*who.cwd, who.core_bytes, &*who.transport), ("/", 0, "grpc"));
    let known = ["HOME", "LANG", "LOGNAME", "PATH", "SHELL", "USER"];
    assert!(who.environment.iter().all(|name| known.contains(&&**name)), "{:?}", who.environment);
    let expected = |name: &String| {
        *name == "/dev/null"
            || name.contains("socket:")
            || name.contains("pipe:")
            || name.starts_with("anon_inode:")
            || name.starts_with("/proc/")
    };
    // When it begins it looks through folders for what a worker before it has left.
    eventually("it holds nothing else", async || {
        world.who().await.descriptors.iter().all(expected)
    })
    .await;
    let descriptors = world.who().await.descriptors;
    let sockets = descriptors.iter().filter(|name| name.contains("socket:")).count();
    // Its own, and those with which the runtime hears of signals.
    assert!(sockets <= 4, "{descriptors:?}");
}

#[tokio::test]
async fn the_front_tells_the_worker_what_belongs_to_the_call() {
    let world = World::new().await;
    let start = StartSessionRequest {
        session_id: "work".into(),
        client_name: "test".into(),
        ..Default::default()
    };
    let started: StartSessionResponse =
        world.client.call("/opdbus.v1.SessionsService/StartSession", start).await.unwrap();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let mut request = Request::new(WhoAmIRequest {});
    request.set_timeout(PATIENCE);
    request.metadata_mut().insert("opdbus-session-id", "work".parse().unwrap());
    request.metadata_mut().insert("traceparent", trace.parse().unwrap());
    let who: WhoAmIResponse = world.client.request(WHO_AM_I, request).await.unwrap().into_inner();
    assert_eq!((&*who.session, &*who.traceparent), ("work", trace));
    let left = who.left.unwrap().seconds;
    assert!((1..=PATIENCE.as_secs().cast_signed()).contains(&left), "{left}");

    // Clients cannot say who they are.
    let mut forged = Request::new(WhoAmIRequest {});
    forged.metadata_mut().insert("opdbus-uid", "1".parse().unwrap());
    let outcome = world.client.request::<_, WhoAmIResponse>(WHO_AM_I, forged).await;
    check_error(outcome, Code::InvalidArgument, "INVALID_ARGUMENT");

    let end = EndSessionRequest { session_id: "work".into() };
    let path = "/opdbus.v1.SessionsService/EndSession";
    let _: EndSessionResponse = world.client.call(path, end).await.unwrap();
    drop(started);
    let expected = [format!("work of {}", uid())];
    eventually("the agent hears that the session ended", async || {
        world.count().await.sessions_ended == expected
    })
    .await;
}

#[tokio::test]
async fn calls_that_come_together_start_one_worker() {
    let world = World::new().await;
    let pids: Vec<u32> = join_all((0..64).map(|_| async { world.who().await.pid })).await;
    assert!(pids.iter().all(|pid| *pid == pids[0]), "{pids:?}");
    assert_eq!(world.metric("opdbus_workers"), 1.0);
    assert_eq!(world.metric("opdbus_worker_starts_total{outcome=\"ok\"}"), 1.0);
}

#[tokio::test]
async fn each_profile_has_a_worker_of_its_own() {
    let world = World::new().await;
    let who = world.who().await;
    let there: WhoAmIThereResponse =
        world.client.call(WHO_AM_I_THERE, WhoAmIThereRequest {}).await.unwrap();
    assert_ne!(there.pid, who.pid);
    assert_eq!((&*who.profile, &*there.profile), ("", "exec"));
}

#[tokio::test]
async fn messages_of_every_size_come_through() {
    let world = World::new().await;
    for size in [0, 1, 16_383, 16_384, 1_000_000, 4_000_000] {
        let data: bytes::Bytes = (0..=u8::MAX).cycle().take(size).collect::<Vec<u8>>().into();
        let echo: EchoResponse =
            world.client.call(ECHO, EchoRequest { data: data.clone() }).await.unwrap();
        assert_eq!(echo.data, data, "{size}");
    }
}

#[tokio::test]
async fn a_response_beyond_the_limit_is_refused() {
    let world = World::with("max_response_bytes = 100000\n").await;
    let big = EchoRequest { data: vec![0; 200_000].into() };
    let outcome = world.client.call::<_, EchoResponse>(ECHO, big).await;
    let details = check_error(outcome, Code::ResourceExhausted, "LIMIT_EXCEEDED");
    assert_eq!(details.error_info().unwrap().metadata["limit"], "worker.max_response_bytes");
    world.who().await;
}

#[tokio::test]
async fn an_error_of_the_agent_arrives_whole() {
    let world = World::new().await;
    let fail =
        |reason: &str| FailRequest { reason: reason.into(), message: "as\nasked: é".into() };
    let outcome = world.client.call::<_, FailResponse>(FAIL, fail("CONFLICT")).await;
    assert_eq!(outcome.as_ref().unwrap_err().message(), "as\nasked: é");
    let details = check_error(outcome, Code::Aborted, "CONFLICT");
    assert_eq!(details.error_info().unwrap().metadata["origin"], "worker_probe");
    let delay = details.retry_info().unwrap().retry_delay;
    assert_eq!(delay, Some(Duration::from_millis(1500)));

    let before = world.who().await.pid;
    let outcome = world.client.call::<_, FailResponse>(FAIL, fail("PANIC")).await;
    check_error(outcome, Code::Internal, "INTERNAL");
    assert_eq!(world.who().await.pid, before, "a panic must not end the worker");
}

#[tokio::test]
async fn a_deadline_and_a_client_that_goes_end_the_work_in_the_worker() {
    let world = World::new().await;
    let wait = || {
        let duration = prost_types::Duration { seconds: 60, nanos: 0 };
        Request::new(WaitRequest { duration: Some(duration) })
    };
    // On a busy machine the first ones may be over before they reach the worker.
    let mut timeout = Duration::from_millis(200);
    while world.count().await.started == 0 {
        let mut late = wait();
        late.set_timeout(timeout);
        let outcome = world.client.request::<_, WaitResponse>(WAIT, late).await;
        check_deadline(outcome.unwrap_err().code());
        timeout *= 2;
    }
    eventually("the work is cancelled", async || world.count().await.cancelled == 1).await;

    let going = world.client.request::<_, WaitResponse>(WAIT, wait());
    tokio::select! {
        outcome = going => panic!("{outcome:?}"),
        () = eventually("the work begins", async || world.count().await.started == 2) => {}
    }
    eventually("the work is cancelled", async || world.count().await.cancelled == 2).await;
    assert_eq!(world.count().await.finished, 0);
}

/// tonic's client may be faster with its own clock.
#[track_caller]
fn check_deadline(code: Code) {
    assert!(matches!(code, Code::DeadlineExceeded | Code::Cancelled), "{code:?}");
}

#[tokio::test]
async fn another_users_call_is_refused_without_the_exec_service() {
    if !is_root("another_users_call_is_refused_without_the_exec_service") {
        return;
    }
    let daemon = for_everybody("[worker]\nmin_uid = 0\n").start();
    let output = ctl_as(64_001, &daemon.grpc_socket(), &["call", "worker_probe", "WhoAmI"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(error.contains("none can act as uid 64001"), "{error}");
    assert!(error.contains("op-dbus-exec.socket"), "{error}");
    assert_eq!(daemon.metric("opdbus_workers"), Some(0.0));
}

#[tokio::test]
async fn the_status_says_how_workers_are_started() {
    let world = World::new().await;
    let path = "/opdbus.v1.AgentsService/GetStatus";
    let status: GetStatusResponse = world.client.call(path, GetStatusRequest {}).await.unwrap();
    let how = format!("under op-dbus's own uid {}", uid());
    assert!(status.workers.contains(&how), "{}", status.workers);
    world.daemon.wait_for_log(&how);
    let output = ctl_as(uid(), &world.daemon.grpc_socket(), &["status"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains(&format!("workers: {how}")), "{text}");
}

#[tokio::test]
async fn what_the_configuration_forbids_is_refused() {
    let refused = async |config: &str, code, reason, text: &str| {
        let daemon = crate::process::Daemon::start(config);
        let client = Client::unix(&daemon.grpc_socket()).await;
        let outcome = client.call::<_, WhoAmIResponse>(WHO_AM_I, WhoAmIRequest {}).await;
        assert!(outcome.as_ref().unwrap_err().message().contains(text), "{outcome:?}");
        check_error(outcome, code, reason);
    };
    let least = format!("[worker]\nmin_uid = {}\n", uid() + 1);
    refused(&least, Code::PermissionDenied, "ACCESS_DENIED", "[worker] min_uid").await;
    let none = "[worker]\nenabled = false\n";
    refused(none, Code::FailedPrecondition, "SANDBOX_UNAVAILABLE", "[worker] enabled").await;
}
