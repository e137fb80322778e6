//! What the store holds, as metrics. They follow the commits and are counted when the store is opened.

use prometheus::IntGauge;

use super::tables::Gained;
use crate::metrics::Metrics;

/// The gauges of the context manager.
#[derive(Clone)]
pub(super) struct Gauges {
    contexts: IntGauge,
    bytes: IntGauge,
}

impl Gauges {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            contexts: metrics.store("context_manager", "contexts"),
            bytes: metrics.store("context_manager", "bytes"),
        }
    }

    /// Begins with what the store held when it was opened, whatever an earlier opening had left.
    pub(super) fn begin(&self, total: Gained) {
        self.contexts.set(total.contexts);
        self.bytes.set(total.bytes);
    }

    /// Adds what a change gained.
    pub(super) fn add(&self, gained: Gained) {
        self.contexts.add(gained.contexts);
        self.bytes.add(gained.bytes);
    }
}
