//! Sessions: who has which, what holds them, how long they live and who hears of their end. Through
//! the executor, with an agent that remembers what it was told; and over both transports.

mod connect;
mod ending;
mod holding;
mod limits;
mod restart;
mod starting;
mod transports;

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};
use op_dbus::call::{Attested, Caller, Context, Identity, SessionScope, Transport};
use op_dbus::contract::{Contract, Operation, RawReplies, RawRequests, Running as Call};
use op_dbus::error::{Error, ErrorKind};
use op_dbus::executor::{self, Executor};
use op_dbus::host::{Host, Local};
use op_dbus::metrics::Metrics;
use op_dbus::proto::opdbus::v1::{
    AgentStart, AgentState, EndSessionRequest, EndSessionResponse, GetSessionRequest,
    GetSessionResponse, KeepAliveRequest, KeepAliveResponse, Session, SessionsServiceAgent,
    StartSessionRequest, StartSessionResponse, WatchAgentsResponse,
};
use op_dbus::registry::Registry;
use op_dbus::session::{self, Agents, Service, Sessions};
use op_dbus::status::Status;
use op_dbus::task::Tasks;
use prost::Message;
use tempfile::TempDir;
use tokio::sync::broadcast;

use crate::fixture;
use crate::grpc::eventually;

const ALICE: u32 = 1000;
const BOB: u32 = 1001;

/// How an agent takes being told of a session's end.
#[derive(Clone, Copy, Debug)]
enum Hears {
    Well,
    Fails,
    Panics,
    Never,
}

/// An agent that remembers which ends it was told of. Its calls give their request back; one whose
/// request is `wait` waits for a minute.
#[derive(Default)]
struct Hearing {
    script: Mutex<VecDeque<Hears>>,
    heard: Mutex<Vec<SessionScope>>,
}

impl Host for Hearing {
    fn call<'a>(&'a self, _: &'a Operation, _: &'a Context, request: Bytes) -> Call<'a, Bytes> {
        Box::pin(async move {
            if *request == *b"wait" {
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            Ok(request)
        })
    }

    fn stream<'a>(
        &'a self,
        _: &'a Operation,
        _: &'a Context,
        mut requests: RawRequests,
        replies: RawReplies,
    ) -> Call<'a, ()> {
        Box::pin(async move {
            while let Some(request) = requests.next().await.transpose()? {
                replies.send(request).await?;
            }
            std::future::pending().await
        })
    }

    fn session_ended<'a>(&'a self, session: &'a SessionScope) -> Call<'a, ()> {
        Box::pin(async move {
            let hears = self.script.lock().unwrap().pop_front().unwrap_or(Hears::Well);
            self.heard.lock().unwrap().push(session.clone());
            match hears {
                Hears::Well => Ok(()),
                Hears::Fails => Err(Error::internal("as asked")),
                Hears::Panics => panic!("as asked"),
                Hears::Never => std::future::pending().await,
            }
        })
    }
}

/// The agents, of which one is warm and tells its changes when a test says so.
struct Source {
    registry: Arc<Registry>,
    changes: broadcast::Sender<WatchAgentsResponse>,
    /// How long it takes until the agents are warm.
    warming: Mutex<Duration>,
}

impl Agents for Source {
    fn warm(&self, _uid: u32) -> Call<'_, Vec<AgentStart>> {
        let took = *self.warming.lock().unwrap();
        Box::pin(async move {
            tokio::time::sleep(took).await;
            Ok(vec![AgentStart {
                agent: "probe".into(),
                state: AgentState::Running.into(),
                took: Some(took.try_into().unwrap()),
                reason: String::new(),
            }])
        })
    }

    fn changes(&self) -> BoxStream<'static, WatchAgentsResponse> {
        let changes = self.changes.subscribe();
        unfold(changes, async |mut changes| Some((changes.recv().await.ok()?, changes))).boxed()
    }

    fn wanted(&self, _uid: u32) -> Box<dyn Send> {
        Box::new(())
    }

    fn host(&self, agent: &str) -> Option<Arc<dyn Host>> {
        self.registry.snapshot().host(agent)
    }
}

/// An executor with the probe's operations, run by [`Hearing`], and with sessions.
struct World {
    executor: Arc<Executor>,
    agent: Arc<Hearing>,
    source: Arc<Source>,
}

impl World {
    fn new(folder: &Path, config: session::Config) -> Self {
        Self::hearing(folder, config, Arc::default())
    }

