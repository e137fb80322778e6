//! What happens to every call, whichever transport it came by: find the operation, take the earlier
//! deadline, authorize, admit, run, observe. Limits, deadlines, idempotency and metrics are here and
//! nowhere else; how a call arrives and where it runs are not.

mod access;
mod admit;
mod calls;
mod observe;
mod repeats;
mod routes;
mod start;
mod started;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio::sync::Notify;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use crate::call::{Context, OnDisconnect, Transport};
use crate::contract::{Running, json_to_message, message_to_json};
use crate::error::{Error, ErrorKind};
use crate::metrics::{Metrics, Rejection, Stage};
use crate::registry::Registry;
use crate::session::{self, InSession, Sessions};
use crate::task::{self, Tasks};

pub use access::Policy;
pub use calls::{Calls, Config as BatchConfig};
pub use routes::{Route, Routes, Served};

pub use start::Input;

use observe::Observation;
use repeats::Repeats;
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
    /// Who may call (`[executor] policy`).
    pub policy: Policy,
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
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_in_flight: 256,
            max_in_flight_per_agent: 128,
            queue: 1024,
            default_timeout: Duration::from_secs(30),
            max_timeout: Duration::from_secs(600),
            policy: Policy::AllowLocal,
            request_id_ttl: Duration::from_secs(600),
            request_id_max: 4096,
            tasks: task::Config::default(),
            sessions: session::Config::default(),
            batch: BatchConfig::default(),
        }
    }
}

