//! One user's change of his keys: every new version goes through here, and so do the counters. Whether
//! a change is made is not decided here.

use std::sync::Arc;

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Shared;
use super::config::Config;
use super::fields::Scope;
use super::room::{exceeds, prune_history, prune_removals, trim};
use super::session;
use super::watch::{Changed, Event};
use crate::error::Error;
use crate::proto::opdbus::agent::memory::v1::WatchEvent;
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

/// A change in the course of one write.
pub(super) struct Change<'a> {
    pub(super) database: &'a Connection,
    pub(super) config: &'a Config,
    pub(super) scope: Scope,
    /// When it happens: one moment for all of it.
    pub(super) now: i64,
    /// What it adds to the counters.
    gained: Gained,
    /// The counters after its last step.
    usage: Option<Usage>,
    /// The user's revision before its first step.
    from: Option<i64>,
    /// What it does to keys; none if nobody watched the user when it began.
    events: Option<Vec<Arc<Event>>>,
    /// The session whose keys it changes.
    session: Option<Arc<str>>,
}

/// What a change has done, for those who hear of it after its commit.
pub(super) struct Made {
    pub(super) gained: Gained,
    pub(super) changed: Changed,
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
    pub(super) depth: u32,
    removed: bool,
    size: i64,
}

/// A value to store.
pub(super) struct Version<'a> {
    pub(super) value: &'a [u8],
    pub(super) tags: &'a [u8],
    pub(super) expires_at: Option<i64>,
    /// When the key was first stored and this version was, if that was not now.
    pub(super) stored: Option<(i64, i64)>,
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
#[derive(Clone, Copy)]
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
        shared: &'a Shared,
        scope: Scope,
        now: i64,
    ) -> Self {
        let events = shared.feeds.is_watched(scope.uid).then(Vec::new);
        Self {
            database,
            config: &shared.config,
            scope,
            now,
            gained: Gained::default(),
            usage: None,
            from: None,
            events,
            session: None,
        }
    }

    /// Does `work`, all of it or nothing, as a part of the change: what it refuses with fails the part
    /// only.
    pub(super) fn attempt<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<Result<T, Error>, Failure> {
        self.part(work, Result::is_ok)
    }

    /// Does `work` to see what comes of it, and undoes it.
    pub(super) fn rehearse<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        Ok(self.part(work, |_| false)??)
    }

    fn part<T>(
        &mut self,
        work: impl FnOnce(&mut Self) -> Result<T, Failure>,
        is_kept: impl FnOnce(&Result<T, Error>) -> bool,
    ) -> Result<Result<T, Error>, Failure> {
        let database = self.database;
        let statement = |sql| database.prepare_cached(sql)?.execute([]).map(drop);
        let before = (self.gained, self.usage, self.from, self.session.clone());
        let events = self.events.as_ref().map_or(0, Vec::len);
        statement("SAVEPOINT part")?;
        let outcome = match work(self) {
            Ok(done) => Ok(done),
            Err(Failure::Refused(error)) => Err(error),
            Err(failure @ Failure::Sqlite(_)) => return Err(failure),
        };
        if !is_kept(&outcome) {
            statement("ROLLBACK TO part")?;
            (self.gained, self.usage, self.from, self.session) = before;
            if let Some(list) = &mut self.events {
                list.truncate(events);
            }
        }
        statement("RELEASE part")?;
        Ok(outcome)
    }

    /// Ends the change: makes room for it. It comes last, because a change may still need what this
    /// drops.
    pub(super) fn finish(self) -> Result<Made, Failure> {
        self.make_room()?;
        if let Some(id) = &self.session {
            session::note_change(self.database, self.scope.uid, id, self.now)?;
        }
        let to = self.usage.map_or(0, |usage| usage.revision);
        let from = self.from.unwrap_or(to);
        let changed = Changed { uid: self.scope.uid, from, to, events: self.events };
        Ok(Made { gained: self.gained, changed })
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
        let mut usage = self.count(&Step {
            keys: i64::from(live.is_none()),
            bytes: size - live.map_or(0, |old| old.size),
            removed: -i64::from(old.is_some_and(|old| old.removed)),
            history_bytes: old.map_or(0, |old| old.size),
        })?;
        let version = usage.revision;
        if let Err(full) = self.check_quota(&usage, live.is_none()) {
            usage = self.expire_some()?.ok_or(full)?;
            self.check_quota(&usage, live.is_none())?;
        }
        let (created_at, updated_at) = new.stored.unwrap_or((self.now, self.now));
        let created_at = live.map_or(created_at, |old| old.created_at);
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
                    created_at,
                    updated_at,
                    new.expires_at,
                    size,
                    new.tags,
                    new.value
                ])?;
            trim(self.database, self.config, self.scope.uid, old, version)?;
        } else {
            self.database
                .prepare_cached(
                    "INSERT INTO entry (uid, namespace, key, version, depth, created_at,
                     updated_at, expires_at, forgotten, size, tags, value)
                     VALUES (?1, ?2, ?3, ?4, 0, ?5, ?6, ?7, 0, ?8, ?9, ?10)",
                )?
                .execute(params![
                    self.scope.uid,
                    self.scope.namespace,
                    key,
                    version,
                    created_at,
                    updated_at,
                    new.expires_at,
                    size,
                    new.tags,
                    new.value
                ])?;
            self.database
                .prepare_cached("INSERT INTO created VALUES (?1, ?2, last_insert_rowid())")?
                .execute(params![self.scope.uid, version])?;
        }
        self.tell(|scope| Event::put(scope, key, version, updated_at, new));
        Ok(version)
    }

    /// Notes what happened to a key, if somebody may want to hear of it.
    fn tell(&mut self, event: impl FnOnce(&Scope) -> Event) {
        if let Some(events) = &mut self.events {
            events.push(Arc::new(event(&self.scope)));
        }
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
        trim(self.database, self.config, self.scope.uid, old, version)?;
        if self.events.is_some() {
            let (namespace, key) = self
                .database
                .prepare_cached("SELECT namespace, key FROM entry WHERE id = ?1")?
                .query_row([old.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
            let kind = if forgotten { WatchEvent::Delete } else { WatchEvent::Expire };
            let revision = version;
            self.tell(|_| Event { revision, namespace, key, kind, time: at, ..Event::default() });
        }
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
        let usage = self
            .database
            .prepare_cached(
                "INSERT INTO usage (uid, revision, keys, bytes, removed, history_bytes)
                 VALUES (?1, 1, ?2, ?3, ?4, ?5) ON CONFLICT (uid) DO UPDATE SET
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
            )?;
        self.usage = Some(usage);
        self.from.get_or_insert(usage.revision - 1);
        if self.session.is_none() {
            self.session.clone_from(&self.scope.session);
        }
        Ok(usage)
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

    /// Turns keys of the user whose time is over into removals, since they must not count as keys;
    /// gives the counters after it, or nothing if there was none.
    fn expire_some(&mut self) -> Result<Option<Usage>, Failure> {
        let over = self
            .database
            .prepare_cached(concat!(
                "SELECT ",
                entry_columns!(),
                " FROM entry INDEXED BY entry_expiry WHERE uid = ?1 AND expires_at <= ?2
                 LIMIT 256"
            ))?
            .query_map(params![self.scope.uid, self.now], Entry::read)?
            .collect::<Result<Vec<_>, _>>()?;
        for entry in &over {
            self.remove(entry, Removal::Expired(entry.expires_at.unwrap_or(self.now)))?;
        }
        if over.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.count(&Step::default())?))
    }

    /// Drops the user's oldest versions and removals beyond what is kept.
    fn make_room(&self) -> Result<(), rusqlite::Error> {
        let Some(usage) = &self.usage else { return Ok(()) };
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
