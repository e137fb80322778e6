//! gRPC, driven through real sockets: by tonic's client where a client library's view matters, by
//! bare HTTP/2 or bare bytes where a library would hide what the server does.

mod broken_streams;
pub mod callers;
pub mod calls;
pub mod certificates;
mod client_library;
mod deadlines;
mod foreign;
mod hostile;
mod limits;
pub mod raw;
mod sockets;
mod standard;
mod streams;
mod tls;
pub mod tokens;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use op_dbus::executor;
use op_dbus::proto::opdbus::v1::{PingRequest, PingResponse};
use op_dbus::transport::grpc::{self, Config, Server, UnixSocket};
use prost::Message;
use tempfile::TempDir;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, IntoStreamingRequest, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::fixture::Service;
use crate::process::PATIENCE;

pub const LIMIT: usize = 1024 * 1024;

/// A running transport over an executor with every agent.
pub struct Running {
    pub service: Service,
    pub server: Server,
    pub path: PathBuf,
}

/// The transport on a Unix socket in a folder of its own.
pub async fn start() -> Running {
    let mut limits = executor::Config::default();
    // Room for messages that are larger than any response may be, which foreign clients ask for.
    limits.tasks.memory_bytes_per_caller = limits.tasks.memory_bytes;
    // Where the clock stands still it goes on as soon as this thread has nothing to do, so none may help it.
    limits.share.stretch = Duration::ZERO;
    let service = Service::new(limits);
    let path = service.folder.path().join("grpc.sock");
    let config = config(&path);
    let server = serve(config, &service).await.unwrap();
    Running { service, server, path }
}

pub async fn serve(config: Config, service: &Service) -> Result<Server, op_dbus::error::Error> {
    grpc::start(config, Arc::clone(&service.executor), Arc::clone(&service.status)).await
}

pub fn config(path: &std::path::Path) -> Config {
    Config {
        unix: Some(UnixSocket { path: path.to_owned(), mode: 0o660, group: None }),
        inherited: Vec::new(),
        tcp: None,
        tls: None,
        access: grpc::Access::default(),
        max_request_bytes: LIMIT,
        max_response_bytes: LIMIT,
        max_connections: 64,
        max_connections_per_uid: 64,
    }
}

/// A folder and a socket's path in it.
pub fn place() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpc.sock");
    (folder, path)
}

impl Running {
    pub async fn client(&self) -> Client {
        Client::unix(&self.path).await
    }

    /// The sum of all samples of `family` whose labels contain `label`.
    pub fn metric(&self, family: &str, label: &str) -> f64 {
        let text = self.service.executor.metrics().render().unwrap();
        text.lines()
            .filter(|line| line.starts_with(family) && line.contains(label))
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }
}

/// tonic's client, for any method.
#[derive(Clone)]
pub struct Client(Channel);

impl Client {
    pub async fn unix(path: &std::path::Path) -> Self {
        Self::to(&format!("unix:{}", path.display())).await
    }

    pub async fn to(address: &str) -> Self {
        Self(Endpoint::from_shared(address.to_owned()).unwrap().connect().await.unwrap())
    }

    pub async fn call<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        self.request(path, Request::new(request)).await.map(Response::into_inner)
    }

    pub async fn request<Q, A>(
        &self,
        path: &'static str,
        request: Request<Q>,
    ) -> Result<Response<A>, Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.0.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::default();
        grpc.unary(request, PathAndQuery::from_static(path), codec).await
    }

    /// Opens a stream in both directions; an operation that takes one message takes a stream of one.
    pub async fn stream<Q, A>(
        &self,
        path: &'static str,
        request: impl IntoStreamingRequest<Message = Q>,
    ) -> Result<Response<Streaming<A>>, Status>
    where
        Q: Message + Default + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = tonic::client::Grpc::new(self.0.clone())
            .max_decoding_message_size(usize::MAX)
            .max_encoding_message_size(usize::MAX);
        grpc.ready().await.unwrap();
        let codec = tonic_prost::ProstCodec::default();
        grpc.streaming(request.into_streaming_request(), PathAndQuery::from_static(path), codec)
            .await
    }

    /// Pings, and checks that the answer is the question's.
    pub async fn ping(&self) {
        let request = PingRequest { payload: "ping".into() };
        let response: PingResponse = self.call(PING, request).await.unwrap();
        assert_eq!(response.payload, "ping");
    }
}

pub const PING: &str = "/opdbus.v1.AgentsService/Ping";
pub const ECHO: &str = "/opdbus.agent.probe.v1.ProbeService/Echo";
pub const SLEEP: &str = "/opdbus.agent.probe.v1.ProbeService/Sleep";
pub const FAIL: &str = "/opdbus.agent.probe.v1.ProbeService/Fail";
pub const FILL: &str = "/opdbus.agent.probe.v1.ProbeService/Fill";
pub const GENERATE: &str = "/opdbus.agent.probe.v1.ProbeService/Generate";
pub const SUM: &str = "/opdbus.agent.probe.v1.ProbeService/Sum";
pub const CHAT: &str = "/opdbus.agent.probe.v1.ProbeService/Chat";
pub const BLOCKS: &str = "/opdbus.agent.probe.v1.ProbeService/Blocks";
pub const DRIP: &str = "/opdbus.agent.probe.v1.ProbeService/Drip";
pub const LINGER: &str = "/opdbus.agent.probe.v1.ProbeService/Linger";
pub const COUNT: &str = "/opdbus.agent.probe.v1.ProbeService/Count";

/// Checks code and reason of a failed call and gives its details.
#[track_caller]
pub fn check_error<T: std::fmt::Debug>(
    outcome: Result<T, Status>,
    code: Code,
    reason: &str,
) -> ErrorDetails {
    let status = outcome.expect_err("the call must fail");
    assert_eq!(status.code(), code, "{status:?}");
    let details = status.get_error_details();
    let info = details.error_info().expect("an ErrorInfo");
    assert_eq!((info.reason.as_str(), info.domain.as_str()), (reason, "org.opdbus"));
    details
}

/// Waits until `condition` holds, up to ten seconds.
pub async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let began = tokio::time::Instant::now();
    while !condition().await {
        assert!(began.elapsed() < PATIENCE, "it did not come about that {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
