//! One user's change of his keys: every new version goes through here, and so do the counters. When a
//! change is made, and whether, is not decided here.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::config::Config;
use super::fields::Scope;
use crate::error::Error;
use crate::storage::Failure;

/// The columns of `entry` that [`Entry::read`] reads.
macro_rules! entry_columns {
    () => {
        "id, version, created_at, expires_at, depth, batch IS NOT NULL, size"
    };
}
pub(super) use entry_columns;

/// What each version counts beside its key, labels and value, in bytes: about what its row takes.
const ROW_BYTES: i64 = 64;

/// How many rows one change deletes at most to make room; the sweeper does what is left.
const MAX_PRUNED: i64 = 10_000;

/// A change in the course of one write.
pub(super) struct Change<'a> {
    pub(super) database: &'a Connection,
    pub(super) config: &'a Config,
    pub(super) scope: Scope,
    /// When it happens: one moment for all of it.
    pub(super) now: i64,
    /// What it adds to the counters.
    pub(super) gained: Gained,
}

/// What a change adds to keys and bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gained {
    pub(super) keys: i64,
    pub(super) bytes: i64,
}

/// The newest version of a key, without its value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) id: i64,
    pub(super) version: i64,
    pub(super) created_at: i64,
    pub(super) expires_at: Option<i64>,
    depth: u32,
    removed: bool,
    size: i64,
}

/// A value to store.
pub(super) struct Version<'a> {
    pub(super) value: &'a [u8],
    pub(super) tags: &'a [u8],
    pub(super) expires_at: Option<i64>,
}

/// What a removal is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Removal {
    /// One of a Forget; the number is the Forget's first version, if this is not it.
    Forgotten(Option<i64>),
    /// The key's time was over at this moment.
    Expired(i64),
}

/// A step of the counters of one user.
#[derive(Default)]
struct Step {
    keys: i64,
    bytes: i64,
    removed: i64,
    history_bytes: i64,
}

/// The counters of one user after a step.
struct Usage {
    revision: i64,
    keys: i64,
    bytes: i64,
    removed: i64,
    history_bytes: i64,
}

impl Entry {
    /// Reads a row that begins with `entry_columns`.
    pub(super) fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            id: row.get(0)?,
            version: row.get(1)?,
            created_at: row.get(2)?,
            expires_at: row.get(3)?,
            depth: row.get(4)?,
            removed: row.get(5)?,
            size: row.get(6)?,
        })
    }

    pub(super) fn is_live(&self, now: i64) -> bool {
        !self.removed && !self.is_over(now)
    }

    /// True if its time is over and that has not been written down yet.
    pub(super) fn is_over(&self, now: i64) -> bool {
        !self.removed && self.expires_at.is_some_and(|end| end <= now)
    }
}

impl<'a> Change<'a> {
    pub(super) fn new(
        database: &'a Connection,
        config: &'a Config,
        scope: Scope,
        now: i64,
    ) -> Self {
        Self { database, config, scope, now, gained: Gained::default() }
    }

    /// The newest version of a key, whatever it is. A key whose time is over becomes a removal first.
    pub(super) fn entry(&mut self, key: &str) -> Result<Option<Entry>, Failure> {
        let Some(entry) = find(self.database, &self.scope, key)? else { return Ok(None) };
        if !entry.is_over(self.now) {
            return Ok(Some(entry));
        }
        self.remove(&entry, Removal::Expired(entry.expires_at.unwrap_or(self.now)))?;
        Ok(find(self.database, &self.scope, key)?)
    }

    /// The newest version of a key, if that is a value.
    pub(super) fn live(&mut self, key: &str) -> Result<Option<Entry>, Failure> {
        let now = self.now;
        Ok(self.entry(key)?.filter(|entry| entry.is_live(now)))
    }

