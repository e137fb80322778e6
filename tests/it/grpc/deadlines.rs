//! Time that is over is DEADLINE_EXCEEDED, and the work ends with it.

use std::convert::Infallible;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::{iter, pending};
use http::Request;
use http_body::Frame;
use http_body_util::StreamBody;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use op_dbus::proto::opdbus::agent::probe::v1::{SleepRequest, SleepResponse};
use tonic::Code;

use super::{Client, Running, SLEEP, eventually, raw, start};

fn sleep(time: Duration) -> SleepRequest {
    SleepRequest { duration: Some(time.try_into().unwrap()) }
}

/// How many of the probe's waits were cancelled so far.
async fn cancelled(client: &Client) -> u64 {
    let response: SleepResponse = client.call(SLEEP, sleep(Duration::ZERO)).await.unwrap();
    response.cancelled
}

async fn nothing_runs(running: &Running) {
    eventually("no call is in flight", async || running.service.executor.metrics().running() == 0)
        .await;
}

#[tokio::test]
async fn the_server_ends_every_call_in_time_and_says_so() {
    let running = start().await;
    let mut connection = raw::connect(&running.path).await;
    for round in 0..60 {
        let body = raw::framed(&sleep(Duration::from_secs(60)));
        // Different lengths, so that the timers meet every place within a millisecond.
        let timeout = format!("{}u", 5_000 + 97 * round);
        let answer = raw::send(&mut connection, SLEEP, &[("grpc-timeout", &timeout)], body).await;
        assert_eq!(answer.code(), Code::DeadlineExceeded, "{answer:?}");
        assert!(answer.headers.contains_key("grpc-status-details-bin"));
    }
    assert_eq!(cancelled(&running.client().await).await, 60);
    assert_eq!(running.metric("opdbus_calls_total", "deadline_exceeded"), 60.0);
    nothing_runs(&running).await;
}

#[tokio::test]
async fn a_time_of_nothing_is_over_at_once() {
    let running = start().await;
    let mut connection = raw::connect(&running.path).await;
    for timeout in ["0S", "1n"] {
        let body = raw::framed(&sleep(Duration::from_secs(60)));
        let answer = raw::send(&mut connection, SLEEP, &[("grpc-timeout", timeout)], body).await;
        assert_eq!(answer.code(), Code::DeadlineExceeded, "{answer:?}");
    }
    nothing_runs(&running).await;
}

/// A request whose message never comes whole.
async fn send_half(running: &Running, headers: &[(&str, &str)]) -> raw::Answer {
    let stream = tokio::net::UnixStream::connect(&running.path).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let half = Frame::data(bytes::Bytes::from_static(&[0, 0, 0, 0, 9, 1]));
    let body = StreamBody::new(iter([Ok::<_, Infallible>(half)]).chain(pending()));
    let mut request = Request::post(format!("http://localhost{SLEEP}"))
        .header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = sender.send_request(request.body(body).unwrap()).await.unwrap();
    raw::Answer { status: response.status(), headers: response.headers().clone() }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_never_comes_whole_is_given_up() {
    let running = start().await;
    for (headers, seconds) in [(&[("grpc-timeout", "2S")] as &[_], 2), (&[], 30)] {
        let start = tokio::time::Instant::now();
        let answer = send_half(&running, headers).await;
        assert_eq!(answer.code(), Code::DeadlineExceeded, "{answer:?}");
        assert_eq!(start.elapsed().as_secs(), seconds);
    }
    assert_eq!(running.metric("opdbus_rejected_total", "deadline"), 2.0);
}

#[tokio::test]
async fn a_client_that_gives_up_ends_the_work() {
    let running = start().await;
    let client = running.client().await;
    for _ in 0..10 {
        let call = client.call::<_, SleepResponse>(SLEEP, sleep(Duration::from_secs(60)));
        tokio::time::timeout(Duration::from_millis(20), call).await.unwrap_err();
    }
    eventually("ten waits are cancelled", async || cancelled(&client).await == 10).await;
    eventually("ten calls are counted", async || {
        running.metric("opdbus_calls_total", "outcome=\"cancelled\"") == 10.0
    })
    .await;
    nothing_runs(&running).await;
}

#[tokio::test]
async fn a_connection_that_breaks_ends_its_calls() {
    let running = start().await;
    let client = running.client().await;
    let mut connection = raw::connect(&running.path).await;
    let call = tokio::spawn(async move {
        let body = raw::framed(&sleep(Duration::from_secs(60)));
        raw::send(&mut connection, SLEEP, &[], body).await
    });
    eventually("the call runs", async || running.service.executor.metrics().running() == 1).await;
    call.abort();
    eventually("the wait is cancelled", async || cancelled(&client).await == 1).await;
}
