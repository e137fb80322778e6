//! Restore: brings back an older version of a key, or what one Forget removed.

use rusqlite::params;

use super::change::{Change, Entry, Version, entry_columns};
use super::recall::{Kept, older, replaced_by};
use super::{fields, forget};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::memory::v1::{RestoreRequest, RestoreResponse};
use crate::storage::Failure;

/// A request that has been checked.
pub(super) enum Restore {
    Version { key: String, version: u64 },
    Forgotten { token: String },
}

impl Restore {
    pub(super) fn check(request: RestoreRequest) -> Result<Self, Error> {
        let RestoreRequest { key, version, undo_token: token, .. } = request;
        if token.is_empty() {
            fields::key("", &key)?;
            if version == 0 {
                return Err(Error::invalid("version", "must be given with key"));
            }
            return Ok(Self::Version { key, version });
        }
        if !key.is_empty() {
            return Err(Error::invalid("key", "cannot be given together with undo_token"));
        }
        if version != 0 {
            return Err(Error::invalid("version", "cannot be given together with undo_token"));
        }
        Ok(Self::Forgotten { token })
    }

    pub(super) fn apply(&self, change: &mut Change<'_>) -> Result<RestoreResponse, Failure> {
        match self {
            Self::Version { key, version } => restore_version(change, key, *version),
            Self::Forgotten { token } => restore_forgotten(change, token),
        }
    }
}

fn restore_version(
    change: &mut Change<'_>,
    key: &str,
    version: u64,
) -> Result<RestoreResponse, Failure> {
    // First, because it may make the expiry of the key its newest version.
    let old = change.entry(key)?;
    let kept = older(change.database, change.config, &change.scope, key, version)?;
    let Some(version) =
        kept.map(|kept| put(change, key, old.as_ref(), &kept)).transpose()?.flatten()
    else {
        return Err(Error::new(
            ErrorKind::NotFound,
            format!("no value of the key {key} is kept at version {version}"),
        )
        .into());
    };
    Ok(RestoreResponse { count: 1, skipped: Vec::new(), version: version.unsigned_abs() })
}

fn restore_forgotten(change: &mut Change<'_>, token: &str) -> Result<RestoreResponse, Failure> {
    let unknown = || {
        Error::new(
            ErrorKind::NotFound,
            "nothing is kept of a Forget in this namespace that gave this undo_token",
        )
    };
    let batch = forget::read_token(token).ok_or_else(unknown)?;
    let removed = still_removed(change, batch)?;
    let mut skipped = stored_anew(change, batch)?;
    if removed.is_empty() && skipped.is_empty() {
        return Err(unknown().into());
    }
    let mut count = 0;
    for (entry, key) in removed {
        let kept = replaced_by(change.database, change.scope.uid, entry.version)?;
        match kept.map(|kept| put(change, &key, Some(&entry), &kept)).transpose()?.flatten() {
            Some(_) => count += 1,
            None => skipped.push(key),
        }
    }
    skipped.sort_unstable();
    Ok(RestoreResponse { count, skipped, version: 0 })
}

/// Stores what is kept once more; `None` if it is a removal. Its time comes back with it if that is
/// not over.
fn put(
    change: &mut Change<'_>,
    key: &str,
    old: Option<&Entry>,
    kept: &Kept,
) -> Result<Option<i64>, Failure> {
    let Some(value) = &kept.value else { return Ok(None) };
    let expires_at = kept.expires_at.filter(|end| *end > change.now);
    change.put(key, old, &Version { value, tags: &kept.tags, expires_at, stored: None }).map(Some)
}

/// The keys that a Forget removed and that are removed still.
fn still_removed(change: &Change<'_>, batch: i64) -> Result<Vec<(Entry, String)>, rusqlite::Error> {
    change
        .database
        .prepare_cached(concat!(
            "SELECT ",
            entry_columns!(),
            ", key FROM entry INDEXED BY entry_batch
             WHERE uid = ?1 AND batch = ?2 AND forgotten AND namespace = ?3"
        ))?
        .query_map(params![change.scope.uid, batch, change.scope.namespace], |row| {
            Ok((Entry::read(row)?, row.get(7)?))
        })?
        .collect()
}

/// The keys that a Forget removed and that were stored since.
fn stored_anew(change: &Change<'_>, batch: i64) -> Result<Vec<String>, rusqlite::Error> {
    change
        .database
        .prepare_cached(
            "SELECT key FROM history INDEXED BY history_batch JOIN entry ON entry.id = history.entry
             WHERE history.uid = ?1 AND history.batch = ?2 AND history.forgotten
             AND namespace = ?3",
        )?
        .query_map(params![change.scope.uid, batch, change.scope.namespace], |row| row.get(0))?
        .collect()
}
