//! The share of one user as clients meet it, over gRPC and over D-Bus, and by the configuration.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use op_dbus::executor::{Config, ShareConfig};
use op_dbus::proto::opdbus::agent::probe::v1::{CountRequest, CountResponse, FillRequest};
use op_dbus::proto::opdbus::v1::{PingRequest, PingResponse};
use op_dbus::transport::{dbus, grpc::Server};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tonic::Code;

use crate::ctl::{command, stderr};
use crate::dbus::{NAME, call, connect, failed, none};
use crate::fixture::{Bus, Service};
use crate::grpc::{COUNT, Client, FILL, PING, check_error, config, eventually, place, raw, serve};
use crate::process::Daemon;

/// gRPC with these shares.
async fn grpc(share: ShareConfig) -> (Service, Server, TempDir, std::path::PathBuf) {
    let service = Service::new(Config { share, ..Config::default() });
    let (folder, path) = place();
    let server = serve(config(&path), &service).await.unwrap();
    (service, server, folder, path)
}

/// Checks that a call met `limit`, and that the client hears when to come again.
#[track_caller]
fn met<T: std::fmt::Debug>(outcome: Result<T, tonic::Status>, limit: &str) -> Duration {
    let details = check_error(outcome, Code::ResourceExhausted, "LIMIT_EXCEEDED");
    assert_eq!(details.error_info().unwrap().metadata["limit"], limit);
    details.retry_info().and_then(|info| info.retry_delay).expect("a RetryInfo")
}

#[tokio::test]
async fn the_rate_is_one_for_both_transports_and_says_when_to_come_again() {
    let mut share = ShareConfig::default();
    // The risk of what is called here is WRITE.
    share.per_second[1] = NonZeroU32::new(1);
    let (service, _server, _folder, path) = grpc(share).await;
    let bus = Bus::start();
    let address = dbus::Bus::Address(bus.address.clone());
    let config = dbus::Config {
        bus: address,
        name: NAME.into(),
        max_body_bytes: 1 << 20,
        legacy: Vec::new(),
    };
    let status = Arc::clone(&service.status);
    let _dbus = dbus::start(config, Arc::clone(&service.executor), status).await.unwrap();
    let (grpc, client) = (Client::unix(&path).await, connect(&bus).await);
    let probe = "/org/opdbus/Agents1/agent/probe";
    let over_dbus =
        async || call(&client, probe, Some("org.opdbus.Probe1"), "Count", &none()).await;
    let over_grpc = || grpc.call::<_, CountResponse>(COUNT, CountRequest {});

    // A machine that is slow gives the user a call more in between.
    let wait = loop {
        let outcome = over_grpc().await;
        if outcome.is_err() {
            break met(outcome, "limits.write_per_second");
        }
    };
    assert!(wait <= Duration::from_secs(1), "{wait:?}");
    let text = loop {
        let outcome = over_dbus().await;
        if outcome.is_err() {
            break failed(outcome, "org.opdbus.Error.LimitExceeded");
        }
    };
    assert!(text.contains("limits.write_per_second is 1"), "{text}");
    eventually("the user may call again", async || over_grpc().await.is_ok()).await;
}

#[test]
fn shares_come_from_the_configuration_and_a_reload_takes_them_up() {
    let daemon = Daemon::start("[limits]\nwrite_per_second = 1\n");
    let address = format!("unix:{}", daemon.grpc_socket().display());
    let remember = || {
        let words = ["--address", &address, "call", "memory", "remember", "key=k", "value=1"];
        command().args(words).output().unwrap()
    };
    let refused = (0..100).map(|_| remember()).find(|output| !output.status.success());
    let refused = stderr(&refused.expect("a hundred in a second are too many"));
    assert!(refused.contains("limits.write_per_second"), "{refused}");
    daemon.write_config("[limits]\nwrite_per_second = 0\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for("RELOADING=1");
    let ready = daemon.wait_for("READY=1");
    assert!(!ready.contains("warnings"), "no restart is needed: {ready}");
    for _ in 0..5 {
        assert!(remember().status.success());
    }
    daemon.stop();
}

#[tokio::test]
async fn requests_that_never_end_are_bounded_by_number() {
    let share = ShareConfig { max_streams: 3, ..ShareConfig::default() };
    let (_service, _server, _folder, path) = grpc(share).await;
    let client = Client::unix(&path).await;
    let mut open = Vec::new();
    for _ in 0..3 {
        let call = raw::open(&path, PING, &[]).await;
        call.send(vec![0_u8, 0, 0]).await;
        open.push(call);
    }
    let ping = || client.call::<_, PingResponse>(PING, PingRequest::default());
    eventually("they have all come", async || ping().await.is_err()).await;
    met(ping().await, "limits.max_streams");
    drop(open);
    eventually("their places are free", async || ping().await.is_ok()).await;
}

#[tokio::test]
async fn requests_that_are_half_there_are_bounded_by_their_bytes() {
    let share = ShareConfig { request_bytes: 64 * 1024, ..ShareConfig::default() };
    let (service, _server, _folder, path) = grpc(share).await;
    let half = async || {
        let call = raw::open(&path, PING, &[]).await;
        let mut bytes = vec![0, 0, 1, 0, 0];
        bytes.resize(48 * 1024, 0);
        call.send(bytes).await;
        call
    };
    let first = half().await;
    let (answer, _) = raw::Call::answer(half().await.response).await;
    // As soon as it was too much, and not when it was whole.
    assert_eq!(answer.code(), Code::ResourceExhausted, "{answer:?}");
    assert!(answer.message().contains("limits.request_bytes"), "{answer:?}");
    let line = r#"opdbus_rejected_total{reason="caller_bytes"} 1"#;
    let text = service.executor.metrics().render().unwrap();
    assert!(text.lines().any(|found| found == line), "{text}");
    drop(first);
    let client = Client::unix(&path).await;
    eventually("the bytes are given back", async || {
        let request = PingRequest { payload: vec![1; 60_000].into() };
        client.call::<_, PingResponse>(PING, request).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn responses_that_nobody_reads_are_bounded_over_all_connections() {
    let share = ShareConfig { unread_bytes: 3 << 20, ..ShareConfig::default() };
    let (_service, _server, _folder, path) = grpc(share).await;
    let client = Client::unix(&path).await;
    let ping = async || client.call::<_, PingResponse>(PING, PingRequest::default()).await;
    let fill = FillRequest { size_bytes: 1_000_000, filler: String::new() };
    let mut unread = Vec::new();
    while ping().await.is_ok() {
        let mut deaf = UnixStream::connect(&path).await.unwrap();
        deaf.write_all(&raw::closed_window_bytes(FILL, &fill)).await.unwrap();
        unread.push(deaf);
        assert!(unread.len() < 60, "the server keeps everything");
        // The answer comes to wait a moment later.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    met(ping().await, "limits.unread_bytes");
    assert!(unread.len() >= 3, "{}", unread.len());
    drop(unread);
    eventually("the user is served again", async || ping().await.is_ok()).await;
}
