//! What is kept for a session only: it goes with the session. Which sessions there are is not known
//! here, only which of them have keys.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::change::Gained;
use super::room::{drop_chain, forget_entry};
use super::search::Index;
use crate::storage::Failure;

/// How many rows one write drops at most, and a key's versions more: all other writes wait for it.
const ROWS: usize = 512;

/// After so long without a change of its keys a session has been forgotten by everybody, in
/// microseconds: seven days.
const IDLE: i64 = 7 * 24 * 3600 * 1_000_000;

/// How exactly it is known when a session's keys last changed, in microseconds: an hour.
const GRAIN: i64 = 3600 * 1_000_000;

/// Notes that keys of a session changed.
pub(super) fn note_change(
    database: &Connection,
    uid: u32,
    id: &str,
    now: i64,
) -> Result<(), rusqlite::Error> {
    database
        .prepare_cached(
            "INSERT INTO session VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET changed_at = ?3
             WHERE changed_at < ?3 - ?4",
        )?
        .execute(params![uid, id, now, GRAIN])
        .map(drop)
}

/// True if a session has keys, or may have.
pub(super) fn has_keys(database: &Connection, uid: u32, id: &str) -> Result<bool, Failure> {
    let mut select = database.prepare_cached("SELECT 1 FROM session WHERE uid = ?1 AND id = ?2")?;
    Ok(select.exists(params![uid, id])?)
}

/// Drops some of the keys of a session, with all their versions; true if some are left.
pub(super) fn drop_some(
    database: &Connection,
    uid: u32,
    id: &str,
) -> Result<(Gained, bool), Failure> {
    let mut select = database.prepare_cached(
        "SELECT id, version, batch IS NOT NULL, size FROM entry INDEXED BY entry_key
         WHERE uid = ?1 AND namespace >= ?2 AND namespace < ?3 LIMIT 1",
    )?;
    let (from, below) = (format!("{id}\0"), format!("{id}\u{1}"));
    let index = Index::of(database, uid)?;
    let mut dropped = Dropped::default();
    let mut rows = 0;
    let mut more = true;
    while more && rows < ROWS {
        let entry: Option<(i64, i64, bool, i64)> = select
            .query_row(params![uid, from, below], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
            })
            .optional()?;
        let Some((entry, version, removed, size)) = entry else {
            more = false;
            break;
        };
        let older = drop_chain(database, uid, version)?;
        forget_entry(database, index.as_ref(), entry)?;
        database.prepare_cached("DELETE FROM entry WHERE id = ?1")?.execute([entry])?;
        rows += 1 + older.count;
        dropped.history_bytes += older.bytes;
        dropped.removed += i64::from(removed);
        dropped.keys += i64::from(!removed);
        dropped.bytes += if removed { 0 } else { size };
    }
    dropped.count(database, uid)?;
    if !more {
        database
            .prepare_cached("DELETE FROM session WHERE uid = ?1 AND id = ?2")?
            .execute(params![uid, id])?;
    }
    Ok((Gained { keys: -dropped.keys, bytes: -dropped.bytes }, more))
}

/// Drops some keys of a session that none of the keys was changed of for long; true if some are left.
pub(super) fn drop_idle(database: &Connection, now: i64) -> Result<(Gained, bool), Failure> {
    let idle: Option<(u32, String)> = database
        .prepare_cached("SELECT uid, id FROM session WHERE changed_at < ?1 LIMIT 1")?
        .query_row([now.saturating_sub(IDLE)], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let Some((uid, id)) = idle else { return Ok((Gained::default(), false)) };
    // There may be another session.
    drop_some(database, uid, &id).map(|(gained, _)| (gained, true))
}

/// What the counters of a user lose.
#[derive(Default)]
struct Dropped {
    keys: i64,
    bytes: i64,
    removed: i64,
    history_bytes: i64,
}

impl Dropped {
    fn count(&self, database: &Connection, uid: u32) -> Result<(), rusqlite::Error> {
        database
            .prepare_cached(
                "UPDATE usage SET keys = keys - ?2, bytes = bytes - ?3, removed = removed - ?4,
                 history_bytes = history_bytes - ?5 WHERE uid = ?1",
            )?
            .execute(params![uid, self.keys, self.bytes, self.removed, self.history_bytes])
            .map(drop)
    }
}
