//! When agents start and stop, and who can see it.

mod shown;
mod starting;
mod stopping;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use op_dbus::agents::Start;
use op_dbus::call::{Attested, Caller, Context, Identity, Transport};
use op_dbus::contract::{Agent, Contract};
use op_dbus::error::Error;
use op_dbus::executor::{Executor, Input};
use op_dbus::host::{Activated, Changes, Condition, Life, Local, Plan, State};
use op_dbus::metrics::Metrics;
use op_dbus::proto::opdbus::agent::probe::v1::{CountRequest, CountResponse, SleepRequest};
use op_dbus::proto::opdbus::v1::{
    AgentsServiceAgent, ListAgentsRequest, ListAgentsResponse, WatchAgentsRequest,
    WatchAgentsResponse,
};
use op_dbus::registry::{Agents, Registry};
use op_dbus::status::Status;
use op_dbus::task::{Event, Reading, Subscription};
use prost::Message;
use tempfile::TempDir;

use crate::fixture::executor_of;

/// How long anything may take before a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// An executor with the probe, built as a test wants it, and with op-dbus's own service.
pub struct World {
    pub executor: Arc<Executor>,
    pub status: Arc<Status>,
    builds: Arc<AtomicU32>,
    _folder: TempDir,
}

impl World {
    /// `build` gets the number of the build, from 1.
    pub fn new(
        start: Start,
        idle_stop: Option<Duration>,
        build: impl Fn(u32) -> Result<Arc<dyn Agent>, Error> + Send + Sync + 'static,
    ) -> Self {
        let builds = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&builds);
        let plan = Plan {
            agent: "probe".into(),
            start,
            idle_stop,
            build: Box::new(move || build(counted.fetch_add(1, Ordering::SeqCst) + 1)),
        };
        let metrics = Arc::new(Metrics::new().unwrap());
        let registry = Arc::new(Registry::default());
        let contract = Contract::built_in().unwrap();
        let life = Life::new(plan, registry.roster(), &metrics);
        let probe = "opdbus.agent.probe.v1.ProbeService";
        registry.register(&contract, probe, Arc::new(Activated::new(life))).unwrap();
        let status = Arc::new(Status::default());
        let own = Agents::new(&registry, Arc::clone(&metrics), Arc::clone(&status));
        let own = Local::new(Arc::new(AgentsServiceAgent(Arc::new(own))));
        registry.register(&contract, "opdbus.v1.AgentsService", Arc::new(own)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let executor = executor_of(registry, metrics, &status, folder.path());
        Self { executor, status, builds, _folder: folder }
    }

    /// How often the agent was built.
    fn builds(&self) -> u32 {
        self.builds.load(Ordering::SeqCst)
    }

    fn registry(&self) -> &Registry {
        self.executor.registry()
    }

    fn state(&self) -> State {
        self.registry().roster().condition("probe").unwrap().state
    }

    pub async fn count(&self) -> Result<u64, Error> {
        let response = call(&self.executor, "probe", "Count", CountRequest {}).await?;
        Ok(CountResponse::decode(response).unwrap().count)
    }

    /// Begins a call that takes `millis`.
    pub fn sleep(&self, millis: i32) -> tokio::task::JoinHandle<Result<Bytes, Error>> {
        let executor = Arc::clone(&self.executor);
        let duration = prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 };
        let request = SleepRequest { duration: Some(duration) };
        tokio::spawn(async move { call(&executor, "probe", "Sleep", request).await })
    }

    fn metric(&self, line: &str) -> bool {
        self.executor.metrics().render().unwrap().lines().any(|found| found == line)
    }
}

fn context() -> Context {
    let identity = Identity::User { uid: 1000, gid: Some(1000) };
    Context::new(Arc::new(Caller::new(identity, Attested::Kernel, "test")), Transport::Grpc)
}

async fn call(
    executor: &Arc<Executor>,
    agent: &str,
    operation: &str,
    request: impl Message,
) -> Result<Bytes, Error> {
    let route = executor.find(agent, operation)?;
    executor.call(&route, context(), request.encode_to_vec().into()).await
}

async fn listed(executor: &Arc<Executor>) -> ListAgentsResponse {
    let response = call(executor, "agents", "ListAgents", ListAgentsRequest {}).await.unwrap();
    ListAgentsResponse::decode(response).unwrap()
}

/// Starts WatchAgents as a client does.
async fn watch(executor: &Arc<Executor>, agents: &[&str]) -> Subscription {
    let agents = agents.iter().map(ToString::to_string).collect();
    let request = WatchAgentsRequest { agents }.encode_to_vec().into();
    let route = executor.find("agents", "WatchAgents").unwrap();
    let task = executor.start(&route, context(), Input::One(request)).await.unwrap();
    task.read(Reading { is_client: true, ..Reading::default() }).unwrap()
}

async fn told(watch: &mut Subscription) -> WatchAgentsResponse {
    match in_time(watch.next()).await {
        Some(Event::Message(message)) => WatchAgentsResponse::decode(message.payload).unwrap(),
        other => panic!("no message but {other:?}"),
    }
}

/// The next change whose state is `state`, passing over others.
async fn until(changes: &mut Changes, state: State) -> Condition {
    in_time(async {
        loop {
            let condition = changes.next().await;
            if condition.state == state {
                return condition;
            }
        }
    })
    .await
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work).await.expect("it takes too long")
}
