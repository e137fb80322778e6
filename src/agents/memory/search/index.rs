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
        let has = known(database, uid)?.is_some();
        Ok(has.then(|| Self { table: table(uid) }))
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

    fn make(database: &Connection, uid: u32) -> Result<Self, rusqlite::Error> {
        let table = table(uid);
        database.execute_batch(&format!(
            "CREATE VIRTUAL TABLE {table} USING fts5(key, text, tags, content='',
                 contentless_delete=1, {TOKENIZER});
             CREATE VIRTUAL TABLE {} USING fts5vocab('{table}', 'row');",
            vocabulary(uid)
        ))?;
        database.execute("INSERT INTO indexed VALUES (?1, 0)", [uid])?;
        Ok(Self { table })
    }
}

pub(super) fn table(uid: u32) -> String {
    format!("words_{uid}")
}

/// All words in the index of a user.
pub(super) fn vocabulary(uid: u32) -> String {
    format!("vocabulary_{uid}")
}

/// Up to which revision the index of a user goes.
pub(super) fn known(database: &Connection, uid: u32) -> Result<Option<i64>, rusqlite::Error> {
    database
        .prepare_cached("SELECT revision FROM indexed WHERE uid = ?1")?
        .query_row([uid], |row| row.get(0))
        .optional()
}

/// Brings the index of a user some way towards today; true if more is left.
pub(super) fn catch_up(database: &Connection, uid: u32) -> Result<bool, Failure> {
    let known = known(database, uid)?;
    let index = match known {
        Some(_) => Index { table: table(uid) },
        None => Index::make(database, uid)?,
    };
    let mut changed = database.prepare_cached(
        "SELECT id, version, batch IS NOT NULL, key, tags, value FROM entry INDEXED BY entry_version
         WHERE uid = ?1 AND version > ?2 ORDER BY version",
    )?;
    let mut insert = database.prepare_cached(&format!(
        "INSERT INTO {} (rowid, key, text, tags) VALUES (?1, ?2, ?3, ?4)",
        index.table
    ))?;
    let mut rows = changed.query(params![uid, known.unwrap_or(0)])?;
    let (mut last, mut count, mut bytes) = (None, 0, 0);
    let mut more = false;
    while let Some(row) = rows.next()? {
        if count == CHUNK_KEYS || bytes > CHUNK_BYTES {
            more = true;
            break;
        }
        let id = row.get(0)?;
        last = Some(row.get::<_, i64>(1)?);
        count += 1;
        index.remove(database, id)?;
        if row.get(2)? {
            continue;
        }
        let key: String = row.get(3)?;
        let tags = stored_tags(&row.get::<_, Vec<u8>>(4)?).join("\n");
        let value: Vec<u8> = row.get(5)?;
        bytes += value.len();
        let text = text::of(&value::decode(&value)?);
        insert.execute(params![id, key, text, tags])?;
    }
    drop(rows);
    let revision = if more { last } else { None };
    database
        .prepare_cached(
            "UPDATE indexed SET revision = ifnull(?2, (SELECT revision FROM usage WHERE uid = ?1))
             WHERE uid = ?1",
        )?
        .execute(params![uid, revision])?;
    Ok(more)
}

/// Brings the indexes that are behind some way towards today; true if more is left.
pub(in super::super) fn catch_up_some(database: &Connection) -> Result<bool, Failure> {
    let behind = database
        .prepare_cached(
            "SELECT uid FROM indexed JOIN usage USING (uid)
             WHERE indexed.revision < usage.revision",
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
