//! What is done from time to time: chains whose time is over are removed. Nobody sees a difference,
//! because reads look at the time themselves.

use std::time::Duration;

use rusqlite::{Connection, params};

use super::{chain, time};
use crate::storage::{Chore, Failure};

/// How many chains one round removes at most: it is one write, for which all others wait.
const CHAINS: u32 = 4;

/// The sequential thinking agent's chore.
pub(super) struct Sweep;

impl Chore for Sweep {
    type Done = ();

    const EVERY: Duration = Duration::from_secs(600);

    fn run(&self, database: &Connection) -> Result<((), bool), Failure> {
        let removed = remove_old(database, time::now(), CHAINS)?;
        Ok(((), removed == CHAINS))
    }

    fn committed(&self, (): &()) {}
}

/// Removes chains whose time is over, `most` of them at most; gives their number.
pub(super) fn remove_old(
    database: &Connection,
    now: i64,
    most: u32,
) -> Result<u32, rusqlite::Error> {
    let rows = database
        .prepare_cached("SELECT id FROM chain WHERE updated_at < ?1 ORDER BY updated_at LIMIT ?2")?
        .query_map(params![time::horizon(now), most], |row| row.get(0))?
        .collect::<Result<Vec<i64>, _>>()?;
    let mut removed = 0;
    for row in rows {
        chain::remove(database, row)?;
        removed += 1;
    }
    Ok(removed)
}
