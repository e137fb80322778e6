//! The table of `functions.db`. What a function may be is not checked here.

use prost::Message as _;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::commands::v1::Function;
use crate::storage::{Failure, Schema};

/// The database of functions.
pub(super) const SCHEMA: Schema =
    Schema { name: "functions", application_id: 0x6f70_6466, migrations: &[FIRST] };

const FIRST: &str = "
-- A function. `definition` is an encoded opdbus.agent.commands.v1.Function.
CREATE TABLE function (
    name TEXT PRIMARY KEY,
    definition BLOB NOT NULL
) WITHOUT ROWID;
";

/// A function's name, and its definition if it can be read.
type Row = (String, Result<Function, Error>);

/// Every function.
pub(super) fn all(database: &Connection) -> Result<Vec<Row>, Failure> {
    let mut select = database.prepare("SELECT name, definition FROM function")?;
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?)))?;
    let decoded = rows.map(|row| {
        let (name, bytes) = row?;
        let function = Function::decode(bytes.as_slice()).map_err(|error| {
            Error::new(ErrorKind::BackendFailed, format!("its definition cannot be read: {error}"))
        });
        Ok((name, function))
    });
    decoded.collect()
}

/// Stores a function, of which there may be `max`.
pub(super) fn put(
    database: &Connection,
    name: &str,
    definition: &[u8],
    replace: bool,
    max: usize,
) -> Result<(), Failure> {
    let found: Option<i64> = database
        .prepare_cached("SELECT 1 FROM function WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    if found.is_some() && !replace {
        let text = format!("there is a function {name:?}; `replace` puts this one in its place");
        return Err(Error::new(ErrorKind::AlreadyExists, text).into());
    }
    let count: usize = database.query_row("SELECT count(*) FROM function", [], |row| row.get(0))?;
    if found.is_none() && count >= max {
        let text = "as many functions are registered as may be";
        return Err(Error::limit("commands.max_functions", max, text).into());
    }
    database
        .prepare_cached("INSERT OR REPLACE INTO function VALUES (?1, ?2)")?
        .execute(params![name, definition])?;
    Ok(())
}

/// Removes a function; false if there is none.
pub(super) fn remove(database: &Connection, name: &str) -> Result<bool, Failure> {
    let removed =
        database.prepare_cached("DELETE FROM function WHERE name = ?1")?.execute([name])?;
    Ok(removed > 0)
}
