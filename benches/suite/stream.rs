//! Streams over a Unix socket: blocks that an agent gives through the whole executor, beside a bare
//! tonic stream of the same blocks.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::uri::PathAndQuery;
use op_dbus::proto::opdbus::agent::probe::v1::{BlocksRequest, BlocksResponse};
use prost::Message;
use tonic::body::Body;
use tonic::server::{NamedService, ServerStreamingService};
use tonic::{Request, Response, Status};

use crate::grpc::{self, Client, Raw};
use crate::measure::{Party, Plan, Sample, heading, in_turns, rows};
use crate::parties::{self, Daemon};

/// The path of the blocks.
pub const BLOCKS: &str = "/opdbus.agent.probe.v1.ProbeService/Blocks";

/// Measures blocks of 64 KiB and of 100 bytes.
pub fn run(plan: &Plan) {
    parties::pin();
    let daemon = Daemon::start("normal");
    let socket = daemon.folder.path().join("tonic.sock");
    let _peer = grpc::start_peer(&socket);
    for (size, count) in [(64 * 1024, 4_000), (100, 100_000)] {
        heading(&format!("gRPC stream, Unix socket, {size} bytes a message, one core"));
        let request = BlocksRequest { count, size_bytes: size };
        let request: Bytes = request.encode_to_vec().into();
        let mut parties: Vec<Party<'_>> =
            [("bare tonic stream", socket.clone()), ("op-dbus agent", daemon.socket())]
                .into_iter()
                .map(|(name, socket)| {
                    let mut client = Client::connect(&socket);
                    let request = request.clone();
                    let sample: Box<dyn FnMut() -> Sample> =
                        Box::new(move || read(&mut client, &request, plan));
                    (name, sample)
                })
                .collect();
        let figures = in_turns(plan, &mut parties);
        rows(&parties, &figures);
        for ((name, _), figure) in parties.iter().zip(&figures) {
            let megabytes = figure.per_second * size as f64 / 1e6;
            println!("  {name:<44} {megabytes:>10.0} MB/s");
        }
    }
    parties::unpin();
}

/// Reads whole streams, one after the other, for the planned time.
fn read(client: &mut Client, request: &Bytes, plan: &Plan) -> Sample {
    let start = Instant::now();
    let mut nanos = Vec::with_capacity(1_000_000);
    client.runtime.block_on(async {
        while start.elapsed() < plan.time() {
            let mut grpc = tonic::client::Grpc::new(client.channel.clone());
            grpc.ready().await.unwrap();
            let path = PathAndQuery::from_static(BLOCKS);
            let request = Request::new(request.clone());
            let response = grpc.server_streaming(request, path, Raw).await.unwrap();
            let mut blocks = response.into_inner();
            let mut before = Instant::now();
            while blocks.message().await.unwrap().is_some() {
                let now = Instant::now();
                nanos.push(u64::try_from((now - before).as_nanos()).unwrap());
                before = now;
            }
        }
    });
    Sample { nanos, wall: start.elapsed() }
}

/// The peer: what tonic-build would generate for a stream of ready blocks, and nothing more.
#[derive(Clone)]
pub struct Peer;

impl NamedService for Peer {
    const NAME: &'static str = "opdbus.agent.probe.v1.ProbeService";
}

impl ServerStreamingService<BlocksRequest> for Peer {
    type Response = BlocksResponse;
    type ResponseStream = Blocks;
    type Future = Ready<Result<Response<Blocks>, Status>>;

    fn call(&mut self, request: Request<BlocksRequest>) -> Self::Future {
        let BlocksRequest { count, size_bytes } = request.into_inner();
        let block = vec![b'x'; usize::try_from(size_bytes).unwrap()].into();
        ready(Ok(Response::new(Blocks { block, left: count })))
    }
}

/// Blocks that are ready at once.
pub struct Blocks {
    block: Bytes,
    left: u32,
}

impl tokio_stream::Stream for Blocks {
    type Item = Result<BlocksResponse, Status>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Self::Item>> {
        let Some(left) = self.left.checked_sub(1) else { return Poll::Ready(None) };
        self.left = left;
        Poll::Ready(Some(Ok(BlocksResponse { block: self.block.clone() })))
    }
}

impl tower::Service<http::Request<Body>> for Peer {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::<BlocksResponse, BlocksRequest>::default();
            Ok(tonic::server::Grpc::new(codec).server_streaming(service, request).await)
        })
    }
}
