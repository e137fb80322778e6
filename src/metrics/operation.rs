//! The metrics of one operation: found at the first use, so that recording touches atomics only and
//! operations that nobody calls cost nothing.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::Metrics;
use crate::call::{Interface, Transport};
use crate::error::ErrorKind;

/// `ok` and every kind of error.
const OUTCOMES: usize = ErrorKind::ALL.len() + 1;

/// The handles of one operation.
pub struct OperationMetrics {
    agent: String,
    operation: String,
    calls: IntCounterVec,
    durations: HistogramVec,
    in_flight: IntGaugeVec,
    running: Arc<AtomicI64>,
    stream_messages: IntCounterVec,
    stream_bytes: IntCounterVec,
    /// By transport, then by interface.
    calls_by_way: [[CallHandles; Interface::ALL.len()]; Transport::ALL.len()],
    streams: [OnceLock<StreamMetrics>; Transport::ALL.len()],
}

/// The handles of one operation's calls that arrive the same way.
#[derive(Default)]
struct CallHandles {
    /// 0 is `ok`, the others are 1 + the kind's index.
    calls: [OnceLock<IntCounter>; OUTCOMES],
    duration: OnceLock<Histogram>,
    in_flight: OnceLock<IntGauge>,
}

/// The counters of one operation's messages on one transport.
#[derive(Clone)]
pub struct StreamMetrics {
    messages: IntCounter,
    bytes: IntCounter,
}

impl StreamMetrics {
    /// Counts a message of `bytes` bytes.
    pub fn message(&self, bytes: usize) {
        self.messages.inc();
        self.bytes.inc_by(bytes as u64);
    }
}

impl OperationMetrics {
    pub(super) fn new(metrics: &Metrics, agent: &str, operation: &str) -> Self {
        Self {
            agent: agent.to_owned(),
            operation: operation.to_owned(),
            calls: metrics.calls.clone(),
            durations: metrics.call_duration.clone(),
            in_flight: metrics.in_flight.clone(),
            running: Arc::clone(&metrics.running),
            stream_messages: metrics.tasks.messages.clone(),
            stream_bytes: metrics.tasks.bytes.clone(),
            calls_by_way: Default::default(),
            streams: Default::default(),
        }
    }

    /// Notes that a call arrived.
    pub fn arrived(&self, transport: Transport, interface: Interface) {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.in_flight(transport, interface).inc();
    }

    /// Notes that a call ended, well (`None`) or with an error.
    pub fn ended(
        &self,
        (transport, interface): (Transport, Interface),
        error: Option<ErrorKind>,
        time: Duration,
    ) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.in_flight(transport, interface).dec();
        let handles = self.handles(transport, interface);
        let outcome = error.map_or(0, |kind| kind.index() + 1);
        handles.calls[outcome].get_or_init(|| self.counter(transport, interface, error)).inc();
        handles
            .duration
            .get_or_init(|| self.durations.with_label_values(&self.labels(transport, interface)))
            .observe(time.as_secs_f64());
    }

    /// The counters of its messages.
    #[must_use]
    pub fn stream(&self, transport: Transport) -> StreamMetrics {
        let labels = [&self.agent, &self.operation, transport.name()];
        let make = || StreamMetrics {
            messages: self.stream_messages.with_label_values(&labels),
            bytes: self.stream_bytes.with_label_values(&labels),
        };
        self.streams[transport.index()].get_or_init(make).clone()
    }

    fn handles(&self, transport: Transport, interface: Interface) -> &CallHandles {
        &self.calls_by_way[transport.index()][interface.index()]
    }

    fn in_flight(&self, transport: Transport, interface: Interface) -> &IntGauge {
        self.handles(transport, interface)
            .in_flight
            .get_or_init(|| self.in_flight.with_label_values(&self.labels(transport, interface)))
    }

    fn counter(
        &self,
        transport: Transport,
        interface: Interface,
        error: Option<ErrorKind>,
    ) -> IntCounter {
        let outcome = error.map_or("ok".to_owned(), |kind| kind.reason().to_ascii_lowercase());
        let [agent, operation, transport, interface] = self.labels(transport, interface);
        self.calls.with_label_values(&[agent, operation, transport, interface, &outcome])
    }

    fn labels(&self, transport: Transport, interface: Interface) -> [&str; 4] {
        [&self.agent, &self.operation, transport.name(), interface.name()]
    }
}
