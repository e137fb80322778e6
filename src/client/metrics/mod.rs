//! What a client counts of its own calls: the figures, and a snapshot of them. How they are written down
//! for Prometheus is `exposition.rs`.

mod exposition;
mod snapshot;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::retry::{BreakerState, Breakers};
use super::{Error, Way};
use crate::error::ErrorKind;

pub use snapshot::{MetricsSnapshot, OperationMetrics, RequestMetrics};

/// The most operations that are counted apart; the calls of any others are counted together, as
/// operation `other` of agent `other`.
pub const MAX_OPERATIONS: usize = 1000;

/// What operations beyond [`MAX_OPERATIONS`] are called.
const OTHER: &str = "other";

/// The upper bounds of the classes of `request_duration_seconds`, in microseconds; there is one more
/// without a bound.
const BOUNDS_US: [u64; 15] = [
    100, 250, 500, 1000, 2500, 5000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    5_000_000, 30_000_000,
];

/// Why a request got no response, beside the reasons of the service: nothing was reached.
pub(super) const UNREACHABLE: &str = "UNREACHABLE";

/// The same: the connection broke, or the time was over, before the answer came.
pub(super) const LOST: &str = "LOST";

/// The reasons of `errors_total`.
const REASONS: usize = ErrorKind::ALL.len() + 2;

/// What a client counts: requests are those that went over a way, so that a call which is tried again
/// counts as two. It may be shared, and read at any time.
#[derive(Debug, Default)]
pub struct AgentMetrics {
    /// By agent.
    operations: RwLock<HashMap<Box<str>, OfAgent>>,
    active_sessions: AtomicI64,
    breakers: Arc<Breakers>,
}

/// By operation.
type OfAgent = HashMap<Box<str>, Arc<Operation>>;

/// The figures of one operation.
#[derive(Debug, Default)]
pub(super) struct Operation {
    ways: [Requests; Way::ALL.len()],
    /// From the way that the position says, to any other.
    fallbacks: [AtomicU64; Way::ALL.len()],
    compared: AtomicU64,
    differed: AtomicU64,
    skipped: AtomicU64,
}

/// The figures of one operation over one way.
#[derive(Debug, Default)]
struct Requests {
    requests: AtomicU64,
    retries: AtomicU64,
    /// Requests that the breaker kept back, and of which the next one that is tried says whether they would
    /// have failed.
    kept_back: AtomicU64,
    /// Those that would have.
    forgone: AtomicU64,
    chunks: AtomicU64,
    micros: AtomicU64,
    classes: [AtomicU64; BOUNDS_US.len() + 1],
    errors: [AtomicU64; REASONS],
}

impl AgentMetrics {
    /// With the breakers whose states are shown.
    pub(super) fn new(breakers: Arc<Breakers>) -> Self {
        Self { breakers, ..Self::default() }
    }

    /// The figures as they are now.
    #[must_use]
    pub fn snapshot(&self) -> MetricsSnapshot {
        let operations = self.operations.read().unwrap_or_else(PoisonError::into_inner);
        let mut taken: Vec<OperationMetrics> = operations
            .iter()
            .flat_map(|(agent, operations)| {
                operations.iter().map(|(name, figures)| figures.snapshot(agent, name))
            })
            .collect();
        drop(operations);
        taken.sort_by(|a, b| (&a.agent, &a.operation).cmp(&(&b.agent, &b.operation)));
        MetricsSnapshot {
            operations: taken,
            active_sessions: self.active_sessions.load(Ordering::Relaxed).max(0).unsigned_abs(),
            breakers: Way::ALL.map(|way| (way, self.breakers.standing(way))),
        }
    }

    /// The figures in Prometheus' text format.
    #[must_use]
    pub fn render(&self) -> String {
        exposition::render(&self.snapshot())
    }

    /// A session of the client's began.
    pub(super) fn session_began(&self) {
        self.active_sessions.fetch_add(1, Ordering::Relaxed);
    }

