//! A client without a library: HTTP/2 by hyper, with no deadline and no retry of its own, and the bytes
//! of a request by hand.

use std::io;
use std::path::Path;

use bytes::{BufMut as _, Bytes, BytesMut};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

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

/// A call whose request is sent piece by piece. Sending an error resets the stream.
pub struct Call {
    pub pieces: mpsc::Sender<Result<Frame<Bytes>, io::Error>>,
    pub response: JoinHandle<hyper::Result<Response<Incoming>>>,
}

/// Opens a call on a connection of its own.
pub async fn open(path: &Path, operation: &str, headers: &[(&str, &str)]) -> Call {
    let stream = UnixStream::connect(path).await.unwrap();
    let (mut sender, connection) =
        http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let (pieces, body) = mpsc::channel(16);
    let mut request = Request::post(format!("http://localhost{operation}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(StreamBody::new(ReceiverStream::new(body))).unwrap();
    let response = tokio::spawn(async move { sender.send_request(request).await });
    Call { pieces, response }
}

impl Call {
    /// Sends `bytes` as they are.
    pub async fn send(&self, bytes: impl Into<Bytes>) {
        self.pieces.send(Ok(Frame::data(bytes.into()))).await.unwrap();
    }

    /// Sends no more, and gives what came back with the bytes of its body.
    pub async fn end(self) -> (Answer, Bytes) {
        drop(self.pieces);
        Self::answer(self.response).await
    }

    /// Waits for the end of the call without ending the request.
    pub async fn answer(
        response: JoinHandle<hyper::Result<Response<Incoming>>>,
    ) -> (Answer, Bytes) {
        let (head, body) = response.await.unwrap().unwrap().into_parts();
        let body = body.collect().await.unwrap();
        let mut headers = head.headers;
        headers.extend(body.trailers().cloned().unwrap_or_default());
        (Answer { status: head.status, headers }, body.to_bytes())
    }
}

/// A message with its prefix.
pub fn framed(message: &impl Message) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_u8(0);
    bytes.put_u32(message.encoded_len().try_into().unwrap());
    message.encode(&mut bytes).unwrap();
    bytes.freeze()
}

/// One frame of HTTP/2.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [length[1], length[2], length[3], kind, flags];
    [&head as &[u8], &stream.to_be_bytes(), payload].concat()
}

/// The bytes of a whole connection that makes one call, with the authority as it is given.
pub fn connection_bytes(path: &str, authority: &str, message: &impl Message) -> Vec<u8> {
    // Windows so wide that only the socket bounds what the server sends.
    let wide = [frame(4, 0, 0, &[0, 4, 0x7f, 0xff, 0xff, 0xff]), frame(8, 0, 0, &[0x7f, 0, 0, 0])];
    [PREFACE.to_vec(), wide.concat(), head(path, authority), frame(0, 1, 1, &framed(message))]
        .concat()
}

/// The bytes of a connection that begins a call, sends a message and resets the stream with `code`.
pub fn reset_bytes(path: &str, message: &impl Message, code: u8) -> Vec<u8> {
    let settings = frame(4, 0, 0, &[]);
    let message = frame(0, 0, 1, &framed(message));
    let reset = frame(3, 0, 1, &[0, 0, 0, code]);
    [PREFACE.to_vec(), settings, head(path, "localhost"), message, reset].concat()
}

/// The bytes of a connection that begins a call and sends encoded messages, without an end.
pub fn begun_bytes(path: &str, messages: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = [PREFACE.to_vec(), frame(4, 0, 0, &[]), head(path, "localhost")].concat();
    for message in messages {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        bytes.extend(frame(0, 0, 1, &[&[0], &length[..], message].concat()));
    }
    bytes
}

/// The bytes of a connection that makes one call and lets the server send nothing.
pub fn closed_window_bytes(path: &str, message: &impl Message) -> Vec<u8> {
    let settings = frame(4, 0, 0, &[0, 4, 0, 0, 0, 0]);
    let message = frame(0, 1, 1, &framed(message));
    [PREFACE.to_vec(), settings, head(path, "localhost"), message].concat()
}

/// What opens a connection of HTTP/2.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The frame that begins a call.
fn head(path: &str, authority: &str) -> Vec<u8> {
    frame(1, 4, 1, &head_block(path, authority))
}

/// The headers that begin a call.
pub fn head_block(path: &str, authority: &str) -> Vec<u8> {
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
    block
}
