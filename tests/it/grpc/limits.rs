//! Requests and responses that are too large, broken or compressed.

use std::time::Duration;

use bytes::Bytes;
use op_dbus::executor;
use op_dbus::proto::opdbus::agent::probe::v1::{FillRequest, FillResponse};
use op_dbus::proto::opdbus::v1::{PingRequest, PingResponse};
use op_dbus::transport::grpc::Config;
use prost::Message as _;
use tokio::io::AsyncReadExt as _;
use tokio::net::UnixStream;
use tonic::{Code, Status};

use super::{Client, FILL, LIMIT, PING, check_error, config, eventually, place, raw, serve, start};
use crate::fixture::Service;

#[track_caller]
fn check_limit<T: std::fmt::Debug>(outcome: Result<T, Status>, limit: &str) {
    let details = check_error(outcome, Code::ResourceExhausted, "LIMIT_EXCEEDED");
    let facts = &details.error_info().unwrap().metadata;
    assert_eq!((facts["limit"].as_str(), facts["limit_value"].as_str()), (limit, "1048576"));
}

/// A ping whose message has `bytes` bytes.
fn ping_of(bytes: usize) -> PingRequest {
    let of = |payload: usize| PingRequest { payload: Bytes::from(vec![1; payload]) };
    let overhead = of(bytes).encoded_len() - bytes;
    of(bytes - overhead)
}

#[tokio::test]
async fn a_request_up_to_the_limit_is_served_and_one_more_byte_is_not() {
    let running = start().await;
    let client = running.client().await;
    client.call::<_, PingResponse>(PING, ping_of(LIMIT)).await.unwrap();
    for size in [LIMIT + 1, 20 * LIMIT] {
        let outcome = client.call::<_, PingResponse>(PING, ping_of(size)).await;
        check_limit(outcome, "grpc.max_request_bytes");
    }
    client.ping().await;
    assert_eq!(running.metric("opdbus_rejected_total", "too_large"), 2.0);
}

#[tokio::test]
async fn a_response_up_to_the_limit_is_given_and_one_more_byte_is_not() {
    let running = start().await;
    let client = running.client().await;
    let fill = async |bytes: usize| {
        let request = FillRequest { size_bytes: bytes as u64 - 4, filler: String::new() };
        client.call::<_, FillResponse>(FILL, request).await
    };
    assert_eq!(fill(LIMIT).await.unwrap().text.len(), LIMIT - 4);
    check_limit(fill(LIMIT + 1).await, "grpc.max_response_bytes");
    client.ping().await;
}

#[tokio::test]
async fn thousands_of_requests_past_the_limit_leave_nothing_behind() {
    let running = start().await;
    let mut connection = raw::connect(&running.path).await;
    for _ in 0..10_000 {
        let answer = raw::send(&mut connection, PING, &[], vec![0, 0xff, 0xff, 0xff, 0xff]).await;
        assert_eq!(answer.code(), Code::ResourceExhausted);
    }
    assert_eq!(running.metric("opdbus_rejected_total", "too_large"), 10_000.0);
    assert_eq!(running.service.executor.metrics().running(), 0);
    running.client().await.ping().await;
}

#[tokio::test]
async fn what_is_no_message_is_an_invalid_argument() {
    let running = start().await;
    let mut connection = raw::connect(&running.path).await;
    for (body, text) in [
        // A whole frame with half a protobuf message.
        (&[0, 0, 0, 0, 3, 0x0a, 9, b'x'] as &[u8], "request"),
        // A field of the wrong type.
        (&[0, 0, 0, 0, 2, 0x08, 1], "request"),
        (&[0, 0, 0, 0, 9, 0x0a], "after%201%20of%209%20bytes"),
        (&[0, 0, 0], "within%20its%20length"),
        (&[], "no%20message"),
        (&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0], "more%20than%20one"),
        (&[9, 0, 0, 0, 0], "flag%209"),
    ] {
        let answer = raw::send(&mut connection, PING, &[], body).await;
        assert_eq!(answer.code(), Code::InvalidArgument, "{answer:?}");
        assert!(answer.message().contains(text), "{answer:?}");
    }
    assert_eq!(running.metric("opdbus_rejected_total", "invalid_request"), 5.0);
    running.client().await.ping().await;
}

#[tokio::test]
async fn compression_is_not_served_and_the_answer_says_what_is() {
    let running = start().await;
    let mut connection = raw::connect(&running.path).await;
    let compressed: &[u8] = &[1, 0, 0, 0, 1, 0];
    let answer = raw::send(&mut connection, PING, &[("grpc-encoding", "gzip")], compressed).await;
    assert_eq!(answer.code(), Code::Unimplemented, "{answer:?}");
    assert_eq!(answer.headers["grpc-accept-encoding"], "identity");
    let answer = raw::send(&mut connection, PING, &[], compressed).await;
    assert_eq!(answer.code(), Code::Internal, "{answer:?}");
}

#[tokio::test]
async fn what_is_no_grpc_gets_an_answer_of_http() {
    let running = start().await;
    let mut connection = raw::connect(&running.path).await;
    let request = |method: &str, kind: &str| {
        http::Request::builder()
            .method(method)
            .uri(format!("http://localhost{PING}"))
            .header("content-type", kind)
            .body(raw::framed(&PingRequest::default()).into())
            .unwrap()
    };
    for (method, kind, status) in [
        ("GET", "application/grpc", 405),
        ("POST", "text/html", 415),
        ("POST", "application/grpc-web", 415),
        ("POST", "application/grpc+json", 415),
        ("POST", "application/grpc+proto", 200),
        ("POST", "application/grpc;charset=utf-8", 200),
    ] {
        let answer = raw::exchange(&mut connection, request(method, kind)).await;
        assert_eq!(answer.status, status, "{method} {kind}: {answer:?}");
    }
}

#[tokio::test]
async fn a_user_has_a_share_of_the_connections_and_hears_of_its_end() {
    let service = Service::new(executor::Config::default());
    for (max_connections, max_connections_per_uid, limit) in
        [(8, 3, "grpc.max_connections_per_uid"), (3, 3, "grpc.max_connections")]
    {
        let (_folder, path) = place();
        let config = Config { max_connections, max_connections_per_uid, ..config(&path) };
        let _server = serve(config, &service).await.unwrap();
        let mut clients = Vec::new();
        for _ in 0..3 {
            let client = Client::unix(&path).await;
            client.ping().await;
            clients.push(client);
        }
        let mut refused = UnixStream::connect(&path).await.unwrap();
        let mut words = Vec::new();
        refused.read_to_end(&mut words).await.unwrap();
        let text = String::from_utf8_lossy(&words);
        assert!(text.ends_with(&format!("({limit} is 3)")), "{text:?}");

        // The others do not notice, and the place of one that goes is free again.
        for client in &clients {
            client.ping().await;
        }
        clients.pop();
        eventually("there is a place", async || {
            let mut stream = UnixStream::connect(&path).await.unwrap();
            let mut words = Vec::new();
            let end = stream.read_to_end(&mut words);
            tokio::time::timeout(Duration::from_millis(50), end).await.is_err()
        })
        .await;
    }
}
