//! Calls over a Unix socket: a ping through the whole executor beside a bare tonic echo.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::path::Path;
use std::process::Command;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use op_dbus::proto::opdbus::v1::{PingRequest, PingResponse};
use prost::Message;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::task::LocalSet;
use tonic::body::Body;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};

use crate::measure::{Party, Plan, Sample, heading, in_turns, rows};
use crate::parties::{self, Daemon};
use crate::stream;

/// The path of the ping.
pub const PING: &str = "/opdbus.v1.AgentsService/Ping";

/// Measures pings with 1, 16 and 64 in flight.
pub fn run(plan: &Plan) {
    parties::pin();
    let daemon = Daemon::start("normal");
    let socket = daemon.folder.path().join("tonic.sock");
    let _peer = start_peer(&socket);
    let request: Bytes = PingRequest { payload: vec![7; 64].into() }.encode_to_vec().into();
    for in_flight in [1, 16, 64] {
        heading(&format!("gRPC, Unix socket, 64 bytes, {in_flight} in flight, one core"));
        let mut parties: Vec<Party<'_>> =
            [("bare tonic echo", socket.clone()), ("op-dbus Ping", daemon.socket())]
                .into_iter()
                .map(|(name, socket)| {
                    let mut client = Client::connect(&socket);
                    let request = request.clone();
                    let sample: Box<dyn FnMut() -> Sample> = Box::new(move || {
                        let request = request.clone();
                        client.sample(PING, in_flight, plan, move |_| request.clone())
                    });
                    (name, sample)
                })
                .collect();
        let figures = in_turns(plan, &mut parties);
        rows(&parties, &figures);
    }
    parties::unpin();
}

pub fn start_peer(socket: &Path) -> parties::Party {
    let peer =
        Command::new(std::env::current_exe().unwrap()).arg("--peer-tonic").arg(socket).spawn();
    let peer = parties::Party(peer.unwrap());
    parties::wait_for_socket(socket);
    peer
}

/// One connection that keeps a number of calls in flight.
pub struct Client {
    pub runtime: Runtime,
    pub channel: Channel,
}

impl Client {
    pub fn connect(socket: &Path) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://localhost");
        let channel = runtime.block_on(endpoint.connect_with_connector(connector)).unwrap();
        Self { runtime, channel }
    }

    /// Calls for the planned time. `request` makes the n-th request.
    pub fn sample(
        &mut self,
        path: &'static str,
        in_flight: usize,
        plan: &Plan,
        request: impl Fn(u64) -> Bytes + 'static,
    ) -> Sample {
        let start = Instant::now();
        let end = start + plan.time();
        let nanos = Rc::new(RefCell::new(Vec::with_capacity(100_000)));
        let next = Rc::new(RefCell::new(0_u64));
        let request = Rc::new(request);
        let tasks = LocalSet::new();
        for _ in 0..in_flight {
            let mut grpc = tonic::client::Grpc::new(self.channel.clone());
            let (nanos, next, request) = (Rc::clone(&nanos), Rc::clone(&next), Rc::clone(&request));
            tasks.spawn_local(async move {
                while Instant::now() < end {
                    let number = next.replace_with(|number| *number + 1);
                    let message = request(number);
                    let sent = Instant::now();
                    grpc.ready().await.unwrap();
                    let path = PathAndQuery::from_static(path);
                    grpc.unary(Request::new(message), path, Raw).await.unwrap();
                    nanos.borrow_mut().push(u64::try_from(sent.elapsed().as_nanos()).unwrap());
                }
            });
        }
        self.runtime.block_on(tasks);
        let nanos = nanos.take();
        Sample { nanos, wall: start.elapsed() }
    }
}

/// Messages as they are.
#[derive(Clone, Copy)]
pub struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(buffer, item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::default()
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let size = bytes::Buf::remaining(buffer);
        Ok(Some(bytes::Buf::copy_to_bytes(buffer, size)))
    }
}

/// The peer: what tonic-build would generate for an echo, and nothing more.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "opdbus.v1.AgentsService";
}

impl UnaryService<PingRequest> for Echo {
    type Response = PingResponse;
    type Future = Ready<Result<Response<PingResponse>, Status>>;

    fn call(&mut self, request: Request<PingRequest>) -> Self::Future {
        ready(Ok(Response::new(PingResponse { payload: request.into_inner().payload })))
    }
}

impl tower::Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Infallible>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let codec = tonic_prost::ProstCodec::<PingResponse, PingRequest>::default();
            Ok(tonic::server::Grpc::new(codec).unary(Echo, request).await)
        })
    }
}

/// Serves the peer until it is killed.
pub fn serve_peer(socket: &str) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = UnixListener::bind(socket).unwrap();
        let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
        tonic::transport::Server::builder()
            .add_service(Echo)
            .add_service(stream::Peer)
            .serve_with_incoming(incoming)
            .await
            .unwrap();
    });
}
