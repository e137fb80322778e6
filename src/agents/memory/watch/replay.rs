//! What a watcher has missed, from the history, and the keys as they are. It tells nobody.

use std::collections::BinaryHeap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::event::Event;
use super::keys::Keys;
use crate::agents::memory::fields::Scope;
use crate::proto::opdbus::agent::memory::v1::WatchEvent;
use crate::storage::Failure;

/// How many events one page has at most, and how many bytes of them unless one alone has more.
const PAGE_EVENTS: usize = 4096;
const PAGE_BYTES: usize = 1024 * 1024;

/// The next events.
pub(super) struct Page {
    pub(super) events: Vec<Event>,
    /// With these events, all up to this revision is told.
    pub(super) revision: i64,
    /// True if more happened after them.
    pub(super) more: bool,
}

/// What there is to tell.
pub(super) enum Replay {
    Page(Page),
    /// Some of what happened is not kept.
    Gap,
}

/// The keys as they are.
pub(super) struct State {
    pub(super) events: Vec<Event>,
    /// The last key, if there are more after it.
    pub(super) after: Option<String>,
}

/// The user's revision.
pub(in super::super) fn revision(database: &Connection, uid: u32) -> Result<i64, Failure> {
    Ok(position(database, uid)?.0)
}

/// The revisions of all users.
pub(in super::super) fn revisions(database: &Connection) -> Result<Vec<(u32, i64)>, Failure> {
    let mut select = database.prepare_cached("SELECT uid, revision FROM usage")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// The user's revision, and up to which one some changes may not be kept.
fn position(database: &Connection, uid: u32) -> Result<(i64, i64), rusqlite::Error> {
    let position = database
        .prepare_cached("SELECT revision, compacted FROM usage WHERE uid = ?1")?
        .query_row([uid], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    Ok(position.unwrap_or_default())
}

/// The first of what happened to `keys` after the revision `since`.
pub(super) fn replay(
    database: &Connection,
    scope: &Scope,
    keys: &Keys,
    since: i64,
) -> Result<Replay, Failure> {
    let (revision, compacted) = position(database, scope.uid)?;
    if since < compacted {
        return Ok(Replay::Gap);
    }
    let Some(places) = places(database, scope, keys, since)? else { return Ok(Replay::Gap) };
    let count = places.len();
    let mut events = Vec::new();
    let mut bytes = 0;
    for place in places {
        let event = read(database, scope, &place)?;
        bytes += event.size();
        if bytes > PAGE_BYTES && !events.is_empty() {
            break;
        }
        events.push(event);
    }
    let more = events.len() < count || count == PAGE_EVENTS;
    let last = events.last().map(|event| event.revision).filter(|_| more);
    Ok(Replay::Page(Page { revision: last.unwrap_or(revision), events, more }))
}

/// Where an event is stored. They sort by their revisions.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    version: i64,
    entry: i64,
    /// `None` for the newest version of a key.
    replaced_by: Option<i64>,
}

macro_rules! changed {
    () => {
        "SELECT id, version, key, (SELECT version FROM trimmed WHERE entry = id) FROM entry"
    };
}

macro_rules! condition {
    () => {
        " WHERE uid = ?1 AND version > ?2 AND namespace = ?3 AND key >= ?4 AND key < ?5"
    };
}

/// The first events after `since`, in order; `None` if one is not kept.
fn places(
    database: &Connection,
    scope: &Scope,
    keys: &Keys,
    since: i64,
) -> Result<Option<Vec<Place>>, Failure> {
    // For one key it is shorter to look at the key.
    let statement = match keys {
        Keys::One(_) => concat!(changed!(), " INDEXED BY entry_key ", condition!()),
        Keys::All | Keys::Prefix(_) | Keys::Pattern(_) => concat!(
            changed!(),
            condition!(),
            " AND id IN (SELECT entry FROM history WHERE uid = ?1 AND replaced_by > ?2
             UNION SELECT entry FROM created WHERE uid = ?1 AND revision > ?2)"
        ),
    };
    let mut changed = database.prepare_cached(statement)?;
    let range = keys.range(None);
    let mut older = database
        .prepare_cached("SELECT version FROM history WHERE uid = ?1 AND replaced_by = ?2")?;
    let mut first = BinaryHeap::new();
    let mut rows =
        changed.query(params![scope.uid, since, scope.namespace, range.from, range.below])?;
    while let Some(row) = rows.next()? {
        let key = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
        if !keys.matches(key) {
            continue;
        }
        if row.get::<_, Option<i64>>(3)?.is_some_and(|dropped| dropped > since) {
            return Ok(None);
        }
        let (entry, mut version) = (row.get(0)?, row.get(1)?);
        let mut replaced_by = None;
        while version > since {
            first.push(Place { version, entry, replaced_by });
            if first.len() > PAGE_EVENTS {
                first.pop();
            }
            replaced_by = Some(version);
            let next = older.query_row(params![scope.uid, version], |row| row.get(0)).optional()?;
            let Some(next) = next else { break };
            version = next;
        }
    }
    Ok(Some(first.into_sorted_vec()))
}

