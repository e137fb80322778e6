//! A client without a library: HTTP/2 by hyper, with no deadline and no retry of its own, and the bytes
//! of a request by hand.

use std::path::Path;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixStream;

/// A connection.
pub type Connection = SendRequest<Full<Bytes>>;

pub async fn connect(path: &Path) -> Connection {
    let stream = UnixStream::connect(path).await.unwrap();
    let (sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    sender
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// Headers and trailers together.
    pub headers: HeaderMap,
}

impl Answer {
    /// The gRPC status.
    #[track_caller]
    pub fn code(&self) -> tonic::Code {
        tonic::Code::from_bytes(self.headers["grpc-status"].as_bytes())
    }

    /// The text of the gRPC status, still encoded.
    #[track_caller]
    pub fn message(&self) -> &str {
        self.headers["grpc-message"].to_str().unwrap()
    }
}

/// Sends `body` as it is, with `headers` beside those that gRPC needs.
pub async fn send(
    connection: &mut Connection,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    let mut request = Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    exchange(connection, request.body(Full::new(body.into())).unwrap()).await
}

pub async fn exchange(connection: &mut Connection, request: Request<Full<Bytes>>) -> Answer {
    connection.ready().await.unwrap();
    let response = connection.send_request(request).await.unwrap();
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap();
    let mut headers = head.headers;
    headers.extend(body.trailers().cloned().unwrap_or_default());
    Answer { status: head.status, headers }
}

/// A message with its prefix.
pub fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len().try_into().unwrap());
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
    [&head as &[u8], payload].concat()
}

/// The bytes of a whole connection that makes one call, with the authority as it is given.
pub fn connection_bytes(path: &str, authority: &str, message: &impl Message) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // Literals that do not enter the table.
        block.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "a longer one needs another form");
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        // Windows so wide that only the socket bounds what the server sends.
        frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]),
        frame(8, 0, 0, &[0x7f, 0, 0, 0]),
        frame(1, 4, 1, &block),
        frame(0, 1, 1, &framed(message)),
    ]
    .concat()
}
