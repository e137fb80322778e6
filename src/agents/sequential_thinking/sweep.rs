//! What is done from time to time: the rows of chains that were deleted or whose time is over are
//! removed. Nobody sees a difference, because reads look at the time themselves.

use std::time::Duration;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::gauges::{Gained, Gauges};
use super::time::Moment;
use crate::storage::{Chore, Failure};

/// How many steps are removed at a time: it is one write, for which all others wait, and a long
/// thought has thousands of words to be taken out of the index.
pub(super) const STEPS: usize = 32;

/// The sequential thinking agent's chore.
pub(super) struct Sweep {
    pub(super) gauges: Gauges,
    pub(super) max_age: Duration,
}

impl Chore for Sweep {
    type Done = Gained;

    const EVERY: Duration = Duration::from_secs(5);

    fn run(&self, database: &Connection) -> Result<(Gained, bool), Failure> {
        Ok(remove_old(database, Moment::now(self.max_age), STEPS)?)
    }

    fn committed(&self, removed: &Gained) {
        self.gauges.add(*removed);
    }
}

/// Removes `most` steps at most of chains whose time is over, and the chains that have none left;
/// gives what that took from the store, and true if there are more.
pub(super) fn remove_old(
    database: &Connection,
    moment: Moment,
    most: usize,
) -> Result<(Gained, bool), rusqlite::Error> {
    let (mut left, mut gained) = (most, Gained::default());
    while left > 0 {
        let oldest: Option<i64> = database
            .prepare_cached(
                "SELECT id FROM chain WHERE updated_at < ?1 ORDER BY updated_at LIMIT 1",
            )?
            .query_row([moment.horizon()], |row| row.get(0))
            .optional()?;
        let Some(chain) = oldest else { return Ok((gained, false)) };
        let removed = remove_steps(database, chain, left)?;
        gained.steps -= i64::try_from(removed).unwrap_or(0);
        if removed < left {
            database.prepare_cached("DELETE FROM branch WHERE chain = ?1")?.execute([chain])?;
            database.prepare_cached("DELETE FROM chain WHERE id = ?1")?.execute([chain])?;
            gained.chains -= 1;
        } else {
            database
                .prepare_cached("UPDATE chain SET steps = steps - ?2 WHERE id = ?1")?
                .execute(params![chain, i64::try_from(removed).unwrap_or(0)])?;
        }
        // A chain without steps is work too.
        left = left.saturating_sub(removed.max(1));
    }
    Ok((gained, true))
}

/// Removes `most` steps at most of a chain; gives their number.
fn remove_steps(database: &Connection, chain: i64, most: usize) -> Result<usize, rusqlite::Error> {
    let steps = database
        .prepare_cached("SELECT id, step FROM step WHERE chain = ?1 ORDER BY step LIMIT ?2")?
        .query_map(params![chain, i64::try_from(most).unwrap_or(i64::MAX)], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?
        .collect::<Result<Vec<(i64, u32)>, _>>()?;
    for (row, step) in &steps {
        // The words first: they are found by the thought.
        database
            .prepare_cached(
                "INSERT INTO words (words, rowid, scope, thought)
                 SELECT 'delete', id, scope, thought FROM step_words WHERE id = ?1",
            )?
            .execute([row])?;
        database
            .prepare_cached("DELETE FROM evidence WHERE chain = ?1 AND step = ?2")?
            .execute(params![chain, step])?;
        database.prepare_cached("DELETE FROM step WHERE id = ?1")?.execute([row])?;
    }
    Ok(steps.len())
}