fn read(database: &Connection, scope: &Scope, place: &Place) -> Result<Event, rusqlite::Error> {
    let event = |row: &rusqlite::Row<'_>| {
        let kind = match (row.get(2)?, row.get(3)?) {
            (false, _) => WatchEvent::Put,
            (true, true) => WatchEvent::Delete,
            (true, false) => WatchEvent::Expire,
        };
        Ok(Event {
            revision: place.version,
            namespace: scope.namespace.clone(),
            key: row.get(0)?,
            time: row.get(1)?,
            kind,
            expires_at: row.get(4)?,
            tags: row.get(5)?,
            value: row.get::<_, Option<Vec<u8>>>(6)?.unwrap_or_default(),
            ..Event::default()
        })
    };
    match place.replaced_by {
        None => database
            .prepare_cached(
                "SELECT key, updated_at, batch IS NOT NULL, forgotten, expires_at, tags, value
                 FROM entry WHERE id = ?1",
            )?
            .query_row([place.entry], event),
        Some(replaced_by) => database
            .prepare_cached(
                "SELECT key, h.updated_at, h.batch IS NOT NULL, h.forgotten, h.expires_at, h.tags,
                 h.value FROM history AS h JOIN entry ON entry.id = h.entry
                 WHERE h.uid = ?1 AND h.replaced_by = ?2",
            )?
            .query_row(params![scope.uid, replaced_by], event),
    }
}

/// Some of the keys as they are, after the key `after`. Those that changed after `revision` are left
/// out: that they changed is still to be told.
pub(super) fn state(
    database: &Connection,
    scope: &Scope,
    keys: &Keys,
    after: Option<&str>,
    revision: i64,
    now: i64,
) -> Result<State, Failure> {
    let range = keys.range(after);
    let mut select = database.prepare_cached(
        "SELECT key, version, updated_at, expires_at, tags, value FROM entry INDEXED BY entry_key
         WHERE uid = ?1 AND namespace = ?2 AND key >= ?3 AND key < ?4 AND version <= ?5
         AND batch IS NULL AND (expires_at IS NULL OR expires_at > ?6) ORDER BY key",
    )?;
    let mut rows = select.query(params![
        scope.uid,
        scope.namespace,
        range.from,
        range.below,
        revision,
        now
    ])?;
    let mut state = State { events: Vec::new(), after: None };
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let key: String = row.get(0)?;
        if !keys.matches(&key) {
            continue;
        }
        if bytes > PAGE_BYTES || state.events.len() == PAGE_EVENTS {
            state.after = state.events.last().map(|event| event.key.clone());
            break;
        }
        let event = Event {
            revision: row.get(1)?,
            namespace: scope.namespace.clone(),
            key,
            kind: WatchEvent::Current,
            time: row.get(2)?,
            expires_at: row.get(3)?,
            tags: row.get(4)?,
            value: row.get(5)?,
            ..Event::default()
        };
        bytes += event.size();
        state.events.push(event);
    }
    Ok(state)
}
