//! What happens to every call, whichever transport it came by: find the operation, take the earlier
//! deadline, authorize, admit, run, observe. Limits, deadlines, idempotency, audit and metrics are here
//! and nowhere else; how a call arrives and where it runs are not.

mod access;
mod admit;
mod apart;
mod approvals;
mod authority;
mod authorize;
mod calls;
mod count;
mod moved;
mod observe;
mod repeats;
mod routes;
mod run;
mod share;
mod start;
mod started;
mod trail;
mod unread;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::{Notify, watch};

use crate::audit::Audit;
use crate::call::{Context, LoginSources, Transport};
use crate::contract::{json_to_message, message_to_json};
use crate::error::{Error, ErrorKind};
use crate::metrics::{Metrics, Rejection};
use crate::registry::Registry;
use crate::session::{self, Sessions};
use crate::task::{self, Tasks};

pub use access::{
    ADMIN_GROUP, Approver, Decision, Named, Policy, PolicyInForce, Risks, Rule, Who, risk_name,
    risk_named,
};
pub use approvals::{ApprovalDesk, Config as ApprovalConfig};
pub use authority::{Answer, Authority, Question, Subject};
pub use calls::{Calls, Config as BatchConfig};
pub use moved::Moves;
pub use observe::{Observed, Observer};
pub use routes::{Route, Routes, Served};
pub use share::{Coming, Config as ShareConfig, Exchange};

pub use start::Input;
pub use trail::Trail;

use access::Access;
use apart::Lane;
use approvals::Approvals;
use observe::Observation;
use repeats::Repeats;
use share::Shares;
use started::Started;

/// The executor's settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many calls run at once (`[executor] max_in_flight`).
    pub max_in_flight: usize,
    /// How many calls run at once in one agent (`[executor] max_in_flight_per_agent`).
    pub max_in_flight_per_agent: usize,
    /// How many calls wait for a place, in all and for each agent (`[executor] queue`).
    pub queue: usize,
    /// The time for a call whose client names none (`[executor] default_timeout_ms`).
    pub default_timeout: Duration,
    /// The time that no call exceeds (`[executor] max_timeout_ms`).
    pub max_timeout: Duration,
    /// Who may call what (`[[policy]]`).
    pub policy: Policy,
    /// Where the login sessions of callers are read from, for rules that ask for them.
    pub logins: LoginSources,
    /// The approvals.
    pub approvals: ApprovalConfig,
    /// How long the result of a call with a request id is kept (`[executor] request_id_ttl_ms`).
    pub request_id_ttl: Duration,
    /// How many such results are kept (`[executor] request_id_max`).
    pub request_id_max: usize,
    /// The tasks.
    pub tasks: task::Config,
    /// The sessions.
    pub sessions: session::Config,
    /// The batches.
    pub batch: BatchConfig,
    /// What one caller may have of the service.
    pub share: ShareConfig,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_in_flight: 256,
            max_in_flight_per_agent: 128,
            queue: 1024,
            default_timeout: Duration::from_secs(30),
            max_timeout: Duration::from_secs(600),
            policy: Policy::new(Vec::new()),
            logins: LoginSources::default(),
            approvals: ApprovalConfig::default(),
            request_id_ttl: Duration::from_secs(600),
            request_id_max: 65_536,
            tasks: task::Config::default(),
            sessions: session::Config::default(),
            batch: BatchConfig::default(),
            share: ShareConfig::default(),
        }
    }
}

/// Runs calls.
pub struct Executor {
    config: ArcSwap<Config>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    routes: ArcSwap<Routes>,
    shares: ArcSwap<Shares>,
    access: ArcSwap<Access>,
    approvals: Approvals,
    /// None if calls for which the policy says `auth` are refused.
    authority: Option<Arc<dyn Authority>>,
    rerouted: watch::Sender<()>,
    repeats: Repeats,
    started: Started,
    tasks: Arc<Tasks>,
    sessions: Arc<Sessions>,
    /// None if nothing is recorded.
    audit: Option<Arc<Audit>>,
    /// Empty while every call may be made over D-Bus.
    moves: OnceLock<Arc<dyn Moves>>,
    lane: Lane,
    observers: ArcSwap<Vec<Arc<dyn Observer>>>,
    draining: AtomicBool,
    next_call: AtomicU64,
    ended: Notify,
}

impl Executor {
    /// An executor for the services that `registry` holds now; after a registration,
    /// [`Executor::refresh`] takes it up.
    #[must_use]
    pub fn new(
        config: Config,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        tasks: Arc<Tasks>,
        sessions: Arc<Sessions>,
        audit: Option<Arc<Audit>>,
        authority: Option<Arc<dyn Authority>>,
    ) -> Arc<Self> {
        let routes = Routes::new(&registry.snapshot(), &config, &metrics);
        let access = Access::new(&config.policy, config.logins.clone(), &routes);
        let ending = Arc::clone(&tasks);
        sessions.on_end(move |scope| ending.session_ended(scope));
        Arc::new(Self {
            repeats: Repeats::default(),
            started: Started::default(),
            tasks,
            sessions,
            shares: ArcSwap::from_pointee(Shares::new(config.share.clone())),
            audit,
            moves: OnceLock::new(),
            lane: Lane::default(),
            observers: ArcSwap::default(),
            config: ArcSwap::from_pointee(config),
            access: ArcSwap::from_pointee(access),
            approvals: Approvals::new(Arc::clone(&metrics)),
            authority,
            registry,
            metrics,
            routes: ArcSwap::from_pointee(routes),
            rerouted: watch::Sender::new(()),
            draining: AtomicBool::new(false),
            next_call: AtomicU64::new(1),
            ended: Notify::new(),
        })
    }

