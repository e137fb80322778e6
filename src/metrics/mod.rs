//! The metrics of both transports, one family for each fact. Names and labels are fixed here and
//! nowhere else; every label has a bounded set of values. It records and renders, and decides nothing.

mod agent;
mod families;
mod ledger;
mod names;
mod operation;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, TextEncoder,
};

use crate::call::Transport;
use crate::error::Error;

use families::{Agents, Approvals, Rollout, Sessions, Tasks};

pub use agent::AgentMetrics;
pub use ledger::LedgerMetrics;
pub use names::{ApprovalEvent, REJECTIONS, Rejection, SessionEnd, Stage};
pub use operation::{OperationMetrics, StreamMetrics};
pub use worker::{WorkerEnd, WorkerMetrics};

/// Upper bounds of the duration buckets, in seconds: a call in this process takes some ten
/// microseconds, one durable write some hundred, a build minutes.
const DURATION_BUCKETS: [f64; 16] = [
    0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.05,
    0.25, 1.0, 5.0, 30.0, 300.0,
];

/// The labels of what is known of calls, whatever became of them.
const CALL_LABELS: &[&str] = &["agent", "operation", "transport", "interface"];

/// All metrics of the process.
pub struct Metrics {
    registry: Registry,
    calls: IntCounterVec,
    call_duration: HistogramVec,
    stage_durations: [Histogram; Stage::ALL.len()],
    in_flight: IntGaugeVec,
    /// All calls in flight, as a number that needs no walk over the gauges.
    running: Arc<AtomicI64>,
    queued: IntGauge,
    apart: IntCounter,
    rejected: [IntCounter; REJECTIONS.len()],
    dbus_reconnects: IntCounter,
    transport_up: [IntGauge; Transport::ALL.len()],
    store: IntGaugeVec,
    tasks: Tasks,
    sessions: Sessions,
    approvals: Approvals,
    agents: Agents,
    rollout: Rollout,
    workers: WorkerMetrics,
    ledger: LedgerMetrics,
}

