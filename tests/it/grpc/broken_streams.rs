//! Streams whose clients break off, never read, or send what is no message: by bare HTTP/2, because a
//! client library would not let them.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use op_dbus::proto::opdbus::agent::probe::v1::{
    BlocksRequest, BlocksResponse, ChatRequest, GenerateRequest, SumRequest,
};
use tokio::io::AsyncWriteExt as _;
use tokio::net::UnixStream;
use tokio_stream::iter;
use tonic::Code;

use super::{BLOCKS, CHAT, GENERATE, Running, SUM, eventually, raw, start};
use crate::process::PATIENCE;

fn chat(text: &str) -> Bytes {
    raw::framed(&ChatRequest { text: text.into() })
}

/// Waits until so many calls of `operation` have ended as `outcome`, and checks that no other has.
async fn ended(running: &Running, operation: &str, outcome: &str, calls: f64) {
    let label = format!("operation=\"{operation}\"");
    let text = || running.service.executor.metrics().render().unwrap();
    let count = |outcome: &str| -> f64 {
        text()
            .lines()
            .filter(|line| line.starts_with("opdbus_calls_total") && line.contains(&label))
            .filter(|line| line.contains(outcome))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    eventually("the call ends", async || count("") >= calls).await;
    assert_eq!(count(&format!("outcome=\"{outcome}\"")), calls, "{}", text());
}

#[tokio::test]
async fn half_a_message_is_no_end() {
    let running = start().await;
    let whole = chat("hello");
    for (half, text) in
        [(2, "within its length"), (5, "after 0 of"), (whole.len() - 1, "after 6 of")]
    {
        let call = raw::open(&running.path, CHAT, &[]).await;
        call.send(whole.clone()).await;
        call.send(whole.slice(..half)).await;
        let (answer, body) = call.end().await;
        assert_eq!(answer.code(), Code::InvalidArgument);
        assert!(answer.message().replace("%20", " ").contains(text), "{answer:?}");
        // What came whole before it was answered.
        assert_eq!(body, whole);
    }
    running.client().await.ping().await;
}

#[tokio::test]
async fn a_message_in_any_pieces_is_one() {
    let running = start().await;
    let messages = [chat("hello"), chat(""), chat(&"x".repeat(100_000)), chat("end")].concat();
    for piece in [1000, 16 * 1024, messages.len()] {
        let call = raw::open(&running.path, CHAT, &[]).await;
        let pieces = call.pieces.clone();
        let bytes = Bytes::from(messages.clone());
        tokio::spawn(async move {
            let mut at = 0;
            while at < bytes.len() {
                let end = bytes.len().min(at + piece);
                pieces.send(Ok(http_body::Frame::data(bytes.slice(at..end)))).await.unwrap();
                at = end;
            }
        });
        let (answer, body) = call.end().await;
        assert_eq!(answer.code(), Code::Ok, "{answer:?}");
        assert_eq!(body, messages);
    }
}

#[tokio::test]
async fn what_is_no_message_breaks_the_stream() {
    let running = start().await;
    for (bytes, code) in [
        (vec![7, 0, 0, 0, 0], Code::InvalidArgument),
        (vec![1, 0, 0, 0, 1, 0], Code::InvalidArgument),
        (vec![0, 0, 0, 0, 2, 0xff, 0xff], Code::InvalidArgument),
        (vec![0, 0xff, 0xff, 0xff, 0xff], Code::ResourceExhausted),
    ] {
        // The request goes on; the agent's end is the client's all the same.
        let call = raw::open(&running.path, SUM, &[]).await;
        call.send(raw::framed(&SumRequest { number: 1 })).await;
        call.send(bytes).await;
        let answer = raw::Call::answer(call.response);
        let (answer, body) = tokio::time::timeout(PATIENCE, answer).await.unwrap();
        assert_eq!(answer.code(), code, "{answer:?}");
        assert!(answer.headers.contains_key("opdbus-task-id"), "{answer:?}");
        assert!(body.is_empty());
        drop(call.pieces);
    }
}

#[tokio::test]
async fn a_client_that_breaks_off_is_no_end_of_its_stream() {
    let running = start().await;
    let broken = || io::Error::other("the client breaks off");
    for calls in 1..=5 {
        let call = raw::open(&running.path, SUM, &[]).await;
        call.send(raw::framed(&SumRequest { number: 1 })).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        call.pieces.send(Err(broken())).await.unwrap();
        ended(&running, "Sum", "cancelled", f64::from(calls)).await;
    }
}

#[tokio::test]
async fn no_kind_of_reset_is_an_end() {
    const NO_ERROR: u8 = 0;
    const CANCEL: u8 = 8;
    let running = start().await;
    for (calls, code) in [(1.0, NO_ERROR), (2.0, CANCEL)] {
        let mut stream = UnixStream::connect(&running.path).await.unwrap();
        let bytes = raw::reset_bytes(SUM, &SumRequest { number: 1 }, code);
        // The reset comes when the call runs.
        let (before, reset) = bytes.split_at(bytes.len() - 13);
        stream.write_all(before).await.unwrap();
        let metrics = running.service.executor.metrics();
        eventually("the call runs", async || metrics.running() == 1).await;
        stream.write_all(reset).await.unwrap();
        ended(&running, "Sum", "cancelled", calls).await;
    }
}

#[tokio::test]
async fn a_connection_that_is_cut_breaks_its_streams() {
    let running = start().await;
    let mut stream = UnixStream::connect(&running.path).await.unwrap();
    let bytes = raw::reset_bytes(SUM, &SumRequest { number: 1 }, 0);
    stream.write_all(&bytes[..bytes.len() - 13]).await.unwrap();
    let metrics = running.service.executor.metrics();
    eventually("the call runs", async || metrics.running() == 1).await;
    drop(stream);
    ended(&running, "Sum", "cancelled", 1.0).await;
}

#[tokio::test]
async fn a_client_that_never_reads_holds_up_nobody_else() {
    let running = start().await;
    // One lets the server send nothing at all, one never looks at its stream.
    let mut closed = UnixStream::connect(&running.path).await.unwrap();
    let request = BlocksRequest { count: 1_000, size_bytes: 64 * 1024 };
    closed.write_all(&raw::closed_window_bytes(BLOCKS, &request)).await.unwrap();
    let client = running.client().await;
    let unread = client.stream::<_, BlocksResponse>(BLOCKS, iter([request])).await.unwrap();

    let readers = (0..50).map(|_| {
        let client = client.clone();
        async move {
            let request = iter([BlocksRequest { count: 100, size_bytes: 10_000 }]);
            let response = client.stream(BLOCKS, request).await.unwrap();
            let mut blocks = response.into_inner();
            let mut read = 0;
            while let Some(BlocksResponse { block }) = blocks.message().await.unwrap() {
                read += block.len();
            }
            assert_eq!(read, 1_000_000);
        }
    });
    let reading = futures_util::future::join_all(readers);
    tokio::time::timeout(PATIENCE, reading).await.expect("nobody is held up");
    assert_eq!(running.service.executor.metrics().running(), 2);

    // It loses nothing when it reads at last.
    let mut blocks = unread.into_inner();
    let mut read = 0;
    while let Some(BlocksResponse { block }) = blocks.message().await.unwrap() {
        read += block.len();
    }
    assert_eq!(read, 1_000 * 64 * 1024);
}

#[tokio::test]
async fn the_time_of_a_stream_is_over_without_the_client_saying_so() {
    let running = start().await;
    for operation in [CHAT, SUM] {
        let call = raw::open(&running.path, operation, &[("grpc-timeout", "200m")]).await;
        let hello = chat("hello");
        call.send(if operation == CHAT { hello.clone() } else { Bytes::new() }).await;
        let (answer, body) = raw::Call::answer(call.response).await;
        assert_eq!(answer.code(), Code::DeadlineExceeded, "{answer:?}");
        assert!(answer.headers.contains_key("grpc-status-details-bin"));
        assert_eq!(body, if operation == CHAT { hello } else { Bytes::new() });
        drop(call.pieces);
    }
}

#[tokio::test]
async fn small_messages_share_frames() {
    let running = start().await;
    let mut connection = raw::connect(&running.path).await;
    let request = http::Request::post(format!("http://localhost{GENERATE}"))
        .header("content-type", "application/grpc")
        .body(http_body_util::Full::new(raw::framed(&GenerateRequest { count: 1000 })))
        .unwrap();
    let mut body = connection.send_request(request).await.unwrap().into_body();
    let mut frames = 0;
    while let Some(frame) = http_body_util::BodyExt::frame(&mut body).await {
        frames += usize::from(frame.unwrap().is_data());
    }
    assert!(frames < 100, "{frames} frames");
}
