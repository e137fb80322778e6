//! Makes a database that is not there yet, and brings one that is to today's tables. Whether it may is
//! decided before.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::Connection;

use super::failure::Faults;
use super::open::{beside, connect, unusable};
use super::{Failure, Schema};
use crate::error::Error;

/// Makes the database beside its place and puts it there when all of it is on the disk. So it is there
/// whole or not at all, and the disk is waited for twice instead of at each step.
pub(super) fn make(path: &Path, schema: &Schema, faults: &Faults) -> Result<(), Error> {
    let unfinished = beside(path, ".new");
    // What is left of an attempt that was cut off.
    for suffix in ["-wal", "-shm", ""] {
        remove(&beside(&unfinished, suffix)).map_err(|error| unusable(path, &error))?;
    }
    // Readable by its owner only; SQLite gives its log the same mode.
    OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(&unfinished)
        .map_err(|error| unusable(path, &error))?;
    fill(&unfinished, schema).map_err(|failure| faults.error(failure))?;
    put(&unfinished, path).map_err(|error| unusable(path, &error))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Writes the tables, without waiting for the disk.
fn fill(path: &Path, schema: &Schema) -> Result<(), Failure> {
    let database = connect(path)?;
    database.pragma_update(None, "synchronous", "OFF")?;
    database.pragma_update(None, "journal_mode", "MEMORY")?;
    migrate(&database, schema, 0)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    database.close().map_err(|(_, error)| error)?;
    Ok(())
}

fn put(from: &Path, path: &Path) -> io::Result<()> {
    File::open(from)?.sync_all()?;
    fs::rename(from, path)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Takes the steps that a database of `version` has not had, all of them or none.
pub(super) fn migrate(
    database: &Connection,
    schema: &Schema,
    version: usize,
) -> Result<(), Failure> {
    if version == schema.migrations.len() {
        return Ok(());
    }
    let transaction = database.unchecked_transaction()?;
    transaction.pragma_update(None, "application_id", schema.application_id)?;
    for step in &schema.migrations[version..] {
        transaction.execute_batch(step)?;
    }
    let known = i64::try_from(schema.migrations.len()).unwrap_or(i64::MAX);
    transaction.pragma_update(None, "user_version", known)?;
    transaction.commit()?;
    Ok(())
}