    /// Makes `new` the newest version of `key`, whose newest version was `old`; gives its number.
    pub(super) fn put(
        &mut self,
        key: &str,
        old: Option<&Entry>,
        new: &Version<'_>,
    ) -> Result<i64, Failure> {
        let length = key.len() + new.tags.len() + new.value.len();
        let size = ROW_BYTES + i64::try_from(length).unwrap_or(i64::MAX - ROW_BYTES);
        let live = old.filter(|old| !old.removed);
        let usage = self.count(&Step {
            keys: i64::from(live.is_none()),
            bytes: size - live.map_or(0, |old| old.size),
            removed: -i64::from(old.is_some_and(|old| old.removed)),
            history_bytes: old.map_or(0, |old| old.size),
        })?;
        self.check_quota(&usage, live.is_none())?;
        let version = usage.revision;
        if let Some(old) = old {
            self.archive(old, version)?;
            self.database
                .prepare_cached(
                    "UPDATE entry SET version = ?2, depth = ?3, created_at = ?4, updated_at = ?5,
                     expires_at = ?6, batch = NULL, forgotten = 0, size = ?7, tags = ?8, value = ?9
                     WHERE id = ?1",
                )?
                .execute(params![
                    old.id,
                    version,
                    old.depth + 1,
                    live.map_or(self.now, |old| old.created_at),
                    self.now,
                    new.expires_at,
                    size,
                    new.tags,
                    new.value
                ])?;
            self.trim(old, version)?;
        } else {
            self.database
                .prepare_cached(
                    "INSERT INTO entry (uid, namespace, key, version, depth, created_at,
                     updated_at, expires_at, forgotten, size, tags, value)
                     VALUES (?1, ?2, ?3, ?4, 0, ?5, ?5, ?6, 0, ?7, ?8, ?9)",
                )?
                .execute(params![
                    self.scope.uid,
                    self.scope.namespace,
                    key,
                    version,
                    self.now,
                    new.expires_at,
                    size,
                    new.tags,
                    new.value
                ])?;
        }
        self.make_room(&usage)?;
        Ok(version)
    }

    /// Makes a removal the newest version of a key that has a value; gives its number.
    pub(super) fn remove(&mut self, old: &Entry, removal: Removal) -> Result<i64, Failure> {
        let usage =
            self.count(&Step { keys: -1, bytes: -old.size, removed: 1, history_bytes: old.size })?;
        let version = usage.revision;
        self.archive(old, version)?;
        let (batch, forgotten, at) = match removal {
            Removal::Forgotten(first) => (first.unwrap_or(version), true, self.now),
            Removal::Expired(end) => (version, false, end),
        };
        self.database
            .prepare_cached(
                "UPDATE entry SET version = ?2, depth = ?3, created_at = ?4, updated_at = ?4,
                 expires_at = NULL, batch = ?5, forgotten = ?6, size = ?7 + octet_length(key),
                 tags = x'', value = NULL WHERE id = ?1",
            )?
            .execute(params![old.id, version, old.depth + 1, at, batch, forgotten, ROW_BYTES])?;
        self.trim(old, version)?;
        self.make_room(&usage)?;
        Ok(version)
    }

    /// Copies what an entry holds into the history, as replaced by `version`.
    fn archive(&self, old: &Entry, version: i64) -> Result<(), rusqlite::Error> {
        self.database
            .prepare_cached(
                "INSERT INTO history SELECT uid, ?2, id, ?3, version, created_at, updated_at,
                 expires_at, batch, forgotten, size, tags, value FROM entry WHERE id = ?1",
            )?
            .execute(params![old.id, version, self.now])
            .map(drop)
    }

    fn count(&mut self, step: &Step) -> Result<Usage, rusqlite::Error> {
        self.gained.keys += step.keys;
        self.gained.bytes += step.bytes;
        self.database
            .prepare_cached(
                "INSERT INTO usage VALUES (?1, 1, ?2, ?3, ?4, ?5) ON CONFLICT (uid) DO UPDATE SET
                 revision = revision + 1, keys = keys + ?2, bytes = bytes + ?3,
                 removed = removed + ?4, history_bytes = history_bytes + ?5
                 RETURNING revision, keys, bytes, removed, history_bytes",
            )?
            .query_row(
                params![self.scope.uid, step.keys, step.bytes, step.removed, step.history_bytes],
                |row| {
                    Ok(Usage {
                        revision: row.get(0)?,
                        keys: row.get(1)?,
                        bytes: row.get(2)?,
                        removed: row.get(3)?,
                        history_bytes: row.get(4)?,
                    })
                },
            )
    }

    fn check_quota(&self, usage: &Usage, is_new: bool) -> Result<(), Error> {
        let Config { max_keys, max_bytes, .. } = *self.config;
        if is_new && exceeds(usage.keys, max_keys) {
            return Err(Error::limit(
                "memory.max_keys",
                max_keys,
                "you have as many keys as you may; forget some first",
            ));
        }
        if self.gained.bytes > 0 && exceeds(usage.bytes, max_bytes) {
            return Err(Error::limit(
                "memory.max_bytes",
                max_bytes,
                "your keys, values and labels take as many bytes as they may; forget some first",
            ));
        }
        Ok(())
    }

    /// Drops the versions of a key that are too many. It lets twice as many come together first, so
    /// that a key that changes often is not walked at every change.
    fn trim(&self, old: &Entry, newest: i64) -> Result<(), rusqlite::Error> {
        let kept = self.config.max_versions.max(1);
        if old.depth + 1 < kept.saturating_mul(2) {
            return Ok(());
        }
        let mut older = self
            .database
            .prepare_cached("SELECT version FROM history WHERE uid = ?1 AND replaced_by = ?2")?;
        let mut version = newest;
        for _ in 1..kept {
            let found =
                older.query_row(params![self.scope.uid, version], |row| row.get(0)).optional()?;
            let Some(found) = found else { break };
            version = found;
        }
        let mut drop_older = self.database.prepare_cached(
            "DELETE FROM history WHERE uid = ?1 AND replaced_by = ?2 RETURNING version, size",
        )?;
        let mut freed = 0;
        loop {
            let dropped: Option<(i64, i64)> = drop_older
                .query_row(params![self.scope.uid, version], |row| Ok((row.get(0)?, row.get(1)?)))
                .optional()?;
            let Some((older, size)) = dropped else { break };
            version = older;
            freed += size;
        }
        self.database
            .prepare_cached("UPDATE entry SET depth = ?2 WHERE id = ?1")?
            .execute(params![old.id, kept - 1])?;
        free_history(self.database, self.scope.uid, freed)
    }

    /// Drops the user's oldest versions and removals beyond what is kept.
    fn make_room(&self, usage: &Usage) -> Result<(), rusqlite::Error> {
        if exceeds(usage.history_bytes, self.config.max_history_bytes) {
            prune_history(self.database, self.config, self.scope.uid)?;
        }
        // As many removals as keys: enough to undo forgetting all of them.
        let most = i64::try_from(self.config.max_keys).unwrap_or(i64::MAX);
        if usage.removed > most {
            prune_removals(self.database, self.scope.uid, usage.removed - most)?;
        }
        Ok(())
    }
}

