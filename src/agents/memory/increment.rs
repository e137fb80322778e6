//! Increment: adds to an integer.

use rusqlite::Connection;

use super::change::{Change, Entry, Version};
use super::value::{self, MAX_INTEGER};
use super::{fields, time};
use crate::error::Error;
use crate::proto::opdbus::agent::memory::v1::{IncrementRequest, IncrementResponse};
use crate::storage::Failure;

/// A request that has been checked.
pub(super) struct Increment {
    /// Where it stands, for errors that only its execution finds.
    at: String,
    key: String,
    by: i64,
    ttl: Option<i64>,
}

impl Increment {
    pub(super) fn check(at: &str, request: IncrementRequest) -> Result<Self, Error> {
        fields::key(at, &request.key)?;
        Ok(Self {
            at: at.to_owned(),
            ttl: time::ttl(at, request.ttl)?,
            by: request.by.unwrap_or(1),
            key: request.key,
        })
    }

    pub(super) fn apply(&self, change: &mut Change<'_>) -> Result<IncrementResponse, Failure> {
        let old = change.entry(&self.key)?;
        let live = old.filter(|old| old.is_live(change.now));
        let (before, tags) = match &live {
            Some(live) => self.current(change.database, live)?,
            None => (0, Vec::new()),
        };
        let sum = before
            .checked_add(self.by)
            .filter(|sum| (-MAX_INTEGER..=MAX_INTEGER).contains(sum))
            .ok_or_else(|| {
                Error::invalid(
                    format!("{}by", self.at),
                    format_args!(
                        "{before} + {} is beyond ±2^53, where integers are no longer exact",
                        self.by
                    ),
                )
            })?;
        let expires_at = match self.ttl {
            Some(ttl) => Some(change.now.saturating_add(ttl)),
            None => live.and_then(|live| live.expires_at),
        };
        let stored = value::encode_integer(sum);
        let new = Version { value: &stored, tags: &tags, expires_at, stored: None };
        let version = change.put(&self.key, old.as_ref(), &new)?;
        Ok(IncrementResponse { value: sum, version: version.unsigned_abs() })
    }

    /// The integer and the labels that an entry holds.
    fn current(&self, database: &Connection, live: &Entry) -> Result<(i64, Vec<u8>), Failure> {
        let (stored, tags): (Vec<u8>, Vec<u8>) = database
            .prepare_cached("SELECT value, tags FROM entry WHERE id = ?1")?
            .query_row([live.id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let integer = value::decode_integer(&stored)?.ok_or_else(|| {
            Error::invalid(
                format!("{}key", self.at),
                format_args!("{} does not hold an integer", self.key),
            )
        })?;
        Ok((integer, tags))
    }
}