/// Runs calls.
pub struct Executor {
    config: ArcSwap<Config>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    routes: ArcSwap<Routes>,
    repeats: Repeats,
    started: Started,
    tasks: Arc<Tasks>,
    sessions: Arc<Sessions>,
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
    ) -> Arc<Self> {
        let routes = Routes::new(&registry.snapshot(), &config, &metrics);
        let ending = Arc::clone(&tasks);
        sessions.on_end(move |scope| ending.session_ended(scope));
        Arc::new(Self {
            repeats: Repeats::default(),
            started: Started::default(),
            tasks,
            sessions,
            config: ArcSwap::from_pointee(config),
            registry,
            metrics,
            routes: ArcSwap::from_pointee(routes),
            draining: AtomicBool::new(false),
            next_call: AtomicU64::new(1),
            ended: Notify::new(),
        })
    }

    /// Puts a new configuration in force. Calls that run or wait keep the limits they came under.
    pub fn reconfigure(&self, config: Config) {
        self.routes.store(Arc::new(Routes::new(&self.registry.snapshot(), &config, &self.metrics)));
        self.tasks.reconfigure(config.tasks.clone());
        self.sessions.reconfigure(config.sessions.clone());
        self.config.store(Arc::new(config));
    }

    /// Takes up what was registered since.
    pub fn refresh(&self) {
        self.reconfigure(Config::clone(&self.config.load()));
    }

    /// The operations as they are now.
    pub fn routes(&self) -> Guard<Arc<Routes>> {
        self.routes.load()
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
            return self.call_json_encoded(route, context, request).await;
        }
        let observation = Observation::start(self, route, &context);
        let outcome = self.run(route, context, request).await;
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
        let request = json_to_message(&route.operation.input, arguments)
            .inspect_err(|_| self.reject(Rejection::InvalidRequest))?;
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

    async fn run(
        self: &Arc<Self>,
        route: &Arc<Route>,
        mut context: Context,
        request: Bytes,
    ) -> Result<Bytes, Error> {
        if route.operation.is_streaming() {
            return Err(needs_stream(route));
        }
        if context.on_disconnect == Some(OnDisconnect::Continue) {
            return Err(ends_with_client("calls.StartCall gives a task that does not"));
        }
        let config = self.config.load_full();
        let in_session = self.let_in(&config, route, &context)?;
        context.deadline = deadline(route, &context, config.default_timeout, config.max_timeout);
        match context.request_id.take() {
            None => {
                let work = self.unary(route, &context, request);
                let outcome = self.run_in_time(route, &context, work).await;
                drop(in_session);
                outcome
            }
            Some(id) => self.run_once(id, &config, route, context, request, in_session).await,
        }
    }

    /// What every call must pass before anything is done for it. What it gives is kept for as long as
    /// the call runs.
    fn let_in(
        &self,
        config: &Config,
        route: &Route,
        context: &Context,
    ) -> Result<Option<InSession>, Error> {
        if self.draining.load(Ordering::Acquire) {
            self.reject(Rejection::Draining);
            return Err(Error::new(ErrorKind::Unavailable, "the service is stopping"));
        }
        let start = Instant::now();
        self.metrics.stage(Stage::Lookup, start - context.received);
        self.authorize(config, route, context)?;
        let in_session = match &context.session {
            None => None,
            Some(id) => Some(
                self.sessions
                    .enter(context, id, &route.operation)
                    .inspect_err(|_| self.reject(Rejection::UnknownSession))?,
            ),
        };
        self.metrics.stage(Stage::Authorize, start.elapsed());
        Ok(in_session)
    }

    /// The work of a call with one request and one response.
    fn unary<'a>(
        &self,
        route: &'a Route,
        context: &'a Context,
        request: Bytes,
    ) -> Running<'a, Bytes> {
        route.host.call(&route.operation, context, request)
    }

    fn authorize(&self, config: &Config, route: &Route, context: &Context) -> Result<(), Error> {
        config.policy.authorize(&context.caller, &route.operation).inspect_err(|error| {
            self.reject(match error.kind() == ErrorKind::Unauthenticated {
                true => Rejection::Unauthenticated,
                false => Rejection::Denied,
            });
        })
    }

    /// Runs a call with a request id: the first with this id runs, the others get its result.
    async fn run_once(
        self: &Arc<Self>,
        id: Box<str>,
        config: &Config,
        route: &Arc<Route>,
        context: Context,
        request: Bytes,
        in_session: Option<InSession>,
    ) -> Result<Bytes, Error> {
        let deadline = context.deadline;
        let key = repeats::Key::new(id, &context.caller, route);
        let executor = Arc::clone(self);
        let called = Arc::clone(route);
        let payload = request.clone();
        let mut work = context;
        work.deadline = Some(work.received + config.max_timeout);
        let work = async move {
            let running = executor.unary(&called, &work, payload);
            let outcome = executor.run_in_time(&called, &work, running).await;
            drop(in_session);
            outcome
        };
        let result = self.repeats.run(key, config, route, request, work);
        match deadline {
            Some(deadline) => timeout_at(deadline, result).await.unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::DeadlineExceeded,
                    "the time for the call was over; sent again with its request id it gives its result",
                ))
            }),
            None => result.await,
        }
    }

    /// Admits a call and runs it, both before the deadline.
    async fn run_in_time<T>(
        &self,
        route: &Route,
        context: &Context,
        work: Running<'_, T>,
    ) -> Result<T, Error> {
        let start = Instant::now();
        let deadline = context.deadline;
        let Ok(admitted) = before(deadline, self.admit(route)).await else {
            self.reject(Rejection::Deadline);
            return Err(Error::new(
                ErrorKind::DeadlineExceeded,
                "the time for the call was over while it waited for a place",
            ));
        };
        let _place = admitted?;
        let admitted_at = Instant::now();
        self.metrics.stage(Stage::Admit, admitted_at - start);
        let outcome = before(deadline, AssertUnwindSafe(work).catch_unwind()).await;
        self.metrics.stage(Stage::Run, admitted_at.elapsed());
        match outcome {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => {
                Err(Error::internal("the agent panicked; the service's log says where"))
            }
            Err(_) => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format!(
                    "the time for the call was over after {} ms",
                    context.received.elapsed().as_millis()
                ),
            )),
        }
    }

    /// Waits for a place in the agent and then in the service, so that calls that wait for a busy
    /// agent hold no place that others could use.
    async fn admit<'a>(&'a self, route: &'a Route) -> Result<Option<admit::Places<'a>>, Error> {
        if route.operation.waits {
            return Ok(None);
        }
        admit::enter(&route.gates, &self.metrics).await.map(Some)
    }

    fn count_unknown(&self, error: &Error) {
        self.reject(match error.kind() == ErrorKind::UnknownAgent {
            true => Rejection::UnknownAgent,
            false => Rejection::UnknownOperation,
        });
    }
}

/// When a call is to be over: at the client's time or `default`, but no later than `longest`. One that
/// only waits has no end but its client's.
fn deadline(
    route: &Route,
    context: &Context,
    default: Duration,
    longest: Duration,
) -> Option<Instant> {
    let timeout = match context.timeout {
        None if route.operation.waits => return None,
        None => default.min(longest),
        Some(timeout) if route.operation.waits => timeout,
        Some(timeout) => timeout.min(longest),
    };
    context.received.checked_add(timeout)
}

/// Waits for `work`, but not beyond `deadline`.
async fn before<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    match deadline {
        Some(deadline) => timeout_at(deadline, work).await,
        None => Ok(work.await),
    }
}

/// The answer to a client that wants a call to go on without it which does not.
fn ends_with_client(instead: &str) -> Error {
    let problem = format!("this call ends when its client goes away; {instead}");
    Error::invalid("on-disconnect", problem)
}

fn needs_stream(route: &Route) -> Error {
    let (agent, name) = (&route.operation.agent, &route.operation.name);
    let problem = format!(
        "{agent}.{name} is a stream: call it as one, or start it as a task with calls.StartCall"
    );
    Error::new(ErrorKind::InvalidArgument, problem)
}
