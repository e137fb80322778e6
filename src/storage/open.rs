//! Finds, locks, checks and migrates a database file, and sets a damaged one aside. What it looks at
//! is bounded, whatever the file's size, because the service is not ready before it is done.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};

use super::failure::{Faults, is_damage};
use super::make::{make, migrate};
use super::{Config, Durability, Failure, Schema};
use crate::error::{Error, ErrorKind};
use crate::events;
use crate::status::Status;

/// How long a statement waits for a lock that another connection holds for a moment.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// The writer's page cache, in KiB.
const WRITER_CACHE_KIB: i64 = 8192;

/// To this size the log is cut when it starts anew, in bytes.
const LOG_KEPT_BYTES: i64 = 16 << 20;

/// A file that is ours to write.
pub(super) struct Opened {
    pub(super) database: Connection,
    pub(super) path: PathBuf,
    pub(super) lock: File,
}

pub(super) fn open(
    config: &Config,
    schema: &Schema,
    status: &Arc<Status>,
) -> Result<Opened, Error> {
    make_folder(&config.path)?;
    let path = config.path.join(format!("{}.db", schema.name));
    let lock = lock(&config.path.join(format!("{}.lock", schema.name)))?;
    let database = match open_checked(&path, schema, status) {
        Ok(database) => database,
        Err(Problem::Damage(how)) => {
            let aside = set_aside(&path)?;
            tracing::error!(message_id = events::STORE_SET_ASIDE, file = %path.display(), aside = %aside.display(), how,
                "a damaged database was set aside and a new one begun");
            status.warn(format!(
                "storage: {} was damaged ({how}); it was set aside as {} and a new one was begun",
                path.display(),
                aside.display()
            ));
            open_checked(&path, schema, status).map_err(|problem| match problem {
                Problem::Damage(how) => Error::new(
                    ErrorKind::BackendFailed,
                    format!("{} is damaged even though it is new: {how}", path.display()),
                ),
                Problem::Other(error) => error,
            })?
        }
        Err(Problem::Other(error)) => return Err(error),
    };
    prepare(&database, config.durability)
        .map_err(|error| Faults::new(path.clone(), Arc::clone(status)).sqlite(&error))?;
    Ok(Opened { database, path, lock })
}

/// One more connection to a file that [`open`] has opened.
pub(super) fn connect(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let database = Connection::open_with_flags(path, flags)?;
    database.busy_timeout(BUSY_TIMEOUT)?;
    database.set_prepared_statement_cache_capacity(64);
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
    Ok(database)
}

enum Problem {
    Damage(String),
    Other(Error),
}

fn make_folder(folder: &Path) -> Result<(), Error> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| unusable(folder, &error))
}

pub(super) fn unusable(path: &Path, error: &io::Error) -> Error {
    Error::invalid("storage.path", format_args!("{} cannot be used: {error}", path.display()))
}

fn lock(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(path)
        .map_err(|error| unusable(path, &error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::new(
            ErrorKind::BackendUnavailable,
            format!(
                "another op-dbus holds {}; stop it, or give this one another storage.path",
                path.display()
            ),
        )),
        Err(TryLockError::Error(error)) => Err(unusable(path, &error)),
    }
}

fn open_checked(path: &Path, schema: &Schema, status: &Arc<Status>) -> Result<Connection, Problem> {
    let faults = Faults::new(path.to_owned(), Arc::clone(status));
    let has_content = |path: &Path| fs::metadata(path).is_ok_and(|file| file.len() > 0);
    if !has_content(path) {
        // SQLite throws away the log of an empty file: it would be the last trace of what was in it.
        if has_content(&beside(path, "-wal")) {
            return Err(Problem::Damage("it is empty but has a log".to_owned()));
        }
        make(path, schema, &faults).map_err(Problem::Other)?;
    }
    check(path, schema).map_err(|failure| match failure {
        Failure::Sqlite(error) if is_damage(&error) => Problem::Damage(error.to_string()),
        failure @ (Failure::Sqlite(_) | Failure::Refused(_)) => {
            Problem::Other(faults.error(failure))
        }
    })
}

/// Opens the file and brings it to today's tables. Before it is known to be ours nothing is written,
/// not even by closing it.
fn check(path: &Path, schema: &Schema) -> Result<Connection, Failure> {
    let database = connect(path)?;
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    let number = |pragma: &str| -> Result<i64, rusqlite::Error> {
        database.query_row(pragma, [], |row| row.get(0))
    };
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    let owner = number("PRAGMA application_id")?;
    let version = number("PRAGMA user_version")?;
    let known = i64::try_from(schema.migrations.len()).unwrap_or(i64::MAX);
    if owner != i64::from(schema.application_id) && (tables, owner, version) != (0, 0, 0) {
        return Err(Error::new(
            ErrorKind::BackendFailed,
            format!(
                "{} belongs to another program; move it away, or set another storage.path",
                path.display()
            ),
        )
        .into());
    }
    if version > known {
        return Err(Error::new(
            ErrorKind::BackendFailed,
            format!(
                "{} has the format {version} of a newer op-dbus; this one knows up to {known}",
                path.display()
            ),
        )
        .into());
    }
    // Reading a row of each table finds a damaged root page now rather than in the first call.
    let names = database
        .prepare("SELECT name FROM sqlite_schema WHERE type = 'table'")?
        .query_map([], |row| row.get::<_, String>(0))?
        .collect::<Result<Vec<_>, _>>()?;
    for name in names {
        database.prepare(&format!("SELECT * FROM \"{name}\" LIMIT 1"))?.query([])?.next()?;
    }
    database.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, false)?;
    database.pragma_update(None, "journal_mode", "WAL")?;
    migrate(&database, schema, usize::try_from(version).unwrap_or(0))?;
    Ok(database)
}

fn prepare(database: &Connection, durability: Durability) -> Result<(), rusqlite::Error> {
    let synchronous = match durability {
        Durability::Full => "FULL",
        Durability::Normal => "NORMAL",
    };
    database.pragma_update(None, "synchronous", synchronous)?;
    // The keeper does it, away from the calls.
    database.pragma_update(None, "wal_autocheckpoint", 0)?;
    database.pragma_update(None, "journal_size_limit", LOG_KEPT_BYTES)?;
    database.pragma_update(None, "cache_size", -WRITER_CACHE_KIB)?;
    database.pragma_update(None, "temp_store", "MEMORY")
}

/// Renames the file, and what belongs to it, to a name that says when that was.
fn set_aside(path: &Path) -> Result<PathBuf, Error> {
    let stamp: String = Connection::open_in_memory()
        .and_then(|clock| {
            clock.query_row("SELECT strftime('%Y%m%dT%H%M%SZ', 'now')", [], |row| row.get(0))
        })
        .map_err(|error| Error::internal(format!("SQLite does not know the time: {error}")))?;
    let aside = (1..=100)
        .map(|attempt| {
            let suffix = if attempt == 1 { String::new() } else { format!("-{attempt}") };
            beside(path, &format!(".damaged-{stamp}{suffix}"))
        })
        .find(|aside| !aside.exists())
        .ok_or_else(|| {
            Error::new(
                ErrorKind::BackendFailed,
                format!("{} was damaged 100 times in one second", path.display()),
            )
        })?;
    for suffix in ["-wal", "-shm", ""] {
        match fs::rename(beside(path, suffix), beside(&aside, suffix)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(unusable(path, &error)),
        }
    }
    Ok(aside)
}

pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
