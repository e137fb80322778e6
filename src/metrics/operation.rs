//! The metrics of one operation: found at the first use, so that recording touches atomics only and
//! operations that nobody calls cost nothing.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus::{Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::Metrics;
use crate::call::Transport;
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
    transports: [TransportHandles; Transport::ALL.len()],
}

/// The handles of one operation on one transport.
#[derive(Default)]
struct TransportHandles {
    /// 0 is `ok`, the others are 1 + the kind's index.
    calls: [OnceLock<IntCounter>; OUTCOMES],
    duration: OnceLock<Histogram>,
    in_flight: OnceLock<IntGauge>,
    stream: OnceLock<StreamMetrics>,
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
            transports: Default::default(),
        }
    }

    /// Notes that a call arrived.
    pub fn arrived(&self, transport: Transport) {
        self.running.fetch_add(1, Ordering::Relaxed);
        self.in_flight(transport).inc();
    }

    /// Notes that a call ended, well (`None`) or with an error.
    pub fn ended(&self, transport: Transport, error: Option<ErrorKind>, time: Duration) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        self.in_flight(transport).dec();
        let handles = &self.transports[transport.index()];
        let outcome = error.map_or(0, |kind| kind.index() + 1);
        handles.calls[outcome].get_or_init(|| self.counter(transport, error)).inc();
        handles
            .duration
            .get_or_init(|| self.durations.with_label_values(&self.labels(transport)))
            .observe(time.as_secs_f64());
    }

    /// The counters of its messages.
    #[must_use]
    pub fn stream(&self, transport: Transport) -> StreamMetrics {
        let labels = self.labels(transport);
        let make = || StreamMetrics {
            messages: self.stream_messages.with_label_values(&labels),
            bytes: self.stream_bytes.with_label_values(&labels),
        };
        self.transports[transport.index()].stream.get_or_init(make).clone()
    }

    fn in_flight(&self, transport: Transport) -> &IntGauge {
        self.transports[transport.index()]
            .in_flight
            .get_or_init(|| self.in_flight.with_label_values(&self.labels(transport)))
    }

    fn counter(&self, transport: Transport, error: Option<ErrorKind>) -> IntCounter {
        let outcome = error.map_or("ok".to_owned(), |kind| kind.reason().to_ascii_lowercase());
        self.calls.with_label_values(&[&self.agent, &self.operation, transport.name(), &outcome])
    }

    fn labels(&self, transport: Transport) -> [&str; 3] {
        [&self.agent, &self.operation, transport.name()]
    }
}