    /// A session of the client's ended.
    pub(super) fn session_ended(&self) {
        self.active_sessions.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request over `way` has shown whether those that were kept back before it would have failed.
    pub(super) fn tried(&self, way: Way, failed: bool) {
        let operations = self.operations.read().unwrap_or_else(PoisonError::into_inner);
        for figures in operations.values().flat_map(HashMap::values) {
            let figures = &figures.ways[way.index()];
            let kept_back = figures.kept_back.swap(0, Ordering::Relaxed);
            if failed {
                figures.forgone.fetch_add(kept_back, Ordering::Relaxed);
            }
        }
    }

    /// The figures of an operation.
    pub(super) fn operation(&self, agent: &str, operation: &str) -> Arc<Operation> {
        let known = self.operations.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(figures) = known.get(agent).and_then(|agent| agent.get(operation)) {
            return Arc::clone(figures);
        }
        let count: usize = known.values().map(HashMap::len).sum();
        drop(known);
        let (agent, operation) = match count < MAX_OPERATIONS {
            true => (agent, operation),
            false => (OTHER, OTHER),
        };
        let mut known = self.operations.write().unwrap_or_else(PoisonError::into_inner);
        let agent = known.entry(agent.into()).or_default();
        Arc::clone(agent.entry(operation.into()).or_default())
    }
}

impl Operation {
    /// A request went over `way` and this came of it after `time`.
    pub(super) fn request(&self, way: Way, time: Duration, outcome: Result<(), &Error>) {
        let figures = &self.ways[way.index()];
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let class = BOUNDS_US.partition_point(|bound| *bound < micros);
        figures.requests.fetch_add(1, Ordering::Relaxed);
        figures.micros.fetch_add(micros, Ordering::Relaxed);
        figures.classes[class].fetch_add(1, Ordering::Relaxed);
        if let Err(error) = outcome {
            figures.errors[reason_index(error)].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A request over `way` was kept back, since that is left alone.
    pub(super) fn keep_back(&self, way: Way) {
        self.ways[way.index()].kept_back.fetch_add(1, Ordering::Relaxed);
    }

    /// The next request over `way` is a retry.
    pub(super) fn retry(&self, way: Way) {
        self.ways[way.index()].retries.fetch_add(1, Ordering::Relaxed);
    }

    /// A call falls back from `way` on another.
    pub(super) fn fallback(&self, way: Way) {
        self.fallbacks[way.index()].fetch_add(1, Ordering::Relaxed);
    }

    /// A message of a stream came over `way`.
    pub(super) fn chunk(&self, way: Way) {
        self.ways[way.index()].chunks.fetch_add(1, Ordering::Relaxed);
    }

    /// A call was made over both ways and compared.
    pub(super) fn compare(&self, differed: bool) {
        self.compared.fetch_add(1, Ordering::Relaxed);
        self.differed.fetch_add(u64::from(differed), Ordering::Relaxed);
    }

    /// A call that could have been compared was not.
    pub(super) fn skip(&self) {
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    fn snapshot(&self, agent: &str, operation: &str) -> OperationMetrics {
        let ways = Way::ALL.into_iter().map(|way| self.ways[way.index()].snapshot(way));
        let fallbacks = Way::ALL
            .into_iter()
            .map(|way| (way, self.fallbacks[way.index()].load(Ordering::Relaxed)));
        OperationMetrics {
            agent: agent.to_owned(),
            operation: operation.to_owned(),
            ways: ways.filter(RequestMetrics::has_any).collect(),
            fallbacks: fallbacks.filter(|(_, count)| *count > 0).collect(),
            compared: self.compared.load(Ordering::Relaxed),
            differed: self.differed.load(Ordering::Relaxed),
            skipped: self.skipped.load(Ordering::Relaxed),
        }
    }
}

impl Requests {
    fn snapshot(&self, way: Way) -> RequestMetrics {
        let mut below = 0;
        let duration_classes = self.classes.iter().enumerate().map(|(class, count)| {
            below += count.load(Ordering::Relaxed);
            (BOUNDS_US.get(class).map(|bound| Duration::from_micros(*bound)), below)
        });
        let errors = self.errors.iter().enumerate().filter_map(|(index, count)| {
            let count = count.load(Ordering::Relaxed);
            (count > 0).then(|| (reason_name(index), count))
        });
        RequestMetrics {
            way,
            requests: self.requests.load(Ordering::Relaxed),
            retries: self.retries.load(Ordering::Relaxed),
            forgone: self.forgone.load(Ordering::Relaxed),
            streaming_chunks: self.chunks.load(Ordering::Relaxed),
            duration: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
            duration_classes: duration_classes.collect(),
            errors: errors.collect(),
        }
    }
}

fn reason_index(error: &Error) -> usize {
    match error {
        Error::Unreachable(_) => ErrorKind::ALL.len(),
        Error::Failed(failure) if failure.lost => ErrorKind::ALL.len() + 1,
        Error::Failed(failure) => failure.kind.index(),
    }
}

fn reason_name(index: usize) -> &'static str {
    match ErrorKind::ALL.get(index) {
        Some(kind) => kind.reason(),
        None if index == ErrorKind::ALL.len() => UNREACHABLE,
        None => LOST,
    }
}

#[cfg(test)]
mod tests {
    use super::super::Failure;
    use super::*;

    #[test]
    fn what_is_counted_is_shown() {
        let metrics = AgentMetrics::default();
        let recall = metrics.operation("memory", "Recall");
        recall.request(Way::Dbus, Duration::from_micros(200), Ok(()));
        recall.fallback(Way::Grpc);
        recall.retry(Way::Dbus);
        let lost = Failure::lost("reset").into();
        recall.request(Way::Dbus, Duration::from_secs(100), Err(&lost));
        recall.chunk(Way::Grpc);
        metrics.session_began();
        let text = metrics.render();
        for line in [
            "opdbus_client_requests_total{agent=\"memory\",operation=\"Recall\",way=\"dbus\"} 2",
            "opdbus_client_request_duration_seconds_bucket{agent=\"memory\",operation=\"Recall\",way=\"dbus\",le=\"0.0001\"} 0",
            "opdbus_client_request_duration_seconds_bucket{agent=\"memory\",operation=\"Recall\",way=\"dbus\",le=\"0.00025\"} 1",
            "opdbus_client_request_duration_seconds_bucket{agent=\"memory\",operation=\"Recall\",way=\"dbus\",le=\"+Inf\"} 2",
            "opdbus_client_request_duration_seconds_count{agent=\"memory\",operation=\"Recall\",way=\"dbus\"} 2",
            "opdbus_client_request_duration_seconds_sum{agent=\"memory\",operation=\"Recall\",way=\"dbus\"} 100.0002",
            "opdbus_client_errors_total{agent=\"memory\",operation=\"Recall\",way=\"dbus\",reason=\"LOST\"} 1",
            "opdbus_client_retries_total{agent=\"memory\",operation=\"Recall\",way=\"dbus\"} 1",
            "opdbus_client_fallbacks_total{agent=\"memory\",operation=\"Recall\",way=\"grpc\"} 1",
            "opdbus_client_streaming_chunks_total{agent=\"memory\",operation=\"Recall\",way=\"grpc\"} 1",
            "opdbus_client_active_sessions 1",
            "opdbus_client_breaker_state{way=\"grpc\"} 0",
        ] {
            assert!(text.lines().any(|shown| shown == line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn no_more_operations_are_counted_apart_than_the_most() {
        let metrics = AgentMetrics::default();
        for number in 0..2 * MAX_OPERATIONS {
            let operation = metrics.operation("memory", &number.to_string());
            operation.request(Way::Grpc, Duration::ZERO, Ok(()));
        }
        let snapshot = metrics.snapshot();
        assert_eq!(snapshot.operations.len(), MAX_OPERATIONS + 1);
        let other = snapshot.operations.iter().find(|operation| operation.agent == OTHER).unwrap();
        assert_eq!(other.ways[0].requests, MAX_OPERATIONS as u64);
    }
}
