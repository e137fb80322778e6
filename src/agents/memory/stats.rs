//! Stats: how much a user has stored, and how much he may.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::config::Config;
use super::fields::Owner;
use super::time::timestamp;
use crate::proto::opdbus::agent::memory::v1::{NamespaceStats, StatsResponse};
use crate::storage::Failure;

/// How many namespaces are told.
const MAX_NAMESPACES: usize = 1000;

pub(super) fn stats(
    database: &Connection,
    config: &Config,
    owner: &Owner,
    watchers: u32,
    now: i64,
) -> Result<StatsResponse, Failure> {
    let usage: Option<(i64, i64, i64, i64)> = database
        .prepare_cached("SELECT keys, bytes, history_bytes, revision FROM usage WHERE uid = ?1")?
        .query_row([owner.uid], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .optional()?;
    let (keys, bytes, history_bytes, revision) = usage.unwrap_or_default();
    Ok(StatsResponse {
        keys: keys.unsigned_abs(),
        max_keys: config.max_keys,
        bytes: bytes.unsigned_abs(),
        max_bytes: config.max_bytes,
        history_bytes: history_bytes.unsigned_abs(),
        max_history_bytes: config.max_history_bytes,
        revision: revision.unsigned_abs(),
        watchers,
        max_watchers: config.max_watchers,
        namespaces: namespaces(database, owner, now)?,
    })
}

fn namespaces(
    database: &Connection,
    owner: &Owner,
    now: i64,
) -> Result<Vec<NamespaceStats>, Failure> {
    let mut select = database.prepare_cached(
        "SELECT namespace, count(*), sum(size), min(updated_at), max(updated_at) FROM entry
         INDEXED BY entry_key WHERE uid = ?1 AND batch IS NULL
         AND (expires_at IS NULL OR expires_at > ?2) GROUP BY namespace ORDER BY namespace",
    )?;
    let mut rows = select.query(params![owner.uid, now])?;
    let mut namespaces = Vec::new();
    while namespaces.len() < MAX_NAMESPACES
        && let Some(row) = rows.next()?
    {
        let stored: String = row.get(0)?;
        let Some(namespace) = owner.namespace(&stored) else { continue };
        namespaces.push(NamespaceStats {
            namespace: namespace.to_owned(),
            keys: row.get::<_, i64>(1)?.unsigned_abs(),
            bytes: row.get::<_, i64>(2)?.unsigned_abs(),
            oldest: Some(timestamp(row.get(3)?)),
            newest: Some(timestamp(row.get(4)?)),
        });
    }
    Ok(namespaces)
}