/// The newest version of a key, whatever it is.
pub(super) fn find(
    database: &Connection,
    scope: &Scope,
    key: &str,
) -> Result<Option<Entry>, rusqlite::Error> {
    database
        .prepare_cached(concat!(
            "SELECT ",
            entry_columns!(),
            " FROM entry WHERE uid = ?1 AND namespace = ?2 AND key = ?3"
        ))?
        .query_row(params![scope.uid, scope.namespace, key], Entry::read)
        .optional()
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
            "DELETE FROM entry WHERE id IN (SELECT id FROM entry
             WHERE uid = ?1 AND batch IS NOT NULL ORDER BY batch LIMIT ?2)",
        )?
        .execute(params![uid, count.min(MAX_PRUNED)])?;
    database
        .prepare_cached("UPDATE usage SET removed = removed - ?2 WHERE uid = ?1")?
        .execute(params![uid, i64::try_from(dropped).unwrap_or(i64::MAX)])
        .map(drop)
}

fn free_history(database: &Connection, uid: u32, bytes: i64) -> Result<(), rusqlite::Error> {
    database
        .prepare_cached("UPDATE usage SET history_bytes = history_bytes - ?2 WHERE uid = ?1")?
        .execute(params![uid, bytes])
        .map(drop)
}

fn exceeds(number: i64, limit: u64) -> bool {
    u64::try_from(number).is_ok_and(|number| number > limit)
}