    /// The registry that the executor serves.
    #[must_use]
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The metrics that the executor records in.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The tasks that the executor has started.
    #[must_use]
    pub fn tasks(&self) -> &Arc<Tasks> {
        &self.tasks
    }

    /// The sessions that calls may name.
    #[must_use]
    pub fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Notes that the client at `address` is gone.
    pub fn client_gone(&self, transport: Transport, address: &str) {
        self.sessions.client_gone(transport, address);
        self.tasks.client_gone(transport, address);
    }

    /// Notes that every client of a transport is gone, as when the bus was lost.
    pub fn clients_gone(&self, transport: Transport) {
        self.sessions.clients_gone(transport);
        self.tasks.clients_gone(transport);
    }

    /// The time for a call whose client names none.
    #[must_use]
    pub fn default_timeout(&self) -> Duration {
        self.config.load().default_timeout
    }

    /// The operation at a gRPC path.
    ///
    /// # Errors
    /// `UnknownOperation`; the refusal is counted.
    pub fn find_path(&self, path: &str) -> Result<Arc<Route>, Error> {
        self.routes.load().path(path).inspect_err(|error| self.count_unknown(error))
    }

    /// The operation `operation` (`Remember` or `remember`) of the agent with the id `agent`.
    ///
    /// # Errors
    /// `UnknownAgent` or `UnknownOperation`; the refusal is counted.
    pub fn find(&self, agent: &str, operation: &str) -> Result<Arc<Route>, Error> {
        self.routes.load().named(agent, operation).inspect_err(|error| self.count_unknown(error))
    }

    /// Counts a call that a transport refused before it was one: too large, not decodable.
    pub fn reject(&self, rejection: Rejection) {
        self.metrics.rejected(rejection);
    }

    /// Runs one call with a request and a response, both encoded. For operations with streams there is
    /// [`Executor::start`].
    ///
    /// # Errors
    /// What the agent says, or why the call was not let through; see [`ErrorKind`].
    ///
    /// # Cancel safety
    /// Dropping the future cancels the call, unless it bears a request id: then it is carried to its
    /// end, so that the same call, sent again, gets its result.
    pub async fn call(
        self: &Arc<Self>,
        route: &Arc<Route>,
        context: Context,
        request: Bytes,
    ) -> Result<Bytes, Error> {
        if route.is_call_json() {
            // Boxed here and below, so that every other call does not carry the size of the rare ones.
            return Box::pin(self.call_json_encoded(route, context, request)).await;
        }
        let observation = Observation::start(self, route, &context);
        let mut trail = Trail::new(self, route, &context);
        let outcome = self.run(route, context, request, &mut trail).await;
        trail.end(outcome.as_ref().err()).await;
        observation.end(outcome.as_ref().err());
        outcome
    }

    /// Runs one call whose request and response are JSON objects. It is authorized, limited and
    /// counted as the operation that it names.
    ///
    /// # Errors
    /// As [`Executor::call`]; `InvalidArgument` naming line and column if `arguments` do not fit.
    pub async fn call_json(
        self: &Arc<Self>,
        agent: &str,
        operation: &str,
        arguments: &str,
        context: Context,
    ) -> Result<String, Error> {
        let route = self.find(agent, operation)?;
        let request = match json_to_message(&route.operation.input, arguments) {
            Ok(request) => request,
            Err(error) => return Err(Box::pin(self.unread(&route, context, error)).await),
        };
        // Boxed, because a call may be a CallJson, which ends up here again.
        let response = Box::pin(self.call(&route, context, request.into())).await?;
        message_to_json(&route.operation.output, &response)
    }

    /// Refuses every call from now on; those that run go on, but for those that only wait.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.tasks.drain();
    }

    /// Resolves when no call runs or waits. Only after [`Executor::drain`]: while new calls come there
    /// is no end to wait for.
    pub async fn idle(&self) {
        loop {
            let ended = self.ended.notified();
            if self.metrics.running() == 0 {
                return;
            }
            ended.await;
        }
    }

    /// Shows that the executor turns: a task of its own runs and the state behind its locks can be
    /// reached. What the daemon tells the watchdog rests on this.
    pub async fn is_alive(self: &Arc<Self>) -> bool {
        let executor = Arc::clone(self);
        tokio::spawn(async move {
            let config = executor.config.load_full();
            executor.repeats.sweep(&config);
            executor.started.sweep(&config);
            executor.approvals.sweep();
        })
        .await
        .is_ok()
    }

    async fn call_json_encoded(
        self: &Arc<Self>,
        route: &Arc<Route>,
        context: Context,
        request: Bytes,
    ) -> Result<Bytes, Error> {
        use crate::proto::opdbus::v1::{CallJsonRequest, CallJsonResponse};
        let request: CallJsonRequest = crate::contract::decode(request)?;
        let called = self.find(&request.agent, &request.operation)?;
        if Arc::ptr_eq(&called, route) {
            return Err(Error::invalid("operation", "CallJson does not call itself"));
        }
        let result =
            self.call_json(&request.agent, &request.operation, &request.arguments, context).await?;
        crate::contract::encode(&CallJsonResponse { result })
    }

    fn count_unknown(&self, error: &Error) {
        self.reject(match error.kind() == ErrorKind::UnknownAgent {
            true => Rejection::UnknownAgent,
            false => Rejection::UnknownOperation,
        });
    }
}
