//! What is done from time to time: contexts whose time or whose undo is over go for good. Nobody sees a
//! difference, because reads look at the times themselves.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::config::Config;
use super::gauges::Gauges;
use super::tables::{self, Gained};
use super::time;
use crate::storage::{Chore, Failure};

/// The context manager's chore.
pub(super) struct Sweep {
    pub(super) config: Arc<Config>,
    pub(super) gauges: Gauges,
}

impl Chore for Sweep {
    type Done = Gained;

    const EVERY: Duration = Duration::from_secs(5);

    fn run(&self, database: &Connection) -> Result<(Gained, bool), Failure> {
        tables::tidy(database, &self.config, time::now())
    }

    fn committed(&self, done: &Gained) {
        self.gauges.add(*done);
    }
}
