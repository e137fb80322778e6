//! Makes room: drops versions and removals that are too many, too large or too old. It never touches a
//! value that a key has now.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::change::Entry;
use super::config::Config;
use super::search::Index;

/// How many rows one change deletes at most to make room; the sweeper does what is left.
const MAX_PRUNED: i64 = 10_000;

/// How many of a user's last changes can be told at least, as long as their versions are kept.
const TOLD: i64 = 100_000;

/// Drops the versions of a key that are too many. It lets twice as many come together first, so
/// that a key that changes often is not walked at every change.
pub(super) fn trim(
    database: &Connection,
    config: &Config,
    uid: u32,
    old: &Entry,
    newest: i64,
) -> Result<(), rusqlite::Error> {
    let kept = config.max_versions.max(2);
    if old.depth + 1 < kept.saturating_mul(2) {
        return Ok(());
    }
    let mut older = database
        .prepare_cached("SELECT version FROM history WHERE uid = ?1 AND replaced_by = ?2")?;
    let mut version = newest;
    for _ in 1..kept {
        let found = older.query_row(params![uid, version], |row| row.get(0)).optional()?;
        let Some(found) = found else { break };
        version = found;
    }
    let dropped = drop_chain(database, uid, version)?;
    if let Some(newest) = dropped.newest {
        database
            .prepare_cached(
                "INSERT INTO trimmed VALUES (?1, ?2) ON CONFLICT DO UPDATE SET version = ?2",
            )?
            .execute(params![old.id, newest])?;
    }
    database
        .prepare_cached("UPDATE entry SET depth = ?2 WHERE id = ?1")?
        .execute(params![old.id, kept - 1])?;
    free_history(database, uid, dropped.bytes)
}

/// Versions of one key that were dropped.
#[derive(Default)]
pub(super) struct Dropped {
    pub(super) newest: Option<i64>,
    pub(super) count: usize,
    pub(super) bytes: i64,
}

/// Drops the versions of a key before `version`; what they took is still counted.
pub(super) fn drop_chain(
    database: &Connection,
    uid: u32,
    mut version: i64,
) -> Result<Dropped, rusqlite::Error> {
    let mut drop_older = database.prepare_cached(
        "DELETE FROM history WHERE uid = ?1 AND replaced_by = ?2 RETURNING version, size",
    )?;
    let mut dropped = Dropped::default();
    loop {
        let older: Option<(i64, i64)> = drop_older
            .query_row(params![uid, version], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((older, size)) = older else { return Ok(dropped) };
        version = older;
        dropped.newest.get_or_insert(older);
        dropped.count += 1;
        dropped.bytes += size;
    }
}

/// Drops a user's oldest versions until the others are within the bound; true if some are left to
/// drop.
pub(super) fn prune_history(
    database: &Connection,
    config: &Config,
    uid: u32,
) -> Result<bool, rusqlite::Error> {
    let bytes: i64 = database
        .prepare_cached("SELECT history_bytes FROM usage WHERE uid = ?1")?
        .query_row([uid], |row| row.get(0))?;
    let excess = bytes - i64::try_from(config.max_history_bytes).unwrap_or(i64::MAX);
    if excess <= 0 {
        return Ok(false);
    }
    let mut oldest = database.prepare_cached(
        "SELECT replaced_by, size FROM history WHERE uid = ?1 ORDER BY replaced_by LIMIT ?2",
    )?;
    let mut rows = oldest.query(params![uid, MAX_PRUNED])?;
    let (mut last, mut freed) = (0, 0);
    while freed < excess
        && let Some(row) = rows.next()?
    {
        last = row.get(0)?;
        freed += row.get::<_, i64>(1)?;
    }
    drop(rows);
    drop_history(database, uid, last, freed)?;
    Ok(freed < excess)
}

/// Drops a user's versions up to the one that `last` replaced, which take `bytes`.
pub(super) fn drop_history(
    database: &Connection,
    uid: u32,
    last: i64,
    bytes: i64,
) -> Result<(), rusqlite::Error> {
    database
        .prepare_cached("DELETE FROM history WHERE uid = ?1 AND replaced_by <= ?2")?
        .execute(params![uid, last])?;
    compact(database, uid, last)?;
    free_history(database, uid, bytes)
}

/// Drops a user's `count` oldest removals, but not more than a change may; what history they have
/// goes when it is old.
pub(super) fn prune_removals(
    database: &Connection,
    uid: u32,
    count: i64,
) -> Result<(), rusqlite::Error> {
    let dropped = database
        .prepare_cached(
            "DELETE FROM entry WHERE id IN (SELECT id FROM entry INDEXED BY entry_batch
             WHERE uid = ?1 AND batch IS NOT NULL ORDER BY batch LIMIT ?2) RETURNING id, version",
        )?
        .query_map(params![uid, count.min(MAX_PRUNED)], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(i64, i64)>, _>>()?;
    let index = Index::of(database, uid)?;
    for (id, _) in &dropped {
        forget_entry(database, index.as_ref(), *id)?;
    }
    compact(database, uid, dropped.iter().map(|(_, version)| *version).max().unwrap_or(0))?;
    database
        .prepare_cached("UPDATE usage SET removed = removed - ?2 WHERE uid = ?1")?
        .execute(params![uid, i64::try_from(dropped.len()).unwrap_or(i64::MAX)])
        .map(drop)
}

/// Drops what is kept beside a row of `entry` that goes for good.
pub(super) fn forget_entry(
    database: &Connection,
    index: Option<&Index>,
    id: i64,
) -> Result<(), rusqlite::Error> {
    database.prepare_cached("DELETE FROM trimmed WHERE entry = ?1")?.execute([id])?;
    index.map_or(Ok(()), |index| index.remove(database, id))
}

/// Drops what is only needed to tell what changed long ago.
pub(super) fn drop_old_creations(database: &Connection) -> Result<(), rusqlite::Error> {
    let users = database
        .prepare_cached("SELECT uid, revision - ?1 FROM usage WHERE revision - compacted > ?1 * 2")?
        .query_map([TOLD], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<Result<Vec<(u32, i64)>, _>>()?;
    for (uid, revision) in users {
        database
            .prepare_cached("DELETE FROM created WHERE uid = ?1 AND revision <= ?2")?
            .execute(params![uid, revision])?;
        compact(database, uid, revision)?;
    }
    Ok(())
}

/// Notes that changes up to `revision` may be dropped.
fn compact(database: &Connection, uid: u32, revision: i64) -> Result<(), rusqlite::Error> {
    database
        .prepare_cached("UPDATE usage SET compacted = max(compacted, ?2) WHERE uid = ?1")?
        .execute(params![uid, revision])
        .map(drop)
}

fn free_history(database: &Connection, uid: u32, bytes: i64) -> Result<(), rusqlite::Error> {
    database
        .prepare_cached("UPDATE usage SET history_bytes = history_bytes - ?2 WHERE uid = ?1")?
        .execute(params![uid, bytes])
        .map(drop)
}

/// True if a counter is beyond its limit.
pub(super) fn exceeds(number: i64, limit: u64) -> bool {
    u64::try_from(number).is_ok_and(|number| number > limit)
}
