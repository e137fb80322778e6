//! Chooses the way of each call by the stages of the rollout, makes it as safely as it can be made, and
//! counts it. It is a carrier around those of the ways.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use super::attached;
use super::call::{Call, CallOptions, Payload, Requests, Rpc, StreamCall};
use super::carrier::{Carrier, Pending};
use super::error::{Error, Failure};
use super::metrics::AgentMetrics;
use super::retry::{Breakers, Retries, Terms, Try, Verdict};
use super::rollout::{Asked, Identity, Plan, Rollout};
use super::same_service::{self, Known, Process};
use super::shadow::{Samples, Shadow};
use super::stream::Messages;
use super::way::Way;
use super::ways::Ways;
use crate::contract::Idempotency;
use crate::proto::opdbus::v1::OnDisconnect;

/// How long the first call waits for the stages. Until they are known, calls go as without knowledge.
const PATIENCE: Duration = Duration::from_secs(1);

/// How calls are made.
#[derive(Clone, Debug)]
pub(super) struct Care {
    /// What the client calls itself; may be empty.
    pub(super) name: String,
    /// The one way that every call takes, whatever the stages are; `None`: that of its stage.
    pub(super) pinned: Option<Way>,
    /// How often a call is tried again.
    pub(super) max_retries: u32,
    /// True if each call that is not idempotent gets a request id, unless it has one.
    pub(super) mint_request_ids: bool,
    /// Where the last known stages are kept; `None`: nowhere.
    pub(super) routes_file: Option<PathBuf>,
}

/// Carries each call over the way that is its own.
#[derive(Clone, Debug)]
pub(super) struct Routed(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ways: Ways,
    /// The way over D-Bus.
    old: Way,
    care: Care,
    metrics: Arc<AgentMetrics>,
    retries: Retries,
    samples: Arc<Samples>,
    /// Begins with the first call.
    rollout: OnceCell<Rollout>,
    shadow: Shadow,
    service: Known,
}

impl Routed {
    /// Carries calls over `ways`.
    pub(super) fn new(ways: Ways, care: Care) -> Self {
        let breakers = Arc::new(Breakers::default());
        let metrics = Arc::new(AgentMetrics::new(Arc::clone(&breakers)));
        let samples = Arc::new(Samples::default());
        Self(Arc::new(Inner {
            retries: Retries::new(care.max_retries, Arc::clone(&metrics), breakers),
            shadow: Shadow::new(Arc::clone(&metrics), Arc::clone(&samples)),
            old: if ways.has(Way::Legacy) { Way::Legacy } else { Way::Dbus },
            service: Known::default(),
            rollout: OnceCell::new(),
            ways,
            care,
            metrics,
            samples,
        }))
    }
}

impl Inner {
    /// How a call goes. A way that the client does not have is none to take or to fall back on.
    async fn plan(&self, rpc: &Rpc, options: &CallOptions) -> Plan {
        let plan = match self.care.pinned {
            Some(way) => Plan::only(way),
            None => self.rollout().await.plan(Asked {
                agent: &rpc.agent,
                operation: name(rpc),
                idempotency: rpc.idempotency,
                session: options.session.as_deref(),
            }),
        };
        let fallback = plan.fallback.filter(|way| self.ways.has(*way));
        match (self.ways.has(plan.way), fallback) {
            (false, Some(way)) => Plan::only(way),
            (true, _) | (false, None) => {
                Plan { fallback, shadow: plan.shadow && self.ways.has(Way::Grpc), ..plan }
            }
        }
    }

    async fn rollout(&self) -> &Rollout {
        let begin = async || {
            let identity = Identity {
                name: self.care.name.clone(),
                old: self.old,
                kept: self.care.routes_file.clone(),
            };
            let (metrics, samples) = (Arc::clone(&self.metrics), Arc::clone(&self.samples));
            let rollout = Rollout::start(&self.ways, identity, metrics, samples);
            rollout.known(PATIENCE).await;
            rollout
        };
        self.rollout.get_or_init(begin).await
    }

    /// Makes a call, each try by `make`.
    async fn safely<T, F, R>(
        &self,
        rpc: &Rpc,
        options: &CallOptions,
        plan: Plan,
        make: F,
    ) -> Result<T, Error>
    where
        F: Fn(Try) -> R,
        R: Future<Output = Result<T, Error>>,
    {
        let has_request_id = options.request_id.is_some();
        let terms = Terms {
            agent: &rpc.agent,
            operation: name(rpc),
            idempotency: rpc.idempotency,
            has_request_id,
            deadline: options.timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            plan,
            may_move: self.care.pinned.is_none() && self.ways.has(Way::Grpc),
        };
        let first = match has_request_id && rpc.idempotency == Idempotency::Unknown {
            true => {
                let asked = [plan.way].into_iter().chain(plan.fallback);
                let process = self.service.process(&self.ways, asked);
                match options.timeout {
                    Some(timeout) => tokio::time::timeout(timeout, process).await.unwrap_or(None),
                    None => process.await,
                }
            }
            false => None,
        };
        self.retries.call(&terms, |attempt| self.attempt(attempt, first, make(attempt))).await
    }

    /// One try, once it is known to be safe.
    async fn attempt<T>(
        &self,
        attempt: Try,
        first: Option<Process>,
        make: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        if attempt.only_same_service {
            same_service::check(first, &self.ways, attempt.way).await?;
        }
        let outcome = make.await;
        if outcome.as_ref().is_err_and(|error| Verdict::on(error).is_ways) {
            self.service.forget();
            if let Some(rollout) = self.rollout.get().filter(|_| attempt.way == Way::Grpc) {
                rollout.lost();
            }
        }
        outcome
    }

