//! What goes for good: deleted contexts, those whose time is over, and old versions when a user is at
//! his limit.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::change::CONTEXT_BYTES;
use super::versions::ROW_BYTES;
use super::{Change, Gained};
use crate::agents::context_manager::config::Config;
use crate::agents::context_manager::space::Space;
use crate::agents::context_manager::time;
use crate::error::Error;
use crate::storage::Failure;

impl Change<'_> {
    /// Removes a context with all that only it had.
    pub(in super::super) fn purge(&mut self, context: i64) -> Result<(), Failure> {
        let contents = self
            .database
            .prepare_cached("DELETE FROM place WHERE context = ?1 RETURNING content")?
            .query_map([context], |row| row.get(0))?
            .collect::<Result<Vec<i64>, _>>()?;
        let versions = self
            .database
            .prepare_cached("DELETE FROM version WHERE context = ?1")?
            .execute([context])?;
        self.database.prepare_cached("DELETE FROM context WHERE id = ?1")?.execute([context])?;
        let rows = i64::try_from(contents.len() + versions).unwrap_or(0);
        self.gained.bytes -= rows * ROW_BYTES + CONTEXT_BYTES;
        self.drop_contents(contents)
    }

    /// Brings the user below his limit: first what he deleted goes, then versions that neither are the
    /// newest of their context nor were replaced by a compaction, the oldest first. A change that only
    /// frees room is never refused.
    pub(super) fn make_room(&mut self) -> Result<(), Failure> {
        let had = self.usage()?.bytes;
        let max = i64::try_from(self.config.max_bytes).unwrap_or(i64::MAX);
        while self.gained.bytes > 0 && had + self.gained.bytes > max {
            if let Some(context) = self.oldest_deleted()? {
                self.purge(context)?;
            } else if let Some((context, number)) = self.oldest_version()? {
                self.drop_version(context, number)?;
            } else {
                return Err(Error::limit(
                    "context_manager.max_bytes",
                    self.config.max_bytes,
                    "there is no room for this; delete contexts that are not needed any more",
                )
                .into());
            }
        }
        Ok(())
    }

    fn oldest_deleted(&self) -> Result<Option<i64>, Failure> {
        Ok(self
            .database
            .prepare_cached(
                "SELECT id FROM context WHERE uid = ?1 AND undo IS NOT NULL ORDER BY undo LIMIT 1",
            )?
            .query_row([self.space.uid], |row| row.get(0))
            .optional()?)
    }

    fn oldest_version(&self) -> Result<Option<(i64, i64)>, Failure> {
        Ok(self
            .database
            .prepare_cached(
                "SELECT version.context, number FROM context JOIN version
                 ON version.context = context.id AND number < context.version
                 WHERE uid = ?1 AND compacted = 0 ORDER BY number LIMIT 1",
            )?
            .query_row([self.space.uid], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?)
    }
}

/// Removes one context whose time is over, or whose undo has; true if there may be more. One at a
/// time, because all other writes wait for it.
pub(in super::super) fn tidy(
    database: &Connection,
    config: &Config,
    now: i64,
) -> Result<(Gained, bool), Failure> {
    let oldest = now.saturating_sub(time::micros(config.deleted_age));
    let over: Option<(i64, u32, bool)> = database
        .prepare_cached(
            "SELECT id, uid, undo IS NULL FROM context WHERE expires_at <= ?1
             UNION ALL SELECT id, uid, 0 FROM context WHERE deleted_at < ?2 LIMIT 1",
        )?
        .query_row(params![now, oldest], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((context, uid, is_live)) = over else { return Ok((Gained::default(), false)) };
    let ((), gained) = Change::run(database, config, Space::user(uid), now, |change| {
        change.purge(context)?;
        change.gained.contexts -= i64::from(is_live);
        Ok(())
    })?;
    Ok((gained, true))
}
