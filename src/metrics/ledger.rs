//! The metrics of the move from one way of calling to another. What they count is noted elsewhere.

use prometheus::{IntCounter, IntCounterVec, IntGaugeVec};

use super::Adder;
use crate::error::Error;

/// The handles of the ledger. A clone is the same handles.
#[derive(Clone)]
pub struct LedgerMetrics {
    clients: IntGaugeVec,
    lost: IntCounterVec,
    compared: IntCounter,
    differed: IntCounter,
    lumped: IntCounter,
    dropped: IntCounter,
}

impl LedgerMetrics {
    pub(super) fn new(add: &Adder<'_>) -> Result<Self, Error> {
        Ok(Self {
            clients: add.gauges(
                "opdbus_migration_clients",
                "Clients that called in the last 24 hours, by the way: dbus, legacy or grpc.",
                &["way"],
            )?,
            lost: add.counters(
                "opdbus_migration_lost_calls_total",
                "Calls that never got an answer from the service, as clients told, by the way.",
                &["way"],
            )?,
            compared: add.counter(
                "opdbus_migration_compared_total",
                "Calls whose answers over both ways were compared, as clients told.",
            )?,
            differed: add.counter(
                "opdbus_migration_differed_total",
                "Calls whose answers over both ways differed, as clients told.",
            )?,
            lumped: add.counter(
                "opdbus_ledger_others_total",
                "Calls that the ledger counts without their client, because a bound was met.",
            )?,
            dropped: add.counter(
                "opdbus_ledger_dropped_total",
                "Calls that the ledger could not count, because it had no room or could not be written.",
            )?,
        })
    }

    /// Notes how many clients called over a way, as `dbus`, in the last 24 hours.
    pub fn clients(&self, way: &str, count: i64) {
        self.clients.with_label_values(&[way]).set(count);
    }

    /// Counts calls over a way that never got an answer.
    pub fn lost(&self, way: &str, calls: u64) {
        self.lost.with_label_values(&[way]).inc_by(calls);
    }

    /// Counts calls that were compared, and those of them that differed.
    pub fn compared(&self, compared: u64, differed: u64) {
        self.compared.inc_by(compared);
        self.differed.inc_by(differed);
    }

    /// Counts calls that were noted without their client.
    pub fn lumped(&self, calls: u64) {
        self.lumped.inc_by(calls);
    }

    /// Counts calls that could not be noted.
    pub fn dropped(&self, calls: u64) {
        self.dropped.inc_by(calls);
    }
}
