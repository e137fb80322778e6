//! What the store holds, as metrics. They follow the commits and are counted when the store is opened.

use prometheus::IntGauge;
use rusqlite::Connection;

use super::change::Gained;
use crate::metrics::Metrics;
use crate::storage::Failure;

/// The gauges of the memory agent.
#[derive(Clone)]
pub(super) struct Gauges {
    keys: IntGauge,
    bytes: IntGauge,
}

impl Gauges {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self { keys: metrics.store("memory", "keys"), bytes: metrics.store("memory", "bytes") }
    }

    /// Begins with what the store held when it was opened, whatever an earlier opening had left.
    pub(super) fn begin(&self, total: Gained) {
        self.keys.set(total.keys);
        self.bytes.set(total.bytes);
    }

    /// Adds what a change gained.
    pub(super) fn add(&self, gained: Gained) {
        self.keys.add(gained.keys);
        self.bytes.add(gained.bytes);
    }
}

/// What is stored, over all users.
pub(super) fn total(database: &Connection) -> Result<Gained, Failure> {
    Ok(database.query_row(
        "SELECT ifnull(sum(keys), 0), ifnull(sum(bytes), 0) FROM usage",
        [],
        |row| Ok(Gained { keys: row.get(0)?, bytes: row.get(1)? }),
    )?)
}
