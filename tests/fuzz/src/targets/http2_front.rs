//! Any bytes on a connection to the gRPC transport, with the real executor behind it: whatever they are, the
//! connection ends once the client says that no more comes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use op_dbus::transport::grpc::{self, Access, Server, UnixSocket};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::Target;
use super::parts::byte;
use super::service::{PATIENCE, Service};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The largest message, in bytes.
const LIMIT: usize = 64 * 1024;

/// The transport on a socket of its own. It goes before what it serves.
struct Front {
    _server: Server,
    path: PathBuf,
    service: Service,
}

/// The first byte says what the rest is: the bytes as they are, or frames that are short of what the target
/// adds, so that inputs do not fail at the first wrong length.
pub(super) fn target() -> Target {
    let service = Service::start();
    let path = service.folder.path().join("grpc.sock");
    let config = grpc::Config {
        unix: Some(UnixSocket { path: path.clone(), mode: 0o600, group: None }),
        inherited: Vec::new(),
        tcp: None,
        tls: None,
        access: Access::default(),
        max_request_bytes: LIMIT,
        max_response_bytes: LIMIT,
        max_connections: 64,
        max_connections_per_uid: 64,
    };
    let (executor, status) = (Arc::clone(&service.executor), Arc::clone(&service.status));
    let server = service.runtime.block_on(grpc::start(config, executor, status));
    let front = Front { _server: server.expect("the transport starts"), path, service };
    Box::new(move |mut input: &[u8]| {
        let bytes = match byte(&mut input) % 2 {
            0 => input.to_vec(),
            _ => frames(input),
        };
        // Whole, or else the server were not kept.
        let Front { path, service, .. } = &front;
        service.runtime.block_on(speak(path, &bytes));
    })
}

/// Sends the bytes and reads until the other side ends the connection.
async fn speak(path: &Path, bytes: &[u8]) {
    let mut stream = UnixStream::connect(path).await.expect("the socket takes connections");
    let (mut reader, mut writer) = stream.split();
    let write = async {
        // It may be closed before it has read everything.
        writer.write_all(bytes).await.ok();
        writer.shutdown().await.ok();
    };
    let read = async {
        let mut answer = Vec::new();
        // A connection that is reset has ended, too.
        reader.read_to_end(&mut answer).await.ok();
    };
    let ended = timeout(PATIENCE, async { tokio::join!(write, read) }).await;
    assert!(ended.is_ok(), "the connection does not end");
}

/// A connection that begins as it must, with these frames: for each a byte of its kind, its flags, its
/// stream and the length of its payload, which follows. The kind 16 is a frame of data that holds one message
/// of gRPC, and 17 a head for the operation that follows.
fn frames(mut input: &[u8]) -> Vec<u8> {
    let mut bytes = PREFACE.to_vec();
    frame(&mut bytes, 4, 0, 0, &[]);
    while !input.is_empty() {
        let [kind, flags, stream, length] = std::array::from_fn(|_| byte(&mut input));
        let (payload, rest) = input.split_at(usize::from(length).min(input.len()));
        input = rest;
        match kind % 20 {
            16 => {
                let head = [&[0, 0, 0, 0, length] as &[u8], payload].concat();
                frame(&mut bytes, 0, flags, stream, &head);
            }
            17 => frame(&mut bytes, 1, flags, stream, &head(payload)),
            kind => frame(&mut bytes, kind, flags, stream, payload),
        }
    }
    bytes
}

fn frame(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or_default().to_be_bytes();
    bytes.extend([length[1], length[2], length[3], kind, flags, 0, 0, 0, stream]);
    bytes.extend(payload);
}

/// A head as gRPC has it, for this path; after a byte of 0 further fields may follow, as HPACK has them.
fn head(path: &[u8]) -> Vec<u8> {
    let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
    let (path, more) = path.split_at(end);
    // `:method: POST`, `:scheme: http`, and then literals by the index of their names.
    let mut fields = vec![0x83, 0x86, 0x04];
    text(&mut fields, path);
    fields.push(0x01);
    text(&mut fields, b"localhost");
    fields.extend([0x0f, 0x10]);
    text(&mut fields, b"application/grpc");
    fields.extend(more.get(1..).unwrap_or_default());
    fields
}

/// A text of HPACK. Longer ones are cut where their length would need more than one byte.
fn text(fields: &mut Vec<u8>, text: &[u8]) {
    let text = &text[..text.len().min(126)];
    fields.push(u8::try_from(text.len()).unwrap_or_default());
    fields.extend(text);
}
