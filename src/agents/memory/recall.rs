//! Recall and History: values as they are and as they were.

use prost_types::Value;
use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::change::find;
use super::config::Config;
use super::fields::{self, Scope};
use super::time::timestamp;
use super::value;
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::memory::v1::{
    HistoryResponse, RecallRequest, RecallResponse, Revision,
};
use crate::storage::Failure;

/// A request that has been checked.
pub(super) struct Recall {
    key: String,
    version: Option<u64>,
    default: Option<Value>,
}

/// One version of a key that is kept.
pub(super) struct Kept {
    pub(super) version: i64,
    created_at: i64,
    updated_at: i64,
    pub(super) expires_at: Option<i64>,
    pub(super) tags: Vec<u8>,
    /// `None` for a removal.
    pub(super) value: Option<Vec<u8>>,
}

impl Recall {
    pub(super) fn check(at: &str, request: RecallRequest) -> Result<Self, Error> {
        fields::key(at, &request.key)?;
        let RecallRequest { key, version, default, .. } = request;
        let default = default.map(|value| value::checked(at, "default", value)).transpose()?;
        Ok(Self { key, version, default })
    }

    pub(super) fn apply(
        &self,
        database: &Connection,
        config: &Config,
        scope: &Scope,
        now: i64,
    ) -> Result<RecallResponse, Failure> {
        let found = match self.version {
            None => newest(database, scope, &self.key, now)?,
            Some(version) => older(database, config, scope, &self.key, version)?
                .map(|kept| kept.answer())
                .transpose()?
                .flatten(),
        };
        if let Some(found) = found {
            return Ok(found);
        }
        if let Some(default) = &self.default {
            return Ok(RecallResponse {
                value: Some(default.clone()),
                ..RecallResponse::default()
            });
        }
        Err(Error::new(
            ErrorKind::NotFound,
            match self.version {
                None => format!("the key {} does not exist", self.key),
                Some(version) => {
                    format!("no value of the key {} is kept at version {version}", self.key)
                }
            },
        )
        .into())
    }
}

/// The newest `limit` versions of a key.
pub(super) fn history(
    database: &Connection,
    config: &Config,
    scope: &Scope,
    key: &str,
    limit: usize,
) -> Result<HistoryResponse, Failure> {
    let revisions = Chain::new(database, config, scope, key)?
        .take(limit)
        .map(|kept| {
            let kept = kept?;
            Ok(Revision {
                version: kept.version.unsigned_abs(),
                created_at: Some(timestamp(kept.updated_at)),
                removed: kept.value.is_none(),
                value: kept.value.as_deref().map(value::decode).transpose()?,
            })
        })
        .collect::<Result<_, Failure>>()?;
    Ok(HistoryResponse { revisions })
}

/// The version `version` of a key, if it is kept.
pub(super) fn older(
    database: &Connection,
    config: &Config,
    scope: &Scope,
    key: &str,
    version: u64,
) -> Result<Option<Kept>, Failure> {
    for kept in Chain::new(database, config, scope, key)? {
        let kept = kept?;
        if kept.version.unsigned_abs() <= version {
            return Ok(Some(kept).filter(|kept| kept.version.unsigned_abs() == version));
        }
    }
    Ok(None)
}

/// The version that `version` of the user `uid` replaced, if it is kept.
pub(super) fn replaced_by(
    database: &Connection,
    uid: u32,
    version: i64,
) -> Result<Option<Kept>, rusqlite::Error> {
    database
        .prepare_cached(
            "SELECT version, created_at, updated_at, expires_at, tags, value FROM history
             WHERE uid = ?1 AND replaced_by = ?2",
        )?
        .query_row(params![uid, version], Kept::read)
        .optional()
}

/// The value of a key now.
pub(super) fn newest(
    database: &Connection,
    scope: &Scope,
    key: &str,
    now: i64,
) -> Result<Option<RecallResponse>, Failure> {
    let mut select = database.prepare_cached(
        "SELECT version, created_at, updated_at, expires_at, tags, value FROM entry
         WHERE uid = ?1 AND namespace = ?2 AND key = ?3 AND batch IS NULL
         AND (expires_at IS NULL OR expires_at > ?4)",
    )?;
    let mut rows = select.query(params![scope.uid, scope.namespace, key, now])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    // Without the copies that Kept would make: this is what most calls do.
    let blob = |column| -> Result<&[u8], Failure> {
        row.get_ref(column)?
            .as_blob()
            .map_err(|error| Error::internal(format!("a stored value is no blob: {error}")).into())
    };
    Ok(Some(RecallResponse {
        version: row.get::<_, i64>(0)?.unsigned_abs(),
        created_at: Some(timestamp(row.get(1)?)),
        updated_at: Some(timestamp(row.get(2)?)),
        expires_at: row.get::<_, Option<i64>>(3)?.map(timestamp),
        tags: fields::stored_tags(blob(4)?),
        value: Some(value::decode(blob(5)?)?),
    }))
}

impl Kept {
    fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            version: row.get(0)?,
            created_at: row.get(1)?,
            updated_at: row.get(2)?,
            expires_at: row.get(3)?,
            tags: row.get(4)?,
            value: row.get(5)?,
        })
    }

    /// What Recall says of it; `None` for a removal.
    fn answer(&self) -> Result<Option<RecallResponse>, Error> {
        let Some(stored) = &self.value else { return Ok(None) };
        Ok(Some(RecallResponse {
            value: Some(value::decode(stored)?),
            version: self.version.unsigned_abs(),
            created_at: Some(timestamp(self.created_at)),
            updated_at: Some(timestamp(self.updated_at)),
            expires_at: self.expires_at.map(timestamp),
            tags: fields::stored_tags(&self.tags),
        }))
    }
}

/// The versions of a key that are kept, newest first.
struct Chain<'a> {
    database: &'a Connection,
    uid: u32,
    next: Option<Kept>,
    left: u32,
}

impl<'a> Chain<'a> {
    fn new(
        database: &'a Connection,
        config: &Config,
        scope: &Scope,
        key: &str,
    ) -> Result<Self, rusqlite::Error> {
        let next = match find(database, scope, key)? {
            None => None,
            Some(entry) => Some(
                database
                    .prepare_cached(
                        "SELECT version, created_at, updated_at, expires_at, tags, value
                         FROM entry WHERE id = ?1",
                    )?
                    .query_row([entry.id], Kept::read)?,
            ),
        };
        Ok(Self { database, uid: scope.uid, next, left: config.max_versions.max(2) })
    }
}

impl Iterator for Chain<'_> {
    type Item = Result<Kept, Failure>;

    fn next(&mut self) -> Option<Self::Item> {
        let kept = self.next.take()?;
        self.left -= 1;
        if self.left > 0 {
            match replaced_by(self.database, self.uid, kept.version) {
                Ok(next) => self.next = next,
                Err(error) => return Some(Err(error.into())),
            }
        }
        Some(Ok(kept))
    }
}
