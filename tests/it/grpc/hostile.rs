//! Clients that never speak, never read, or speak nonsense take nothing from the others.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt as _, Full};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use op_dbus::proto::opdbus::agent::probe::v1::FillRequest;
use op_dbus::proto::opdbus::v1::PingRequest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::Instant;
use tonic::Code;

use super::{FILL, LIMIT, PING, raw, start};
use crate::process::PATIENCE;

#[tokio::test(start_paused = true)]
async fn a_client_that_never_speaks_is_closed_after_ten_seconds() {
    let running = start().await;
    for said in [b"" as &[u8], b"P", &raw::PREFACE[..23]] {
        let mut stream = UnixStream::connect(&running.path).await.unwrap();
        stream.write_all(said).await.unwrap();
        let start = Instant::now();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        let waited = start.elapsed().as_secs_f64();
        assert!((9.9..10.5).contains(&waited), "{waited} s after {said:?}");
    }
}

#[tokio::test]
async fn a_client_that_has_spoken_may_be_silent() {
    let running = start().await;
    let client = running.client().await;
    client.ping().await;
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(3600)).await;
    tokio::time::resume();
    client.ping().await;
}

#[tokio::test]
async fn garbage_ends_its_own_connection_only() {
    let running = start().await;
    let client = running.client().await;
    let settings = [raw::PREFACE, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat();
    for garbage in [
        b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_vec(),
        vec![0; 4096],
        vec![0xff; 4096],
        [&settings as &[u8], &[0xff; 64]].concat(),
        [&settings as &[u8], &[0, 0, 4, 1, 4, 0, 0, 0, 1, 0x7f, 0xff, 0xff, 0xff]].concat(),
        [&settings as &[u8], &[0, 0, 1, 9, 4, 0, 0, 0, 1, 0x80]].concat(),
    ] {
        let mut stream = UnixStream::connect(&running.path).await.unwrap();
        stream.write_all(&garbage).await.unwrap();
        let mut answer = Vec::new();
        let end = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
        // Closed with what was sent still unread, a socket is reset; both are an end.
        end.await.expect("the server closes it").ok();
        client.ping().await;
    }
}

#[tokio::test]
async fn any_authority_is_served_on_the_unix_socket() {
    let running = start().await;
    for authority in ["%2Frun%2Fgrpc.sock", "/run/op-dbus/grpc.sock", "a b:c:d", "localhost", "é"]
    {
        let mut stream = UnixStream::connect(&running.path).await.unwrap();
        let request = PingRequest { payload: "hello".into() };
        stream.write_all(&raw::connection_bytes(PING, authority, &request)).await.unwrap();
        let mut got = Vec::new();
        while !got.windows(5).any(|bytes| bytes == b"hello") {
            let read = tokio::time::timeout(PATIENCE, stream.read_buf(&mut got));
            assert!(read.await.unwrap().unwrap() > 0, "refused {authority:?}: {got:?}");
        }
    }
}

fn fill() -> Request<Full<bytes::Bytes>> {
    let fill = FillRequest { size_bytes: LIMIT as u64 - 4, filler: String::new() };
    Request::post(format!("http://localhost{FILL}"))
        .header("content-type", "application/grpc")
        .body(Full::new(raw::framed(&fill)))
        .unwrap()
}

#[tokio::test]
async fn responses_that_nobody_reads_are_bounded() {
    let running = start().await;
    let mut connection = raw::connect(&running.path).await;
    // Each answer's body is left unread, so its megabyte stays with the server.
    let mut unread = Vec::new();
    let refused = loop {
        let response = connection.send_request(fill()).await.unwrap();
        if let Some(status) = response.headers().get("grpc-status") {
            break Code::from_bytes(status.as_bytes());
        }
        unread.push(response);
        assert!(unread.len() < 64, "the server keeps everything");
    };
    assert_eq!(refused, Code::ResourceExhausted);
    assert!(unread.len() >= 16, "{}", unread.len());

    // Others are served, and so is this one once it reads.
    running.client().await.ping().await;
    // All at once, because they share the connection's window.
    let reading = unread.into_iter().map(|response| response.into_body().collect());
    for body in futures_util::future::join_all(reading).await {
        assert_eq!(body.unwrap().to_bytes().len(), LIMIT + 5);
    }
    let answer = raw::exchange(&mut connection, fill()).await;
    assert_eq!(answer.code(), Code::Ok);
}

/// True if the other end is closed, whatever is still to be read.
fn has_hung_up(socket: &StdUnixStream) -> bool {
    let mut poll = [PollFd::new(socket.as_fd(), PollFlags::empty())];
    nix::poll::poll(&mut poll, PollTimeout::ZERO).unwrap();
    poll[0].revents().unwrap().contains(PollFlags::POLLHUP)
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_reads_its_socket_is_closed() {
    let running = start().await;
    let mut socket = StdUnixStream::connect(&running.path).unwrap();
    let request = FillRequest { size_bytes: LIMIT as u64 - 4, filler: String::new() };
    socket.write_all(&raw::connection_bytes(FILL, "localhost", &request)).unwrap();
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert_eq!(running.metric("opdbus_calls_total", "operation=\"Fill\""), 1.0);
    assert!(!has_hung_up(&socket), "closed too early");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert!(has_hung_up(&socket), "not closed after 30 s");
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let mut got = Vec::new();
    socket.read_to_end(&mut got).expect("the server closed the connection");
    assert!(got.len() < LIMIT, "{} bytes", got.len());
}
