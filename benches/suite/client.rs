//! The same call to the same daemon through the client library and through a bare tonic client: what the
//! library adds.

use std::path::Path;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use op_dbus::client::{AgentClient, AgentsClient, GrpcAddress, Settings, Via};
use op_dbus::proto::opdbus::v1::{PingRequest, PingResponse};
use tokio::runtime::{Builder, Runtime};
use tonic::Request;
use tonic_prost::ProstCodec;

use crate::grpc::{Client, PING};
use crate::measure::{Party, Plan, Sample, heading, in_turns, rows};
use crate::parties::{self, Daemon};

/// Measures pings, one after the other.
pub fn run(plan: &Plan) {
    parties::pin();
    let daemon = Daemon::start("normal");
    heading("A typed call over gRPC, Unix socket, 64 bytes, one core");
    let socket = daemon.socket();
    // The library gives each call one.
    let mut in_time = bare(&socket, plan, Some(Duration::from_secs(30)));
    let mut bare = bare(&socket, plan, None);
    let mut library = library(&socket, plan);
    let mut parties: [Party<'_>; 3] = [
        ("what tonic-build generates", Box::new(&mut bare)),
        ("the same with a deadline", Box::new(&mut in_time)),
        ("op_dbus::client", Box::new(&mut library)),
    ];
    let figures = in_turns(plan, &mut parties);
    rows(&parties, &figures);
    parties::unpin();
}

fn request() -> PingRequest {
    PingRequest { payload: vec![7; 64].into() }
}

fn bare(socket: &Path, plan: &Plan, timeout: Option<Duration>) -> impl FnMut() -> Sample {
    let Client { runtime, channel } = Client::connect(socket);
    let mut grpc = tonic::client::Grpc::new(channel);
    let time = plan.time();
    move || {
        sample(&runtime, time, async || {
            grpc.ready().await.unwrap();
            let codec = ProstCodec::<PingRequest, PingResponse>::default();
            let path = PathAndQuery::from_static(PING);
            let mut request = Request::new(request());
            if let Some(timeout) = timeout {
                request.set_timeout(timeout);
            }
            grpc.unary(request, path, codec).await.unwrap().into_inner()
        })
    }
}

fn library(socket: &Path, plan: &Plan) -> impl FnMut() -> Sample {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let addresses = vec![GrpcAddress::Unix(socket.to_owned())];
    let settings = Settings { via: Via::Grpc, addresses, ..Settings::default() };
    let agents = AgentsClient::new(AgentClient::new(&settings));
    let time = plan.time();
    move || sample(&runtime, time, async || agents.ping(request()).await.unwrap())
}

/// Calls for some time.
fn sample(
    runtime: &Runtime,
    time: Duration,
    mut call: impl AsyncFnMut() -> PingResponse,
) -> Sample {
    runtime.block_on(async {
        let start = Instant::now();
        let mut nanos = Vec::with_capacity(100_000);
        while start.elapsed() < time {
            let sent = Instant::now();
            assert_eq!(call().await.payload.len(), 64);
            nanos.push(u64::try_from(sent.elapsed().as_nanos()).unwrap());
        }
        Sample { nanos, wall: start.elapsed() }
    })
}
