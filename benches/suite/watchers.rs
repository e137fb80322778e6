//! A thousand watchers of one key, and a thousand clients that watch their routes: when the first and the
//! last one hear of a change.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::future::join_all;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use op_dbus::proto::opdbus::agent::memory::v1::watch_request::Keys;
use op_dbus::proto::opdbus::agent::memory::v1::{
    RememberRequest, WatchEvent, WatchRequest, WatchResponse,
};
use op_dbus::proto::opdbus::v1::{SetStageRequest, Stage, WatchRoutesRequest, WatchRoutesResponse};
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
const WATCH_ROUTES: &str = "/opdbus.v1.MigrationService/WatchRoutes";
const SET_STAGE: &str = "/opdbus.v1.MigrationService/SetStage";

/// How many watch, over how many connections.
const WATCHERS: usize = 1_000;
const CONNECTIONS: usize = 10;

/// How many changes are made.
const CHANGES: u32 = 50;

/// Makes changes, one after the other, and notes when each watcher hears of each. They are durable, as
/// by default: a watcher hears of no change that a power cut may take back.
pub fn run(_plan: &Plan) {
    let daemon = Daemon::start("full");
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let watch = WatchRequest { keys: Some(Keys::Key("watched".to_owned())), ..Default::default() };
    let key = Watched {
        what: "watchers of one key",
        path: WATCH,
        request: watch.encode_to_vec().into(),
        is_change: |message| WatchResponse::decode(message).unwrap().event() == WatchEvent::Put,
        change: REMEMBER,
        to: remember,
    };
    runtime.block_on(watched(&daemon, &key));
    let routes = Watched {
        what: "clients that watch their routes",
        path: WATCH_ROUTES,
        request: WatchRoutesRequest::default().encode_to_vec().into(),
        // The first message is what the configuration says.
        is_change: |message| {
            let routes = WatchRoutesResponse::decode(message).unwrap().routes.unwrap();
            routes.routes[0].changed_by != "the configuration"
        },
        change: SET_STAGE,
        to: set_stage,
    };
    runtime.block_on(watched(&daemon, &routes));
}

/// What is watched, and how it is changed.
struct Watched {
    what: &'static str,
    path: &'static str,
    request: Bytes,
    is_change: fn(Bytes) -> bool,
    change: &'static str,
    /// The request of the change with this number.
    to: fn(u32) -> Bytes,
}

async fn watched(daemon: &Daemon, what: &Watched) {
    let mut channels = Vec::new();
    for _ in 0..CONNECTIONS {
        channels.push(connect(daemon).await);
    }
    let mut streams: Vec<Streaming<Bytes>> = Vec::with_capacity(WATCHERS);
    for number in 0..WATCHERS {
        let mut grpc = tonic::client::Grpc::new(channels[number % CONNECTIONS].clone());
        grpc.ready().await.unwrap();
        let (path, request) = (PathAndQuery::from_static(what.path), what.request.clone());
        let response = grpc.server_streaming(Request::new(request), path, Raw).await.unwrap();
        streams.push(response.into_inner());
    }
    // The last ones must be listening, too, and what they are told at first be read.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let begun = join_all(streams.iter_mut().map(|stream| next_change(stream, what.is_change)));
    tokio::join!(begun, change(&channels[0], what, 0));
    let (mut firsts, mut lasts, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for number in 1..=CHANGES {
        let sent = Instant::now();
        let heard = join_all(streams.iter_mut().map(async |stream| {
            next_change(stream, what.is_change).await;
            sent.elapsed()
        }));
        let (heard, ()) = tokio::join!(heard, change(&channels[0], what, number));
        let first = heard.iter().min().unwrap().as_secs_f64();
        let last = heard.iter().max().unwrap().as_secs_f64();
        firsts.push(first * 1e3);
        lasts.push(last * 1e3);
        ratios.push(last / first);
    }
    println!("\n{WATCHERS} {}, {CONNECTIONS} connections, {CHANGES} changes", what.what);
    println!("  {:<44} {:>10.2} ms", "the first hears of it after", median(firsts));
    println!("  {:<44} {:>10.2} ms", "the last hears of it after", median(lasts));
    println!("  {:<44} {:>10.2}", "ratio, median of the changes", median(ratios));
}

/// Reads on until something has changed.
async fn next_change(stream: &mut Streaming<Bytes>, is_change: fn(Bytes) -> bool) {
    while !is_change(stream.message().await.unwrap().unwrap()) {}
}

async fn connect(daemon: &Daemon) -> Channel {
    let socket = daemon.socket();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://localhost").connect_with_connector(connector).await.unwrap()
}

async fn change(channel: &Channel, what: &Watched, number: u32) {
    let mut grpc = tonic::client::Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let (path, request) = (PathAndQuery::from_static(what.change), (what.to)(number));
    grpc.unary(Request::new(request), path, Raw).await.unwrap();
}

fn remember(number: u32) -> Bytes {
    let request = RememberRequest {
        key: "watched".to_owned(),
        value: Some(Value { kind: Some(Kind::NumberValue(number.into())) }),
        ..Default::default()
    };
    request.encode_to_vec().into()
}

/// There and back, between the first two stages.
fn set_stage(number: u32) -> Bytes {
    let stage = if number.is_multiple_of(2) { Stage::Shadow } else { Stage::Dbus };
    let rule = "default".to_owned();
    SetStageRequest { rule, stage: stage.into(), ..Default::default() }.encode_to_vec().into()
}
