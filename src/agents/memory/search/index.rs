//! The index of words, one for each user who searches. It is brought up to date by his searches and
//! from time to time, not by his writes, which must be fast; a search sees to it that it knows every
//! write before it.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::text;
use crate::agents::memory::fields::stored_tags;
use crate::agents::memory::value;
use crate::storage::Failure;

/// How many keys one write indexes at most, and how many bytes of values unless one alone has more: all
/// other writes wait for it.
const CHUNK_KEYS: usize = 256;
const CHUNK_BYTES: usize = 128 * 1024;

/// How texts become words; for the index and for what shows where the words are.
pub(super) const TOKENIZER: &str = "tokenize='unicode61 remove_diacritics 2'";

/// The index of one user.
pub(in super::super) struct Index {
    table: String,
}

impl Index {
    /// The index of the user, if he has one.
    pub(in super::super) fn of(
        database: &Connection,
        uid: u32,
    ) -> Result<Option<Self>, rusqlite::Error> {
        Ok(State::of(database, uid)?.map(|_| Self { table: table(uid) }))
    }

    /// Takes a key out, by the id of its entry.
    pub(in super::super) fn remove(
        &self,
        database: &Connection,
        id: i64,
    ) -> Result<(), rusqlite::Error> {
        database
            .prepare_cached(&format!("DELETE FROM {} WHERE rowid = ?1", self.table))?
            .execute([id])
            .map(drop)
    }

    /// Takes a key in as it is; gives the bytes of its value.
    fn renew(&self, database: &Connection, id: i64) -> Result<usize, Failure> {
        self.remove(database, id)?;
        let entry = database
            .prepare_cached("SELECT key, tags, value FROM entry WHERE id = ?1 AND batch IS NULL")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .optional()?;
        let Some((key, tags, stored)): Option<(String, Vec<u8>, Vec<u8>)> = entry else {
            return Ok(0);
        };
        let text = text::of(&value::decode(&stored)?);
        database
            .prepare_cached(&format!(
                "INSERT INTO {} (rowid, key, text, tags) VALUES (?1, ?2, ?3, ?4)",
                self.table
            ))?
            .execute(params![id, key, text, stored_tags(&tags).join("\n")])?;
        Ok(stored.len())
    }

    /// Begins an index.
    fn make(database: &Connection, uid: u32, revision: i64) -> Result<State, rusqlite::Error> {
        let (table, vocabulary) = (table(uid), vocabulary(uid));
        database.execute_batch(&format!(
            "DROP TABLE IF EXISTS {vocabulary};
             DROP TABLE IF EXISTS {table};
             CREATE VIRTUAL TABLE {table} USING fts5(key, text, tags, content='',
                 contentless_delete=1, {TOKENIZER});
             CREATE VIRTUAL TABLE {vocabulary} USING fts5vocab('{table}', 'row');"
        ))?;
        let state = State { revision, at: Some(Place::default()) };
        state.store(database, uid)?;
        Ok(state)
    }
}

/// A key by its namespace, as it is stored, and its name.
type Place = (String, String);

/// How far an index goes.
struct State {
    revision: i64,
    /// While it is made: up to which key of that revision.
    at: Option<Place>,
}

impl State {
    fn of(database: &Connection, uid: u32) -> Result<Option<Self>, rusqlite::Error> {
        database
            .prepare_cached("SELECT revision, namespace, key FROM indexed WHERE uid = ?1")?
            .query_row([uid], |row| {
                let at: (Option<String>, Option<String>) = (row.get(1)?, row.get(2)?);
                Ok(Self { revision: row.get(0)?, at: at.0.zip(at.1) })
            })
            .optional()
    }

