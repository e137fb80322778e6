//! What is done from time to time: contexts whose time or whose undo is over go for good, which nobody
//! sees, because reads look at times themselves; and those that a session left whose end never came come
//! to theirs.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::config::Config;
use super::gauges::Gauges;
use super::session_end::end_one_idle;
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
        let now = time::now();
        let (gained, more) = tables::tidy(database, &self.config, now)?;
        if more {
            return Ok((gained, more));
        }
        end_one_idle(database, &self.config, now)
    }

    fn committed(&self, done: &Gained) {
        self.gauges.add(*done);
    }
}
