//! Floods of one user over real sockets: connections, half of a protocol, headers without end, streams
//! that are reset at once, replies that are not read. Each ends at a bound, and the echo beside it lives.

use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use op_dbus::executor::{self, ShareConfig};
use op_dbus::proto::opdbus::agent::probe::v1::FillRequest;
use op_dbus::transport::grpc::{Config, NewToken};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{CALLS, Echo, opening};
use crate::dbus::{self, NAME, connect, none};
use crate::fixture::{Bus, Service};
use crate::grpc::{FILL, PING, config, eventually, place, raw, serve, start, tokens};

/// The connections of the largest flood, as far as the limit on open files lets both of its ends be in
/// this process.
const CONNECTIONS: usize = 10_000;

/// The calls beside a flood that goes on: so many that a few which come at a bad moment do not count.
const MANY_CALLS: usize = 2_000;

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

#[tokio::test]
async fn ten_thousand_connections_end_at_the_users_bound() {
    let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let room = usize::try_from(soft).unwrap_or(usize::MAX) / 2;
    // Other tests of this process need some as well.
    let count = CONNECTIONS.min(room.saturating_sub(1024)).max(64);
    let service = Service::new(executor::Config::default());
    let (_folder, path) = place();
    let places = count * 3 / 4;
    let (max_connections, max_connections_per_uid) = (count, places);
    let config = Config { max_connections, max_connections_per_uid, ..config(&path) };
    let _server = serve(config, &service).await.unwrap();
    let echo = Echo::new(&path).await;
    eprintln!("{count} connections, {places} of one user");
    let open = {
        let path = path.clone();
        tokio::task::spawn_blocking(move || connections(&path, count)).await.unwrap()
    };
    echo.beside("connections that say nothing").await;
    let refused = tokio::task::spawn_blocking(move || refusals(open)).await.unwrap();
    assert!(refused >= count - places, "only {refused} of {count} were refused");
    echo.beside("connections that have gone").await;
}

/// Opens connections of which every second says that it speaks HTTP/2, and nothing more.
fn connections(path: &Path, count: usize) -> Vec<UnixStream> {
    let connect = |number: usize| {
        let mut stream = UnixStream::connect(path).unwrap();
        if number.is_multiple_of(2) {
            // One that is refused may be closed already.
            stream.write_all(raw::PREFACE).ok();
        }
        stream
    };
    (0..count).map(connect).collect()
}

/// How many of them were told that the user has too many.
fn refusals(open: Vec<UnixStream>) -> usize {
    let mut patience = Duration::from_secs(60);
    let was_refused = |mut stream: UnixStream, patience: Duration| {
        stream.set_read_timeout(Some(patience)).unwrap();
        let mut words = Vec::new();
        let read = stream.read_to_end(&mut words);
        let text = String::from_utf8_lossy(&words).into_owned();
        // The end of a socket with unread bytes is a reset, which may overtake the words.
        text.contains("grpc.max_connections_per_uid")
            || read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset)
    };
    // They are accepted in the order in which they were opened: after the last one none is waited for.
    let mut count = 0;
    for stream in open.into_iter().rev() {
        count += usize::from(was_refused(stream, patience));
        patience = Duration::from_millis(1);
    }
    count
}

/// Writes `bytes` until they are all taken or the server has closed the connection; true if it has.
async fn is_closed_on(path: PathBuf, bytes: Vec<u8>) -> bool {
    let attack = move || {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut reader = stream.try_clone().unwrap();
        // The server's words are read beside, so that it is not we who stop it.
        let reading = thread::spawn(move || {
            let mut words = Vec::new();
            match reader.read_to_end(&mut words) {
                Ok(_) => true,
                Err(error) => error.kind() == ErrorKind::ConnectionReset,
            }
        });
        let written = stream.write_all(&bytes);
        written.is_err_and(|error| error.kind() != ErrorKind::WouldBlock) || reading.join().unwrap()
    };
    tokio::task::spawn_blocking(attack).await.unwrap()
}

#[tokio::test]
async fn headers_without_end_close_their_connection_only() {
    let running = start().await;
    let echo = Echo::new(&running.path).await;
    let mut endless = opening();
    endless.extend(raw::frame(HEADERS, END_STREAM, 1, &raw::head_block(PING, "localhost")));
    for _ in 0..2000 {
        // A header of its own each, so that none of it can be told to be too large by itself.
        let field = [&[0, 1, b'x', 127, 129, 125][..], &[b'y'; 16_000]].concat();
        endless.extend(raw::frame(CONTINUATION, 0, 1, &field));
    }
    assert!(is_closed_on(running.path.clone(), endless).await, "32 MB of headers were taken");
    echo.beside("headers without end").await;

    let mut empty = opening();
    empty.extend(raw::frame(HEADERS, END_STREAM, 1, &raw::head_block(PING, "localhost")));
    for _ in 0..100_000 {
        empty.extend(raw::frame(CONTINUATION, 0, 1, &[]));
    }
    assert!(is_closed_on(running.path.clone(), empty).await, "empty headers went on and on");
    echo.beside("empty headers").await;
}