    fn store(&self, database: &Connection, uid: u32) -> Result<(), rusqlite::Error> {
        let (namespace, key) = self.at.as_ref().map(|(namespace, key)| (namespace, key)).unzip();
        database
            .prepare_cached("INSERT OR REPLACE INTO indexed VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![uid, self.revision, namespace, key])
            .map(drop)
    }
}

pub(super) fn table(uid: u32) -> String {
    format!("words_{uid}")
}

/// All words in the index of a user.
pub(super) fn vocabulary(uid: u32) -> String {
    format!("vocabulary_{uid}")
}

/// Up to which revision the index of a user goes, if he has one that is whole.
pub(super) fn known(database: &Connection, uid: u32) -> Result<Option<i64>, rusqlite::Error> {
    let state = State::of(database, uid)?;
    Ok(state.filter(|state| state.at.is_none()).map(|state| state.revision))
}

/// Brings the index of a user some way towards today; true if more is left.
pub(super) fn catch_up(database: &Connection, uid: u32) -> Result<bool, Failure> {
    let (revision, compacted): (i64, i64) = database
        .prepare_cached("SELECT revision, compacted FROM usage WHERE uid = ?1")?
        .query_row([uid], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let mut state = match State::of(database, uid)? {
        Some(state) if state.revision >= compacted => state,
        // What changed since it was brought up to date is no longer known.
        Some(_) | None => Index::make(database, uid, revision)?,
    };
    let index = Index { table: table(uid) };
    let more = match state.at.take() {
        Some(at) => {
            state.at = take_keys(database, uid, &index, at)?;
            state.at.is_some() || state.revision < revision
        }
        None => match take_changes(database, uid, &index, state.revision)? {
            Some(last) => {
                state.revision = last;
                true
            }
            None => {
                state.revision = revision;
                false
            }
        },
    };
    state.store(database, uid)?;
    Ok(more)
}

/// Takes the next keys in after `at`; gives the last one if there are more.
fn take_keys(
    database: &Connection,
    uid: u32,
    index: &Index,
    at: Place,
) -> Result<Option<Place>, Failure> {
    let mut select = database.prepare_cached(
        "SELECT id, namespace, key FROM entry INDEXED BY entry_key
         WHERE uid = ?1 AND (namespace, key) > (?2, ?3) AND batch IS NULL ORDER BY namespace, key",
    )?;
    let mut rows = select.query(params![uid, at.0, at.1])?;
    let (mut count, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        bytes += index.renew(database, row.get(0)?)?;
        count += 1;
        if count == CHUNK_KEYS || bytes > CHUNK_BYTES {
            return Ok(Some((row.get(1)?, row.get(2)?)));
        }
    }
    Ok(None)
}

/// Takes the next keys in that changed after `since`; gives the last one's revision if there are more.
fn take_changes(
    database: &Connection,
    uid: u32,
    index: &Index,
    since: i64,
) -> Result<Option<i64>, Failure> {
    let mut select = database.prepare_cached(
        "SELECT replaced_by AS revision, entry FROM history WHERE uid = ?1 AND replaced_by > ?2
         UNION ALL SELECT revision, entry FROM created WHERE uid = ?1 AND revision > ?2
         ORDER BY revision",
    )?;
    let mut rows = select.query(params![uid, since])?;
    let (mut count, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        bytes += index.renew(database, row.get(1)?)?;
        count += 1;
        if count == CHUNK_KEYS || bytes > CHUNK_BYTES {
            return Ok(Some(row.get(0)?));
        }
    }
    Ok(None)
}

/// Brings the indexes that are behind some way towards today; true if more is left.
pub(in super::super) fn catch_up_some(database: &Connection) -> Result<bool, Failure> {
    let behind = database
        .prepare_cached(
            "SELECT uid FROM indexed JOIN usage USING (uid)
             WHERE indexed.revision < usage.revision OR namespace IS NOT NULL",
        )?
        .query_map([], |row| row.get(0))?
        .collect::<Result<Vec<u32>, _>>()?;
    for uid in behind {
        if catch_up(database, uid)? {
            return Ok(true);
        }
    }
    Ok(false)
}