    async fn call(&self, mut call: Call) -> Result<Payload, Error> {
        self.name_request(&call.rpc, &mut call.options)?;
        let plan = self.plan(&call.rpc, &call.options).await;
        let make = |attempt: Try| {
            let mut call = call.clone();
            call.options.timeout = attempt.left;
            async move { self.ways.over(attempt.way)?.call(call).await }
        };
        let outcome = self.safely(&call.rpc, &call.options, plan, make).await;
        if outcome.is_ok() && call.rpc.agent == "sessions" {
            match name(&call.rpc) {
                "StartSession" => self.metrics.session_began(),
                "EndSession" => self.metrics.session_ended(),
                _ => {}
            }
        }
        if plan.shadow
            && let Some(place) = self.shadow.place(&call)
        {
            self.shadow.compare(place, &self.ways, plan.way, call, outcome.clone());
        }
        outcome
    }

    /// Gives a call that is not idempotent a request id, if that is wished.
    fn name_request(&self, rpc: &Rpc, options: &mut CallOptions) -> Result<(), Error> {
        let needs = rpc.idempotency == Idempotency::Unknown && options.request_id.is_none();
        if self.care.mint_request_ids && needs {
            let mut bytes = [0; 16];
            SystemRandom::new()
                .fill(&mut bytes)
                .map_err(|_| Failure::internal("the system gives no random numbers"))?;
            options.request_id = Some(format!("{:032x}", u128::from_be_bytes(bytes)));
        }
        Ok(())
    }

    /// Opens a stream.
    async fn stream(self: &Arc<Self>, mut call: StreamCall) -> Result<Messages, Error> {
        self.name_request(&call.rpc, &mut call.options)?;
        let plan = self.plan(&call.rpc, &call.options).await;
        let StreamCall { rpc, requests, options } = call;
        let kept = attached::kept(&rpc, &options, &requests);
        let request = match requests {
            Requests::One(request) => request,
            Requests::Many(requests) => {
                let call = StreamCall { rpc, requests: Requests::Many(requests), options };
                return self.exchange(plan, call).await;
            }
        };
        let make = |attempt: Try| {
            let options = CallOptions { timeout: attempt.left, ..kept.clone() };
            let requests = Requests::One(request.clone());
            let call = StreamCall { rpc: rpc.clone(), requests, options };
            async move {
                let messages = self.ways.over(attempt.way)?.stream(call).await?;
                Ok((attempt.way, messages))
            }
        };
        let (way, messages) = self.safely(&rpc, &options, plan, make).await?;
        let figures = self.metrics.operation(&rpc.agent, name(&rpc));
        let carrier = Routed(Arc::clone(self));
        Ok(attached::attached(carrier, messages, way, figures, &options))
    }

    /// Opens a stream of requests, which can be sent once, so that there is one try.
    async fn exchange(self: &Arc<Self>, plan: Plan, call: StreamCall) -> Result<Messages, Error> {
        let figures = self.metrics.operation(&call.rpc.agent, name(&call.rpc));
        let ready = self.ways.over(plan.way)?.ready().await;
        let way = match (ready, plan.fallback) {
            (Err(Error::Unreachable(_)), Some(other)) => {
                figures.fallback(plan.way);
                other
            }
            (Ok(()) | Err(_), _) => plan.way,
        };
        // Its requests end with its connection, so that no task is looked for behind it.
        let options = CallOptions { on_disconnect: OnDisconnect::Cancel, ..call.options.clone() };
        let started = Instant::now();
        let outcome = self.ways.over(way)?.stream(call).await;
        figures.request(way, started.elapsed(), outcome.as_ref().map(drop));
        Ok(attached::attached(Routed(Arc::clone(self)), outcome?, way, figures, &options))
    }
}

/// The name of an operation as the contract has it, however the caller wrote it.
pub(super) fn name(rpc: &Rpc) -> &str {
    rpc.path.rsplit_once('/').map_or(&*rpc.operation, |(_, name)| name)
}

impl Carrier for Routed {
    fn way(&self) -> Way {
        let known = self.0.rollout.get().map(|rollout| rollout.plan(Asked::ANYTHING).way);
        self.0.care.pinned.or(known).unwrap_or(self.0.old)
    }

    fn target(&self) -> String {
        self.0.ways.over(self.way()).map_or_else(|error| error.to_string(), |way| way.target())
    }

    fn ready(&self) -> Pending<'_, ()> {
        async {
            let plan = self.0.plan(&Rpc::unknown("", ""), &CallOptions::default()).await;
            let ready = self.0.ways.over(plan.way)?.ready().await;
            match (ready, plan.fallback) {
                (Err(Error::Unreachable(_)), Some(other)) => self.0.ways.over(other)?.ready().await,
                (ready, _) => ready,
            }
        }
        .boxed()
    }

    fn call(&self, call: Call) -> Pending<'_, Payload> {
        self.0.call(call).boxed()
    }

    fn keeps_time(&self) -> bool {
        true
    }

    fn stream(&self, call: StreamCall) -> Pending<'_, Messages> {
        self.0.stream(call).boxed()
    }

    fn metrics(&self) -> Option<Arc<AgentMetrics>> {
        Some(Arc::clone(&self.0.metrics))
    }

    fn close(&self) -> Pending<'_, ()> {
        async {
            if let Some(rollout) = self.0.rollout.get() {
                rollout.report().await;
            }
            Ok(())
        }
        .boxed()
    }
}
