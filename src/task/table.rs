//! The tables of `tasks.db`: one row for each task that is kept, one for each of its messages. Nothing
//! here waits or decides what is kept.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::ring::Message;
use crate::storage::{Failure, Schema};

/// How many tasks go in one round of the chore at most.
const ROWS: i64 = 64;

pub(super) const SCHEMA: Schema =
    Schema { name: "tasks", application_id: 0x6f70_6474, migrations: &[FIRST] };

/// `ended_at` is in microseconds since the epoch, and missing while the task runs; `record` is an
/// encoded `opdbus.v1.Task`.
const FIRST: &str = "
CREATE TABLE task (
    key INTEGER PRIMARY KEY,
    ended_at INTEGER,
    record BLOB NOT NULL
) STRICT;
CREATE INDEX task_age ON task (ended_at) WHERE ended_at IS NOT NULL;
CREATE TABLE message (
    task INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    start INTEGER NOT NULL,
    payload BLOB NOT NULL,
    PRIMARY KEY (task, seq)
) STRICT;
";

/// A task as it is stored.
pub(super) struct Row {
    pub(super) key: i64,
    pub(super) ended_at: Option<i64>,
    pub(super) record: Vec<u8>,
}

/// Stores a task in the place of what was stored of it, and adds `messages`.
pub(super) fn save(database: &Connection, row: &Row, messages: &[Message]) -> Result<(), Failure> {
    database
        .prepare_cached("INSERT OR REPLACE INTO task (key, ended_at, record) VALUES (?1, ?2, ?3)")?
        .execute(params![row.key, row.ended_at, row.record])?;
    let mut insert = database.prepare_cached(
        "INSERT OR REPLACE INTO message (task, seq, start, payload) VALUES (?1, ?2, ?3, ?4)",
    )?;
    for message in messages {
        insert.execute(params![row.key, message.seq, message.offset, &*message.payload])?;
    }
    Ok(())
}

pub(super) fn forget(database: &Connection, key: i64) -> Result<(), Failure> {
    database.prepare_cached("DELETE FROM message WHERE task = ?1")?.execute([key])?;
    database.prepare_cached("DELETE FROM task WHERE key = ?1")?.execute([key])?;
    Ok(())
}

/// Forgets some of the tasks that ended before `oldest`; true if more are left.
pub(super) fn forget_old(database: &Connection, oldest: i64) -> Result<bool, Failure> {
    let keys = database
        .prepare_cached("SELECT key FROM task WHERE ended_at < ?1 ORDER BY ended_at LIMIT ?2")?
        .query_map([oldest, ROWS], |row| row.get(0))?
        .collect::<Result<Vec<i64>, _>>()?;
    for key in &keys {
        forget(database, *key)?;
    }
    Ok(i64::try_from(keys.len()).is_ok_and(|count| count == ROWS))
}

/// All tasks, in the order in which they were started.
pub(super) fn tasks(database: &Connection) -> Result<Vec<Row>, Failure> {
    let rows = database
        .prepare("SELECT key, ended_at, record FROM task ORDER BY key")?
        .query_map([], |row| {
            Ok(Row { key: row.get(0)?, ended_at: row.get(1)?, record: row.get(2)? })
        })?
        .collect::<Result<_, _>>()?;
    Ok(rows)
}

pub(super) fn message(
    database: &Connection,
    task: i64,
    seq: u64,
) -> Result<Option<Message>, Failure> {
    let found = database
        .prepare_cached("SELECT start, payload FROM message WHERE task = ?1 AND seq = ?2")?
        .query_row(params![task, seq], |row| {
            Ok(Message { seq, offset: row.get(0)?, payload: row.get::<_, Vec<u8>>(1)?.into() })
        })
        .optional()?;
    Ok(found)
}
