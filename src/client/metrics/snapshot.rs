//! A client's figures as they were at one moment. Nothing is counted here.

use std::time::Duration;

use super::super::Way;
use super::BreakerState;

/// All figures.
#[derive(Clone, Debug)]
pub struct MetricsSnapshot {
    /// Those of each operation, sorted.
    pub operations: Vec<OperationMetrics>,
    /// The sessions that the client has begun and not ended.
    pub active_sessions: u64,
    /// How the breaker of each way stands.
    pub breakers: [(Way, BreakerState); Way::ALL.len()],
}

/// The figures of one operation.
#[derive(Clone, Debug)]
pub struct OperationMetrics {
    /// The agent's id.
    pub agent: String,
    /// The operation, as `Recall`.
    pub operation: String,
    /// Each way that was taken.
    pub ways: Vec<RequestMetrics>,
    /// How often calls fell back from a way on another.
    pub fallbacks: Vec<(Way, u64)>,
    /// Calls that were made over both ways and compared.
    pub compared: u64,
    /// Those of them that differed.
    pub differed: u64,
    /// Calls that were not compared: another one was being compared, or there was no answer to compare.
    pub skipped: u64,
}

/// The figures of one operation over one way.
#[derive(Clone, Debug)]
pub struct RequestMetrics {
    /// The way.
    pub way: Way,
    /// Requests that went over it, whatever came of them.
    pub requests: u64,
    /// Those of them that were sent again after one that had failed.
    pub retries: u64,
    /// Requests that were kept back while the way was left alone, and would have failed: the next one that
    /// was tried did.
    pub forgone: u64,
    /// Messages of streams that came.
    pub streaming_chunks: u64,
    /// The time of all requests together.
    pub duration: Duration,
    /// How many requests took so long or less; `None`: any time.
    pub duration_classes: Vec<(Option<Duration>, u64)>,
    /// Requests that failed, by reason: one of the service's, `UNREACHABLE` or `LOST`.
    pub errors: Vec<(&'static str, u64)>,
}

impl RequestMetrics {
    pub(super) fn has_any(&self) -> bool {
        self.requests + self.forgone + self.streaming_chunks > 0
    }
}
