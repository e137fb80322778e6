//! What goes wrong in a store, and how it reads as the project's one error. It retries nothing.

use std::path::PathBuf;
use std::sync::Arc;

use rusqlite::ErrorCode;

use crate::error::{Error, ErrorKind};
use crate::status::Status;

/// Why work in a database did not come to its end.
#[derive(Debug)]
pub enum Failure {
    /// The work itself says no.
    Refused(Error),
    /// SQLite does.
    Sqlite(rusqlite::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Refused(error)
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

/// Turns failures of one file into errors, and reports damage of it.
pub(super) struct Faults {
    path: PathBuf,
    status: Arc<Status>,
}

impl Faults {
    pub(super) fn new(path: PathBuf, status: Arc<Status>) -> Self {
        Self { path, status }
    }

    /// The file, for texts.
    pub(super) fn file(&self) -> std::path::Display<'_> {
        self.path.display()
    }

    pub(super) fn error(&self, failure: Failure) -> Error {
        match failure {
            Failure::Refused(error) => error,
            Failure::Sqlite(error) => self.sqlite(&error),
        }
    }

    pub(super) fn sqlite(&self, error: &rusqlite::Error) -> Error {
        let file = self.file();
        if is_damage(error) {
            self.damaged(&error.to_string());
            return Error::new(
                ErrorKind::BackendFailed,
                format!("{file} is damaged ({error}); restore it from a backup"),
            );
        }
        if is_full(error) {
            return Error::new(
                ErrorKind::BackendUnavailable,
                format!("the disk is full: {file} cannot grow; make room and try again"),
            );
        }
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => Error::new(
                ErrorKind::BackendUnavailable,
                format!("another program keeps {file} locked; try again"),
            ),
            Some(
                ErrorCode::SystemIoFailure
                | ErrorCode::CannotOpen
                | ErrorCode::ReadOnly
                | ErrorCode::PermissionDenied,
            ) => Error::new(
                ErrorKind::BackendFailed,
                format!("{file} cannot be read or written: {error}"),
            ),
            _ => Error::internal(format!("a statement on {file} failed: {error}")),
        }
    }

    /// Reports that the file is damaged: in the log, and in the status for as long as the service runs.
    pub(super) fn damaged(&self, how: &str) {
        let file = self.file();
        tracing::error!(%file, how, "a database is damaged");
        self.status.warn(format!("storage: {file} is damaged: {how}"));
    }
}

/// True if the file's content is not what SQLite wrote.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// True if there was no room; a shared-memory file that cannot grow counts as an I/O failure in SQLite.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error
            .sqlite_error()
            .is_some_and(|error| error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}
