//! What is done from time to time: keys whose time is over become removals, and what is too old to be
//! kept goes. Nobody sees a difference, because reads look at the times themselves.

use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, params};

use super::Shared;
use super::change::{Change, Entry, Gained, Made, Removal, entry_columns};
use super::fields::Scope;
use super::room::{drop_history, drop_old_creations, prune_history, prune_removals};
use super::{search, session, time};
use crate::storage::{Chore, Failure};

/// How many rows of a kind one round takes at most: it is one write, for which all others wait.
const ROWS: i64 = 256;

/// The memory agent's chore.
pub(super) struct Sweep(pub(super) Arc<Shared>);

/// What a round did.
#[derive(Default)]
pub(super) struct Swept {
    made: Vec<Made>,
    gained: Gained,
}

impl Chore for Sweep {
    type Done = Swept;

    const EVERY: Duration = Duration::from_secs(5);

    fn run(&self, database: &Connection) -> Result<(Swept, bool), Failure> {
        let now = time::now();
        let config = &self.0.config;
        let (made, mut more) = expire(database, &self.0, now)?;
        let (gained, left) = session::drop_idle(database, now)?;
        more |= left;
        // Before the history goes, from which the indexes learn what changed.
        more |= search::catch_up_some(database)?;
        drop_old_creations(database)?;
        let oldest = now.saturating_sub(time::micros(config.history_age));
        let uids = database
            .prepare_cached("SELECT uid FROM usage WHERE history_bytes > 0 OR removed > 0")?
            .query_map([], |row| row.get::<_, u32>(0))?
            .collect::<Result<Vec<_>, _>>()?;
        for uid in uids {
            more |= drop_old_history(database, uid, oldest)?;
            more |= drop_old_removals(database, uid, oldest)?;
            more |= prune_history(database, config, uid)?;
        }
        Ok((Swept { made, gained }, more))
    }

    fn committed(&self, done: &Swept) {
        self.0.gauges.add(done.gained);
        for made in &done.made {
            self.0.committed(made);
        }
    }
}

/// Turns keys whose time is over into removals; true if some are left.
fn expire(database: &Connection, shared: &Shared, now: i64) -> Result<(Vec<Made>, bool), Failure> {
    let over = database
        .prepare_cached(concat!(
            "SELECT ",
            entry_columns!(),
            ", uid FROM entry INDEXED BY entry_expiry WHERE expires_at <= ?1 ORDER BY expires_at LIMIT ?2"
        ))?
        .query_map(params![now, ROWS], |row| Ok((Entry::read(row)?, row.get(7)?)))?
        .collect::<Result<Vec<_>, _>>()?;
    let mut made = Vec::with_capacity(over.len());
    for (entry, uid) in &over {
        // A removal by id needs no namespace.
        let scope = Scope { uid: *uid, namespace: String::new(), session: None };
        let mut change = Change::new(database, shared, scope, now);
        change.remove(entry, Removal::Expired(entry.expires_at.unwrap_or(now)))?;
        made.push(change.finish()?);
    }
    Ok((made, is_full(over.len())))
}

/// Drops the versions of a user that were replaced before `oldest`; true if some are left.
fn drop_old_history(database: &Connection, uid: u32, oldest: i64) -> Result<bool, rusqlite::Error> {
    let first = database
        .prepare_cached(
            "SELECT replaced_at, replaced_by, size FROM history WHERE uid = ?1
             ORDER BY replaced_by LIMIT ?2",
        )?
        .query_map(params![uid, ROWS], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<Result<Vec<(i64, i64, i64)>, _>>()?;
    let old = first.iter().take_while(|(replaced_at, ..)| *replaced_at < oldest);
    let (mut count, mut last, mut bytes) = (0, None, 0);
    for (_, replaced_by, size) in old {
        (count, last, bytes) = (count + 1, Some(*replaced_by), bytes + size);
    }
    if let Some(last) = last {
        drop_history(database, uid, last, bytes)?;
    }
    Ok(is_full(count))
}

/// Drops the removals of a user that were made before `oldest`; true if some are left.
fn drop_old_removals(
    database: &Connection,
    uid: u32,
    oldest: i64,
) -> Result<bool, rusqlite::Error> {
    let first = database
        .prepare_cached(
            "SELECT updated_at FROM entry INDEXED BY entry_batch
             WHERE uid = ?1 AND batch IS NOT NULL
             ORDER BY batch LIMIT ?2",
        )?
        .query_map(params![uid, ROWS], |row| row.get(0))?
        .collect::<Result<Vec<i64>, _>>()?;
    let count = first.iter().take_while(|made_at| **made_at < oldest).count();
    if count > 0 {
        prune_removals(database, uid, i64::try_from(count).unwrap_or(ROWS))?;
    }
    Ok(is_full(count))
}

fn is_full(count: usize) -> bool {
    i64::try_from(count).is_ok_and(|count| count >= ROWS)
}