#[tokio::test]
async fn headers_that_unfold_are_not_unfolded() {
    let running = start().await;
    let echo = Echo::new(&running.path).await;
    let mut bytes = opening();
    // A field of 4000 bytes goes into the table, and is then named ten thousand times by one byte.
    let mut block = raw::head_block(PING, "localhost");
    block.extend([0x40, 1, b'x', 127, 0xa1, 30]);
    block.extend([b'y'; 4000]);
    block.extend([0xbe; 10_000]);
    bytes.extend(raw::frame(HEADERS, END_STREAM | END_HEADERS, 1, &block));
    let mut connection = tokio::net::UnixStream::connect(&running.path).await.unwrap();
    connection.write_all(&bytes).await.unwrap();
    let mut answer = Vec::new();
    // Closed, or answered with a refusal and kept: then reading ends with the time.
    let reading = connection.read_to_end(&mut answer);
    tokio::time::timeout(Duration::from_secs(1), reading).await.ok();
    assert!(!answer.is_empty(), "it says something");
    let calls = running.metric("opdbus_calls_total", "operation=\"Ping\"");
    echo.beside("headers that unfold to 40 MB").await;
    assert_eq!(running.metric("opdbus_calls_total", "operation=\"Ping\""), calls + 200.0);
    assert_eq!(calls, 400.0, "it was no call");
}

#[tokio::test]
async fn streams_that_are_reset_at_once_leave_nothing_behind() {
    let running = start().await;
    let echo = Echo::new(&running.path).await;
    let mut bytes = opening();
    for number in 0..50_000_u32 {
        let stream = 2 * number + 1;
        let head = raw::head_block(PING, "localhost");
        bytes.extend(raw::frame(HEADERS, END_HEADERS, stream, &head));
        bytes.extend(raw::frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
    }
    let path = running.path.clone();
    let attack = tokio::spawn(is_closed_on(path, bytes));
    echo.beside("streams that are reset at once").await;
    assert!(attack.await.unwrap(), "fifty thousand resets were taken");
    let executor = &running.service.executor;
    eventually("no call is left", async || executor.metrics().running() == 0).await;
}

#[tokio::test]
async fn clients_that_never_read_hold_nobody_up() {
    let service = Service::new(executor::Config::default());
    let (_folder, path) = place();
    let token = NewToken::make("other").unwrap();
    let access = tokens::access(vec![tokens::rule("other", &token)]);
    let _server = serve(Config { access, ..config(&path) }, &service).await.unwrap();
    let once = Echo::by_token(&path, &token, CALLS).await;
    let long = Echo::by_token(&path, &token, MANY_CALLS).await;
    let deaf = thirty_that_never_read(&path);
    assert_eq!(deaf.len(), 30);
    once.beside("thirty clients that never read").await;
    drop(deaf);
    let (over, ends) = mpsc::channel::<()>();
    let flood = thread::spawn(move || {
        loop {
            let _deaf = thirty_that_never_read(&path);
            if ends.recv_timeout(Duration::from_millis(50)) != Err(RecvTimeoutError::Timeout) {
                break;
            }
        }
    });
    long.beside("thirty clients that never read, again and again").await;
    drop(over);
    flood.join().unwrap();
}

/// Clients that ask for a megabyte each, as many as are let in, and read nothing.
fn thirty_that_never_read(path: &Path) -> Vec<UnixStream> {
    let fill = FillRequest { size_bytes: 1_000_000, filler: String::new() };
    let asked = || -> io::Result<UnixStream> {
        let mut stream = UnixStream::connect(path)?;
        stream.write_all(&raw::closed_window_bytes(FILL, &fill))?;
        Ok(stream)
    };
    (0..30).filter_map(|_| asked().ok()).collect()
}

#[tokio::test]
async fn as_many_pending_replies_as_the_bus_allows_hold_nobody_up() {
    // The system bus's own bound.
    let bus = Bus::start_with("<limit name=\"max_replies_per_connection\">128</limit>");
    // The echo's user is the attacker's here: there must be room for both.
    let room = 192;
    let share = ShareConfig { max_in_flight: room, ..ShareConfig::default() };
    let config =
        executor::Config { max_in_flight_per_agent: room, share, ..executor::Config::default() };
    let service = Service::new(config);
    let address = op_dbus::transport::dbus::Bus::Address(bus.address.clone());
    let config = op_dbus::transport::dbus::Config {
        bus: address,
        name: NAME.into(),
        max_body_bytes: 1 << 20,
        legacy: Vec::new(),
    };
    let status = std::sync::Arc::clone(&service.status);
    let executor = std::sync::Arc::clone(&service.executor);
    let _dbus = op_dbus::transport::dbus::start(config, executor, status).await.unwrap();
    let (_folder, path) = place();
    let _grpc = serve(crate::grpc::config(&path), &service).await.unwrap();
    let echo = Echo::new(&path).await;
    let attacker = connect(&bus).await;
    let probe = "/org/opdbus/Agents1/agent/probe";
    let sleep = || {
        let attacker = attacker.clone();
        async move {
            let body = (60_000_000_i64, none());
            dbus::call(&attacker, probe, Some("org.opdbus.Probe1"), "Sleep", &body).await
        }
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..160 {
        calls.spawn(sleep());
    }
    for _ in 0..32 {
        let refused = calls.join_next().await.unwrap().unwrap();
        dbus::failed(refused, "org.freedesktop.DBus.Error.LimitsExceeded");
    }
    eventually("what the bus lets through runs", async || {
        service.executor.metrics().running() >= 100
    })
    .await;
    echo.beside("128 replies that the bus waits for").await;
    let other = connect(&bus).await;
    dbus::call(&other, probe, Some("org.opdbus.Probe1"), "Count", &none()).await.unwrap();
    drop(calls);
    attacker.close().await.ok();
    eventually("they end with their client", async || service.executor.metrics().running() == 0)
        .await;
}
