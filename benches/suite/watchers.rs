//! A thousand watchers of one key: how much later than the first one the last one hears of a change.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use op_dbus::proto::opdbus::agent::memory::v1::watch_request::Keys;
use op_dbus::proto::opdbus::agent::memory::v1::{
    RememberRequest, WatchEvent, WatchRequest, WatchResponse,
};
use prost::Message;
use prost_types::Value;
use prost_types::value::Kind;
use tokio::net::UnixStream;
use tokio::runtime::Builder;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Streaming};

use crate::grpc::Raw;
use crate::measure::{Plan, median};
use crate::parties::Daemon;

const WATCH: &str = "/opdbus.agent.memory.v1.MemoryService/Watch";
const REMEMBER: &str = "/opdbus.agent.memory.v1.MemoryService/Remember";

/// How many watch, over how many connections.
const WATCHERS: usize = 1_000;
const CONNECTIONS: usize = 10;

/// How many changes are made.
const CHANGES: u32 = 50;

/// Makes changes, one after the other, and notes when each watcher hears of each. They are durable, as
/// by default: a watcher hears of no change that a power cut may take back.
pub fn run(_plan: &Plan) {
    let daemon = Daemon::start("full");
    Builder::new_current_thread().enable_all().build().unwrap().block_on(watched(&daemon));
}

async fn watched(daemon: &Daemon) {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(connect(daemon).await);
    }
    let watch = WatchRequest { keys: Some(Keys::Key("watched".to_owned())), ..Default::default() };
    let watch: Bytes = watch.encode_to_vec().into();
    let mut streams: Vec<Streaming<Bytes>> = Vec::with_capacity(WATCHERS);
    for number in 0..WATCHERS {
        let mut grpc = tonic::client::Grpc::new(channels[number % CONNECTIONS].clone());
        grpc.ready().await.unwrap();
        let path = PathAndQuery::from_static(WATCH);
        let response = grpc.server_streaming(Request::new(watch.clone()), path, Raw).await.unwrap();
        streams.push(response.into_inner());
    }
    // The last ones must be listening, too, and what they are told at first be read.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = join_all(streams.iter_mut().map(next_change));
    tokio::join!(begun, remember(&channels[0], 0));
    let (mut firsts, mut lasts, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..CHANGES {
        let sent = Instant::now();
        let heard = join_all(streams.iter_mut().map(async |stream| {
            next_change(stream).await;
            sent.elapsed()
        }));
        let (heard, ()) = tokio::join!(heard, remember(&channels[0], number));
        let first = heard.iter().min().unwrap().as_secs_f64();
        let last = heard.iter().max().unwrap().as_secs_f64();
        firsts.push(first * 1e3);
        lasts.push(last * 1e3);
        ratios.push(last / first);
    }
    println!("\n{WATCHERS} watchers of one key, {CONNECTIONS} connections, {CHANGES} changes");
    println!("  {:<44} {:>10.2} ms", "the first hears of it after", median(firsts));
    println!("  {:<44} {:>10.2} ms", "the last hears of it after", median(lasts));
    println!("  {:<44} {:>10.2}", "ratio, median of the changes", median(ratios));
}

/// Reads on until a value is stored.
async fn next_change(stream: &mut Streaming<Bytes>) {
    loop {
        let message = stream.message().await.unwrap().unwrap();
        if WatchResponse::decode(message).unwrap().event() == WatchEvent::Put {
            return;
        }
    }
}

async fn connect(daemon: &Daemon) -> Channel {
    let socket = daemon.socket();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap()
}

async fn remember(channel: &Channel, number: u32) {
    let request = RememberRequest {
        key: "watched".to_owned(),
        value: Some(Value { kind: Some(Kind::NumberValue(number.into())) }),
        ..Default::default()
    };
    let request: Bytes = request.encode_to_vec().into();
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let path = PathAndQuery::from_static(REMEMBER);
    grpc.unary(Request::new(request), path, Raw).await.unwrap();
}
