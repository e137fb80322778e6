//! What is done from time to time: contexts whose time or whose undo is over go for good, and those that
//! sessions of an earlier run left come to their end. Nobody sees a difference, because reads look at
//! times and runs themselves.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::Connection;

use super::config::Config;
use super::gauges::Gauges;
use super::session_end::end_one_left;
use super::space::Run;
use super::tables::{self, Gained};
use super::time;
use crate::storage::{Chore, Failure};

/// The context manager's chore.
pub(super) struct Sweep {
    pub(super) config: Arc<Config>,
    pub(super) gauges: Gauges,
    pub(super) run: Run,
}

impl Chore for Sweep {
    type Done = Gained;

    const EVERY: Duration = Duration::from_secs(5);

    fn run(&self, database: &Connection) -> Result<(Gained, bool), Failure> {
        let (gained, more) = tables::tidy(database, &self.config, time::now())?;
        if more {
            return Ok((gained, more));
        }
        end_one_left(database, &self.config, &self.run)
    }

    fn committed(&self, done: &Gained) {
        self.gauges.add(*done);
    }
}