    fn hearing(folder: &Path, config: session::Config, agent: Arc<Hearing>) -> Self {
        let registry = Arc::new(Registry::default());
        let contract = Contract::built_in().unwrap();
        let probe = "opdbus.agent.probe.v1.ProbeService";
        registry.register(&contract, probe, Arc::clone(&agent) as _).unwrap();
        let metrics = Arc::new(Metrics::new().unwrap());
        let source = Arc::new(Source {
            registry: Arc::clone(&registry),
            changes: broadcast::channel(16).0,
            warming: Mutex::default(),
        });
        let agents: Arc<dyn Agents> = Arc::clone(&source) as _;
        let status = Arc::new(Status::default());
        let sessions = fixture::sessions(folder, &metrics, &status, &agents, config.clone());
        let service = Arc::new(SessionsServiceAgent(Arc::new(Service::new(Arc::clone(&sessions)))));
        let name = "opdbus.v1.SessionsService";
        registry.register(&contract, name, Arc::new(Local::new(service))).unwrap();
        let config = executor::Config { sessions: config, ..executor::Config::default() };
        let tasks = Tasks::in_memory(config.tasks.clone(), &metrics);
        Self {
            executor: Executor::new(config, registry, metrics, tasks, sessions, None, None),
            agent,
            source,
        }
    }

    fn sessions(&self) -> &Arc<Sessions> {
        self.executor.sessions()
    }

    async fn call<T: Message + Default>(
        &self,
        context: Context,
        operation: &str,
        request: &impl Message,
    ) -> Result<T, Error> {
        let route = self.executor.find("sessions", operation)?;
        let response = self.executor.call(&route, context, request.encode_to_vec().into()).await?;
        Ok(T::decode(response).unwrap())
    }

    async fn start(&self, context: Context, id: &str) -> Result<StartSessionResponse, Error> {
        self.call(context, "StartSession", &request(id)).await
    }

    async fn resume(
        &self,
        context: Context,
        id: &str,
        token: &str,
    ) -> Result<StartSessionResponse, Error> {
        let request = StartSessionRequest { token: token.into(), ..request(id) };
        self.call(context, "StartSession", &request).await
    }

    async fn get(&self, uid: u32, id: &str) -> Result<Session, Error> {
        let request = GetSessionRequest { session_id: id.into() };
        let response: GetSessionResponse = self.call(context(uid), "GetSession", &request).await?;
        Ok(response.session.unwrap())
    }

    async fn end(&self, uid: u32, id: &str) -> Result<Session, Error> {
        let request = EndSessionRequest { session_id: id.into() };
        let response: EndSessionResponse = self.call(context(uid), "EndSession", &request).await?;
        Ok(response.session.unwrap())
    }

    async fn keep_alive(&self, uid: u32, id: &str) -> Result<KeepAliveResponse, Error> {
        let request = KeepAliveRequest { session_id: id.into() };
        self.call(context(uid), "KeepAlive", &request).await
    }

    /// Calls the agent in a session.
    async fn used(&self, uid: u32, id: &str, request: &'static [u8]) -> Result<(), Error> {
        let route = self.executor.find("probe", "Nothing")?;
        let timeout = Some(Duration::from_secs(120));
        let context = Context { session: Some(id.into()), timeout, ..context(uid) };
        self.executor.call(&route, context, Bytes::from_static(request)).await.map(drop)
    }

    fn is_there(&self, uid: u32, id: &str) -> bool {
        self.sessions().get(uid, id).is_ok()
    }

    fn metric(&self, line: &str) {
        let text = self.executor.metrics().render().unwrap();
        assert!(text.lines().any(|found| found == line), "{line} is missing in\n{text}");
    }

    /// Waits until the agent was told of so many ends, and gives them.
    async fn heard(&self, count: usize) -> Vec<SessionScope> {
        let heard = || self.agent.heard.lock().unwrap().clone();
        eventually("the agent hears", async || heard().len() >= count).await;
        heard()
    }
}

fn request(id: &str) -> StartSessionRequest {
    StartSessionRequest {
        client_name: "test".into(),
        session_id: id.into(),
        ..StartSessionRequest::default()
    }
}

fn context_at(uid: u32, transport: Transport, address: &str) -> Context {
    let identity = Identity::User { uid, gid: Some(uid) };
    Context::new(Arc::new(Caller::new(identity, Attested::Kernel, address)), transport)
}

fn context(uid: u32) -> Context {
    context_at(uid, Transport::Grpc, "unix")
}

fn on_bus(uid: u32, name: &str) -> Context {
    context_at(uid, Transport::Dbus, name)
}

fn scope(uid: u32, id: &str) -> SessionScope {
    SessionScope { uid, id: id.into() }
}

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn check_unknown<T: std::fmt::Debug>(outcome: Result<T, Error>, id: &str) {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.message(), format!("there is no session {id}"));
}