impl Metrics {
    /// An empty set of metrics.
    ///
    /// # Errors
    /// `Internal` if two metrics have the same name, which is a fault in this file.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let add = Adder(&registry);
        let stages = add.histograms(
            "opdbus_stage_duration_seconds",
            "Time in one stage of a call.",
            &["stage"],
        )?;
        let rejected = add.counters(
            "opdbus_rejected_total",
            "Calls refused before an agent saw them.",
            &["reason"],
        )?;
        let up = add.gauges(
            "opdbus_transport_up",
            "1 while clients can reach the transport.",
            &["transport"],
        )?;
        let metrics = Self {
            calls: add.counters(
                "opdbus_calls_total",
                "Calls that ended, by outcome: ok or the reason of the error in lower case.",
                &["agent", "operation", "transport", "interface", "outcome"],
            )?,
            call_duration: add.histograms(
                "opdbus_call_duration_seconds",
                "Time from the whole request to the whole response.",
                CALL_LABELS,
            )?,
            stage_durations: Stage::ALL.map(|stage| stages.with_label_values(&[stage.name()])),
            in_flight: add.gauges(
                "opdbus_calls_in_flight",
                "Calls that have arrived and not ended.",
                CALL_LABELS,
            )?,
            running: Arc::default(),
            queued: add.gauge("opdbus_calls_queued", "Calls that wait for a place.")?,
            apart: add.counter(
                "opdbus_calls_apart_total",
                "Calls that went on apart from those of other callers, because some took long.",
            )?,
            rejected: REJECTIONS.map(|rejection| rejected.with_label_values(&[rejection.name()])),
            dbus_reconnects: add.counter(
                "opdbus_dbus_reconnects_total",
                "Times the bus was lost and found again.",
            )?,
            transport_up: Transport::ALL.map(|transport| up.with_label_values(&[transport.name()])),
            store: add.gauges(
                "opdbus_store",
                "What the agents' stores hold, by agent and quantity.",
                &["agent", "quantity"],
            )?,
            tasks: Tasks::new(&add)?,
            sessions: Sessions::new(&add)?,
            approvals: Approvals::new(&add)?,
            agents: Agents::new(&add)?,
            rollout: Rollout::new(&add)?,
            workers: WorkerMetrics::new(&add)?,
            ledger: LedgerMetrics::new(&add)?,
            registry,
        };
        Ok(metrics)
    }

    /// The handles of one operation.
    #[must_use]
    pub fn operation(&self, agent: &str, operation: &str) -> OperationMetrics {
        OperationMetrics::new(self, agent, operation)
    }

    /// The handles of one agent, which can be in each of `states`.
    #[must_use]
    pub fn agent(&self, agent: &str, states: &[&str]) -> AgentMetrics {
        AgentMetrics::new(self, agent, states)
    }

    /// Records how long a call was in a stage.
    pub fn stage(&self, stage: Stage, time: Duration) {
        self.stage_durations[stage as usize].observe(time.as_secs_f64());
    }

    /// Counts a call that was refused before an agent saw it.
    pub fn rejected(&self, rejection: Rejection) {
        self.rejected[rejection as usize].inc();
    }

    /// Calls that have arrived and not ended, over all operations and transports.
    #[must_use]
    pub fn running(&self) -> i64 {
        self.running.load(Ordering::Relaxed)
    }

    /// The gauge of calls that wait.
    #[must_use]
    pub fn queued(&self) -> &IntGauge {
        &self.queued
    }

    /// Counts a call that goes on apart from those of other callers.
    pub fn went_apart(&self) {
        self.apart.inc();
    }

    /// Notes whether clients can reach a transport.
    pub fn transport_up(&self, transport: Transport, up: bool) {
        self.transport_up[transport.index()].set(i64::from(up));
    }

    /// Counts one reconnection to the bus.
    pub fn dbus_reconnected(&self) {
        self.dbus_reconnects.inc();
    }

    /// A gauge of what an agent's store holds, as (`memory`, `keys`).
    #[must_use]
    pub fn store(&self, agent: &str, quantity: &str) -> IntGauge {
        self.store.with_label_values(&[agent, quantity])
    }

    /// The gauge of tasks in a state that is not final, as `working`.
    #[must_use]
    pub fn tasks(&self, state: &str) -> IntGauge {
        self.tasks.running.with_label_values(&[state])
    }

    /// The gauge of tasks that have ended and are kept.
    #[must_use]
    pub fn tasks_kept(&self) -> &IntGauge {
        &self.tasks.kept
    }

    /// Counts a session that was started.
    pub fn session_started(&self, transport: Transport) {
        self.sessions.started.inc();
        self.sessions.active[transport.index()].inc();
    }

    /// Counts a session that was started before the service was.
    pub fn session_taken_up(&self, transport: Transport) {
        self.sessions.active[transport.index()].inc();
    }

    /// Counts a session that has ended.
    pub fn session_ended(&self, transport: Transport, reason: SessionEnd) {
        self.sessions.ended[reason as usize].inc();
        self.sessions.active[transport.index()].dec();
    }

    /// Counts what happened to a call that must be approved.
    pub fn approval(&self, event: ApprovalEvent) {
        self.approvals.events[event as usize].inc();
    }

    /// The gauge of calls that wait for approval.
    #[must_use]
    pub fn approvals_pending(&self) -> &IntGauge {
        &self.approvals.pending
    }

    /// Shows the rules of the rollout, and no others: for each its name, the number of its stage and how
    /// many of 10,000 sessions or clients take gRPC.
    pub fn migration_rules<'a>(&self, rules: impl Iterator<Item = (&'a str, i64, u32)>) {
        self.rollout.stages.reset();
        self.rollout.shares.reset();
        for (rule, stage, share) in rules {
            self.rollout.stages.with_label_values(&[rule]).set(stage);
            self.rollout.shares.with_label_values(&[rule]).set(share.into());
        }
    }

    /// Counts that the canary has taken a rule back.
    pub fn migration_taken_back(&self, rule: &str) {
        self.rollout.taken_back.with_label_values(&[rule]).inc();
    }

    /// The handles of all workers.
    #[must_use]
    pub fn workers(&self) -> &WorkerMetrics {
        &self.workers
    }

    /// The handles of the ledger.
    #[must_use]
    pub fn ledger(&self) -> &LedgerMetrics {
        &self.ledger
    }

    /// All metrics in the Prometheus text format, version 0.0.4.
    ///
    /// # Errors
    /// `Internal` if a metric cannot be rendered, which is a fault in this file.
    pub fn render(&self) -> Result<String, Error> {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .map_err(|error| Error::internal(format!("the metrics cannot be rendered: {error}")))
    }
}

/// Makes metrics and registers them.
struct Adder<'a>(&'a Registry);

impl Adder<'_> {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, Error> {
        self.registered(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
        self.registered(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, Error> {
        self.registered(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, Error> {
        self.registered(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str]) -> Result<HistogramVec, Error> {
        let options = HistogramOpts::new(name, help).buckets(DURATION_BUCKETS.to_vec());
        self.registered(HistogramVec::new(options, labels))
    }

    fn registered<M>(&self, metric: Result<M, prometheus::Error>) -> Result<M, Error>
    where
        M: prometheus::core::Collector + Clone + 'static,
    {
        let fault =
            |error: prometheus::Error| Error::internal(format!("a metric is wrong: {error}"));
        let metric = metric.map_err(fault)?;
        self.0.register(Box::new(metric.clone())).map_err(fault)?;
        Ok(metric)
    }
}

#[cfg(test)]
mod tests;
