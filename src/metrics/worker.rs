//! The metrics of workers. What they do is counted with the calls.

use prometheus::{IntCounterVec, IntGauge};

use super::Adder;
use crate::error::Error;

/// Why a worker has ended; the `reason` label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkerEnd {
    /// No call was in it for a while.
    Idle,
    /// Its place was wanted, or the service ends.
    Closed,
    /// It ended by itself, was killed or did not answer.
    Lost,
}

impl WorkerEnd {
    /// The value of the label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Closed => "closed",
            Self::Lost => "lost",
        }
    }
}

/// The handles of all workers.
pub struct WorkerMetrics {
    running: IntGauge,
    going_on: IntGauge,
    starts: IntCounterVec,
    ends: IntCounterVec,
}

impl WorkerMetrics {
    pub(super) fn new(add: &Adder<'_>) -> Result<Self, Error> {
        Ok(Self {
            running: add.gauge("opdbus_workers", "Workers that run.")?,
            going_on: add.gauge(
                "opdbus_worker_going_on",
                "What goes on between calls in all workers together, as programs that run.",
            )?,
            starts: add.counters(
                "opdbus_worker_starts_total",
                "Starts of workers that ended, by outcome: ok or failed.",
                &["outcome"],
            )?,
            ends: add.counters(
                "opdbus_worker_ends_total",
                "Workers that have ended, by reason: idle, closed (for another or by the end of the \
                 service) or lost.",
                &["reason"],
            )?,
        })
    }

    /// Counts a start that ended.
    pub fn started(&self, well: bool) {
        self.starts.with_label_values(&[if well { "ok" } else { "failed" }]).inc();
    }

    /// How many workers run.
    #[must_use]
    pub fn running(&self) -> i64 {
        self.running.get()
    }

    /// How much goes on between calls in all of them.
    #[must_use]
    pub fn going_on(&self) -> i64 {
        self.going_on.get()
    }

    /// Notes that so much more, or less, goes on in a worker.
    pub fn goes_on(&self, more: i64) {
        self.going_on.add(more);
    }

    /// Notes that a worker runs.
    pub fn began(&self) {
        self.running.inc();
    }

    /// Counts a worker that has ended.
    pub fn ended(&self, reason: WorkerEnd) {
        self.running.dec();
        self.ends.with_label_values(&[reason.name()]).inc();
    }
}
