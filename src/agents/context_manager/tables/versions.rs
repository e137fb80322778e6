//! Writes versions of contexts: which items they have, and which older ones are still kept.

use std::collections::HashMap;

use rusqlite::params;

use super::items;
use super::read::Head;
use super::schema::FOREVER;
use super::{Change, Placed};
use crate::agents::context_manager::choice::compact::Loss;
use crate::error::Error;
use crate::proto::opdbus::agent::context_manager::v1::Cause;
use crate::storage::Failure;

/// What each place and each version counts: about what its row takes.
pub(super) const ROW_BYTES: i64 = 64;

impl Change<'_> {
    /// Writes a new version that has these items, in the order of their positions. `losses` says, by item, why a compaction ended its
    /// place.
    pub(in super::super) fn put(
        &mut self,
        head: &mut Head,
        cause: Cause,
        places: &[Placed],
        losses: &HashMap<i64, Loss>,
    ) -> Result<(), Failure> {
        let version = self.revision()?;
        let old = items::places(self.database, head, head.version)?;
        let mut old: HashMap<i64, Placed> =
            old.into_iter().map(|place| (place.item, place)).collect();
        for place in places {
            match old.remove(&place.item) {
                Some(same) if same == *place => {}
                changed => {
                    if changed.is_some() {
                        self.end_place(head, place.item, version, losses.get(&place.item))?;
                    }
                    self.begin_place(head, place, version)?;
                }
            }
        }
        for item in old.into_keys() {
            self.end_place(head, item, version, losses.get(&item))?;
        }
        head.items = places.len() as u64;
        head.tokens = places.iter().map(|place| place.content.tokens).sum();
        head.size = places.iter().map(|place| place.content.size).sum();
        self.finish(head, cause, version)
    }

    /// Writes a new version with more items at its end.
    pub(in super::super) fn put_more(
        &mut self,
        head: &mut Head,
        places: &[Placed],
    ) -> Result<(), Failure> {
        let version = self.revision()?;
        for place in places {
            self.begin_place(head, place, version)?;
            head.items += 1;
            head.tokens += place.content.tokens;
            head.size += place.content.size;
        }
        self.finish(head, Cause::Append, version)
    }

    fn begin_place(&mut self, head: &Head, place: &Placed, version: i64) -> Result<(), Failure> {
        self.database
            .prepare_cached(
                "INSERT INTO place (context, item, since, until, position, pinned, content)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                head.id,
                place.item,
                version,
                FOREVER,
                place.position,
                place.pinned,
                place.content.id
            ])?;
        self.gained.bytes += ROW_BYTES;
        Ok(())
    }

    fn end_place(
        &self,
        head: &Head,
        item: i64,
        version: i64,
        loss: Option<&Loss>,
    ) -> Result<(), Failure> {
        self.database
            .prepare_cached(
                "UPDATE place SET until = ?3, reason = ?4, score = ?5
                 WHERE context = ?1 AND item = ?2 AND until = ?6",
            )?
            .execute(params![
                head.id,
                item,
                version,
                loss.map(|loss| i32::from(loss.reason)),
                loss.map(|loss| loss.score),
                FOREVER
            ])?;
        Ok(())
    }

    fn finish(&mut self, head: &mut Head, cause: Cause, version: i64) -> Result<(), Failure> {
        // What a session kept is stored already, whatever was configured since.
        if cause != Cause::SessionEnd {
            self.check_size(head)?;
        }
        if cause == Cause::Compact {
            self.database
                .prepare_cached(
                    "UPDATE version SET compacted = 1 WHERE context = ?1 AND number = ?2",
                )?
                .execute([head.id, head.version])?;
        }
        self.database
            .prepare_cached(
                "INSERT INTO version
                 (context, number, created_at, cause, items, tokens, size, compacted)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0)",
            )?
            .execute(params![
                head.id,
                version,
                self.now,
                i32::from(cause),
                head.items,
                head.tokens,
                head.size
            ])?;
        self.gained.bytes += ROW_BYTES;
        if matches!(cause, Cause::Save | Cause::Import | Cause::Fork | Cause::SessionEnd) {
            head.base = version;
        }
        head.version = version;
        head.updated_at = self.now;
        self.store_head(head)?;
        self.drop_old_versions(head)
    }

    fn check_size(&self, head: &Head) -> Result<(), Error> {
        let Head { name, items, size, .. } = head;
        if *items > self.config.max_items {
            let problem = format!("items: the context {name:?} would have {items} items");
            return Err(Error::limit(
                "context_manager.max_items",
                self.config.max_items,
                problem + "; compact it, or begin another one",
            )
            .with_fact("field", "items"));
        }
        if *size > self.config.max_context_bytes {
            let problem =
                format!("items: the texts of the context {name:?} would have {size} bytes");
            return Err(Error::limit(
                "context_manager.max_context_bytes",
                self.config.max_context_bytes,
                problem + "; compact it, or begin another one",
            )
            .with_fact("field", "items"));
        }
        Ok(())
    }

    /// Drops what is beyond the newest versions, and beyond the newest that a compaction replaced.
    fn drop_old_versions(&mut self, head: &Head) -> Result<(), Failure> {
        let max = self.config.max_versions;
        let older = self
            .database
            .prepare_cached(
                "SELECT number, compacted FROM version WHERE context = ?1
                 ORDER BY number DESC LIMIT -1 OFFSET ?2",
            )?
            .query_map(params![head.id, max], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<Vec<(i64, bool)>, _>>()?;
        let mut compacted = 0;
        for (number, is_compacted) in older {
            if is_compacted && compacted < max {
                compacted += 1;
            } else {
                self.drop_version(head.id, number)?;
            }
        }
        Ok(())
    }

    /// Drops a version, and what only it had.
    pub(in super::super) fn drop_version(
        &mut self,
        context: i64,
        number: i64,
    ) -> Result<(), Failure> {
        self.database
            .prepare_cached("DELETE FROM version WHERE context = ?1 AND number = ?2")?
            .execute([context, number])?;
        let contents = self
            .database
            .prepare_cached(
                "DELETE FROM place WHERE context = ?1 AND until > ?2
                 AND until <= (SELECT min(number) FROM version WHERE context = ?1 AND number > ?2)
                 AND since > ifnull(
                    (SELECT max(number) FROM version WHERE context = ?1 AND number < ?2), -1)
                 RETURNING content",
            )?
            .query_map([context, number], |row| row.get(0))?
            .collect::<Result<Vec<i64>, _>>()?;
        let rows = i64::try_from(contents.len()).unwrap_or(0) + 1;
        self.gained.bytes -= rows * ROW_BYTES;
        self.drop_contents(contents)
    }
}
