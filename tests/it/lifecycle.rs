//! What clients of both transports see of the daemon's life: how calls end when it stops, what a reload changes,
//! and that the sockets are whose they should be.

use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use nix::sys::signal::Signal;
use op_dbus::proto::opdbus::agent::memory::v1::{RecallRequest, RecallResponse};
use op_dbus::proto::opdbus::agent::probe::v1::{
    CountRequest, CountResponse, SleepRequest, SleepResponse,
};
use prost::Message;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status};
use tower::service_fn;

use crate::process::{Daemon, PATIENCE, Prepared};

async fn connect(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connector = service_fn(move |_: Uri| {
        let socket: PathBuf = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap()
}

async fn call<Q, A>(channel: Channel, operation: &str, request: Q) -> Result<A, Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
    let path = format!("/opdbus.agent.probe.v1.ProbeService/{operation}").parse().unwrap();
    let codec = tonic_prost::ProstCodec::<Q, A>::default();
    Ok(client.unary(tonic::Request::new(request), path, codec).await?.into_inner())
}

/// Waits for the end of the process beside the runtime, so that its clients hear what it says.
async fn wait(mut daemon: Daemon) -> (Option<i32>, Daemon) {
    let ended = tokio::task::spawn_blocking(move || (daemon.wait().code(), daemon));
    ended.await.unwrap()
}

/// Starts a call that takes `time`, and returns once it runs.
async fn sleeping(
    daemon: &Daemon,
    channel: &Channel,
    time: Duration,
) -> tokio::task::JoinHandle<Result<SleepResponse, Status>> {
    let request = SleepRequest { duration: Some(time.try_into().unwrap()) };
    let task = tokio::spawn(call(channel.clone(), "Sleep", request));
    let running = r#"opdbus_calls_in_flight{agent="probe",interface="own",operation="Sleep",transport="grpc"}"#;
    let deadline = Instant::now() + PATIENCE;
    while daemon.metric(running) != Some(1.0) {
        assert!(Instant::now() < deadline, "the call does not run");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    task
}

async fn count(channel: &Channel) -> Result<CountResponse, Status> {
    call(channel.clone(), "Count", CountRequest::default()).await
}

#[tokio::test]
async fn calls_that_run_end_well_when_it_stops() {
    let daemon = Daemon::start("");
    let channel = connect(&daemon.grpc_socket()).await;
    let call = sleeping(&daemon, &channel, Duration::from_millis(700)).await;
    daemon.signal(Signal::SIGTERM);
    daemon.wait_for("STOPPING=1");
    call.await.unwrap().unwrap();
    let (code, daemon) = wait(daemon).await;
    assert_eq!(code, Some(0));
    daemon.wait_for_log("every call ended");
}

#[tokio::test]
async fn calls_that_run_for_too_long_are_cut_off_when_it_stops() {
    let daemon = Daemon::start("[daemon]\ndrain_grace_ms = 200\n");
    let channel = connect(&daemon.grpc_socket()).await;
    let call = sleeping(&daemon, &channel, Duration::from_secs(30)).await;
    let begun = Instant::now();
    daemon.signal(Signal::SIGTERM);
    let (code, daemon) = wait(daemon).await;
    assert_eq!(code, Some(0));
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(200) && took < Duration::from_secs(20), "{took:?}");
    call.await.unwrap().unwrap_err();
    daemon.wait_for_log("gave up waiting");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let daemon = Daemon::start("");
    let channel = connect(&daemon.grpc_socket()).await;
    let call = sleeping(&daemon, &channel, Duration::from_secs(30)).await;
    daemon.signal(Signal::SIGTERM);
    daemon.wait_for("STOPPING=1");
    daemon.signal(Signal::SIGTERM);
    let begun = Instant::now();
    assert_eq!(wait(daemon).await.0, Some(130));
    assert!(begun.elapsed() < Duration::from_secs(20));
    call.await.unwrap().unwrap_err();
}

#[tokio::test]
async fn a_reload_changes_the_policy_on_connections_that_are_open() {
    let daemon = Daemon::start("");
    let channel = connect(&daemon.grpc_socket()).await;
    count(&channel).await.unwrap();
    daemon.write_config("[[policy]]\ndecision = \"deny\"\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("RELOADING=1");
    daemon.wait_for("READY=1");
    assert_eq!(count(&channel).await.unwrap_err().code(), Code::PermissionDenied);
    daemon.write_config("");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("RELOADING=1");
    daemon.wait_for("READY=1");
    assert_eq!(count(&channel).await.unwrap().count, 2);
}

#[tokio::test]
async fn the_socket_that_systemd_passes_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passed.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let daemon = Prepared::new("").socket(listener, "grpc").start();
    assert!(!daemon.grpc_socket().exists());
    count(&connect(&path).await).await.unwrap();
    daemon.stop();
    // It is systemd's and outlives the service.
    assert!(path.exists());
}

#[tokio::test]
async fn a_second_daemon_on_the_same_socket_says_so_and_disturbs_nobody() {
    let daemon = Daemon::start("");
    let socket = daemon.grpc_socket();
    let (code, _, error) = Prepared::new(&format!("[grpc]\nunix = {socket:?}\n")).run();
    assert_eq!(code, 75, "{error}");
    assert!(error.contains("the gRPC transport cannot start"), "{error}");
    assert!(error.contains(&socket.display().to_string()), "{error}");
    count(&connect(&socket).await).await.unwrap();
    daemon.stop();
}

#[tokio::test]
async fn a_client_that_does_not_listen_does_not_delay_the_end() {
    let daemon = Daemon::start("");
    let channel = connect(&daemon.grpc_socket()).await;
    count(&channel).await.unwrap();
    // Nothing turns the client's runtime meanwhile, so it cannot say goodbye.
    let begun = Instant::now();
    daemon.stop();
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}

#[test]
fn calls_over_dbus_that_run_end_well_when_it_stops() {
    let mut daemon = Daemon::start("");
    let call = Command::new("busctl")
        .arg(format!("--address={}", daemon.bus.address))
        .args(["call", "org.opdbus.Agents1", "/org/opdbus/Agents1/agent/probe"])
        .args(["org.opdbus.Probe1", "Sleep", "xa{sv}", "700000", "0"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let running = r#"opdbus_calls_in_flight{agent="probe",interface="own",operation="Sleep",transport="dbus"}"#;
    let deadline = Instant::now() + PATIENCE;
    while daemon.metric(running) != Some(1.0) {
        assert!(Instant::now() < deadline, "the call does not run");
    }
    daemon.signal(Signal::SIGTERM);
    let output = call.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(daemon.wait().code(), Some(0));
    daemon.wait_for_log("every call ended");
}

#[test]
fn a_second_daemon_with_the_same_bus_name_says_so() {
    let daemon = Daemon::start("");
    let same_bus = format!("[dbus]\nbus = {:?}\n", daemon.bus.address);
    let prepared = Prepared::new(&same_bus);
    let socket = prepared.folder.path().join("grpc.sock");
    let (code, _, error) = prepared.run();
    assert_eq!(code, 75, "{error}");
    assert!(error.contains("another process owns org.opdbus.Agents1"), "{error}");
    // What was started before is gone again.
    assert!(!socket.exists());
    daemon.stop();
}

#[test]
fn a_bus_that_is_not_there_ends_with_75() {
    let prepared = Prepared::new("");
    let config = prepared.folder.path().join("grpc.toml").display().to_string();
    let arguments = ["--config", &config, "--bus", "unix:path=/nonexistent/bus"];
    let (code, _, error) = prepared.arguments(&arguments).run();
    assert_eq!(code, 75, "{error}");
    assert!(error.contains("the D-Bus transport cannot start"), "{error}");
    assert!(error.contains("/nonexistent/bus"), "{error}");
}

#[tokio::test]
async fn the_configuration_says_when_agents_start() {
    let daemon = Daemon::start(
        "[agents]\nrun_on_connection = [\"context_manager\"]\non_demand = [\"memory\"]\n",
    );
    let database = |name: &str| daemon.folder.path().join("state").join(name);
    for name in ["context_manager.db", "memory.db", "sequential_thinking.db"] {
        assert!(!database(name).exists(), "{name}");
    }
    let recall = RecallRequest { key: "absent".into(), ..RecallRequest::default() };
    let path = "/opdbus.agent.memory.v1.MemoryService/Recall";
    let client = crate::grpc::Client::unix(&daemon.grpc_socket()).await;
    let outcome = client.call::<_, RecallResponse>(path, recall).await;
    assert_eq!(outcome.unwrap_err().code(), Code::NotFound);
    assert!(database("memory.db").exists());
    assert!(!database("context_manager.db").exists());
}
