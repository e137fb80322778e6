//! What the store holds, as metrics. They follow the commits and are counted when the store is opened.

use std::ops::Add;

use prometheus::IntGauge;
use rusqlite::Connection;

use crate::metrics::Metrics;
use crate::storage::Failure;

/// The gauges of the sequential thinking agent.
#[derive(Clone)]
pub(super) struct Gauges {
    chains: IntGauge,
    steps: IntGauge,
}

/// What a change added to the store; less than nothing if it removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Gained {
    pub(super) chains: i64,
    pub(super) steps: i64,
}

impl Gauges {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            chains: metrics.store("sequential_thinking", "chains"),
            steps: metrics.store("sequential_thinking", "steps"),
        }
    }

    /// Begins with what the store held when it was opened, whatever an earlier opening had left.
    pub(super) fn begin(&self, total: Gained) {
        self.chains.set(total.chains);
        self.steps.set(total.steps);
    }

    /// Adds what a change gained.
    pub(super) fn add(&self, gained: Gained) {
        self.chains.add(gained.chains);
        self.steps.add(gained.steps);
    }
}

#[cfg(test)]
impl Gauges {
    /// What they say.
    pub(super) fn held(&self) -> Gained {
        Gained { chains: self.chains.get(), steps: self.steps.get() }
    }
}

impl Add for Gained {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { chains: self.chains + other.chains, steps: self.steps + other.steps }
    }
}

/// What is stored, over all users.
pub(super) fn total(database: &Connection) -> Result<Gained, Failure> {
    const SQL: &str = "SELECT count(*), ifnull(sum(steps), 0) FROM chain";
    Ok(database.query_row(SQL, [], |row| Ok(Gained { chains: row.get(0)?, steps: row.get(1)? }))?)
}
