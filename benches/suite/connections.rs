//! Many sessions that are open and silent, each held by a connection: what one costs in memory, and
//! what they do to the calls of others.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use op_dbus::proto::opdbus::v1::connect_request::Message;
use op_dbus::proto::opdbus::v1::{ConnectRequest, PingRequest, StartSessionRequest};
use prost::Message as _;

use crate::grpc::{Client, PING};
use crate::measure::{Party, Plan, Sample, heading, in_turns, rows};
use crate::parties::{self, Daemon};

/// How many there are.
const CONNECTIONS: u64 = 10_000;

/// Opens connections, each with a stream that holds a session.
pub fn run(plan: &Plan) {
    parties::pin();
    // One user has them all here.
    let config = "[sessions]\nmax = 20000\nmax_per_caller = 20000\n[limits]\nmax_waits = 20000\n";
    let empty = Daemon::start_with("normal", config);
    let full = Daemon::start_with("normal", config);
    let request: Bytes = PingRequest { payload: vec![7; 64].into() }.encode_to_vec().into();
    let mut parties: Vec<Party<'_>> =
        [("empty server", empty.socket()), ("with all sessions", full.socket())]
            .into_iter()
            .map(|(name, socket)| {
                let mut client = Client::connect(&socket);
                let request = request.clone();
                let sample: Box<dyn FnMut() -> Sample> = Box::new(move || {
                    let request = request.clone();
                    client.sample(PING, 1, plan, move |_| request.clone())
                });
                (name, sample)
            })
            .collect();
    // What the first calls allocate is no cost of a connection.
    for (_, party) in &mut parties {
        party();
    }
    let before = full.resident_kib();
    let start = Instant::now();
    let open = opening();
    let held: Vec<UnixStream> = (0..CONNECTIONS).map(|_| hold(&full.socket(), &open)).collect();
    let took = start.elapsed();
    let with = full.resident_kib();

    heading(&format!("gRPC ping beside {CONNECTIONS} sessions with a connection each, one core"));
    let figures = in_turns(plan, &mut parties);
    rows(&parties, &figures);
    drop(held);
    std::thread::sleep(Duration::from_secs(3));
    let after = full.resident_kib();
    let each = (with - before) as f64 / CONNECTIONS as f64;
    println!("  {:<44} {each:>10.1} KiB", "resident memory of each");
    println!("  {:<44} {:>10.2} s", "opening all of them", took.as_secs_f64());
    println!("  {:<44} {:>10.1} MiB", "resident memory before", before as f64 / 1024.0);
    println!("  {:<44} {:>10.1} MiB", "resident memory after they closed", after as f64 / 1024.0);
    parties::unpin();
}

/// Connects, starts a session and waits for the answer.
fn hold(socket: &Path, open: &[u8]) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(open).unwrap();
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    while !got.windows(5).any(|bytes| bytes == b"hello") {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "the connection was closed");
        got.extend_from_slice(&buffer[..read]);
    }
    stream
}

/// The bytes of a connection that starts a session and holds it.
fn opening() -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", "/opdbus.v1.SessionsService/Connect"),
        (":authority", "localhost"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ] {
        // Literals that do not enter the table.
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend_from_slice(text.as_bytes());
        }
    }
    let start = StartSessionRequest { client_name: "hello".to_owned(), ..Default::default() };
    let message = ConnectRequest { message: Some(Message::Start(start)) }.encode_to_vec();
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    let framed = [&[0_u8] as &[u8], &length, &message].concat();
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let head = [length[1], length[2], length[3], kind, flags, 0, 0, 0, stream];
        [&head as &[u8], payload].concat()
    };
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, 0, &[]),
        frame(1, 4, 1, &block),
        frame(0, 0, 1, &framed),
    ]
    .concat()
}
