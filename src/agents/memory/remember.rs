//! Remember: stores a value, if its condition holds.

use super::change::{Change, Version};
use super::time::timestamp;
use super::{fields, time, value};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::memory::v1::{RememberRequest, RememberResponse};
use crate::storage::Failure;

/// A request that has been checked.
pub(super) struct Remember {
    key: String,
    value: Vec<u8>,
    tags: Vec<u8>,
    ttl: Option<i64>,
    if_version: Option<u64>,
    if_absent: bool,
}

impl Remember {
    pub(super) fn check(at: &str, request: RememberRequest) -> Result<Self, Error> {
        fields::key(at, &request.key)?;
        if request.if_absent && request.if_version.is_some() {
            return Err(Error::invalid(
                format!("{at}if_version"),
                "cannot be given together with if_absent",
            ));
        }
        Ok(Self {
            value: value::encode(at, request.value)?,
            tags: fields::tags(at, request.tags)?,
            ttl: time::ttl(at, request.ttl)?,
            if_version: request.if_version,
            if_absent: request.if_absent,
            key: request.key,
        })
    }

    pub(super) fn apply(&self, change: &mut Change<'_>) -> Result<RememberResponse, Failure> {
        let old = change.entry(&self.key)?;
        let live = old.filter(|old| old.is_live(change.now));
        let current = live.map_or(0, |live| live.version);
        if self.if_absent && live.is_some() {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("the key {} exists, at version {current}", self.key),
            )
            .with_fact("current_version", current.to_string())
            .into());
        }
        if let Some(expected) = self.if_version {
            require_version(&self.key, expected, current)?;
        }
        let expires_at = self.ttl.map(|ttl| change.now.saturating_add(ttl));
        let new = Version { value: &self.value, tags: &self.tags, expires_at, stored: None };
        let version = change.put(&self.key, old.as_ref(), &new)?;
        Ok(RememberResponse {
            version: version.unsigned_abs(),
            created: live.is_none(),
            expires_at: expires_at.map(timestamp),
        })
    }
}

/// Compares the version that a caller expects with the current one; 0 stands for a key that is not
/// there.
pub(super) fn require_version(key: &str, expected: u64, current: i64) -> Result<(), Error> {
    if expected == current.unsigned_abs() {
        return Ok(());
    }
    let problem = match current {
        0 => format!("the key {key} does not exist, so it is not at version {expected}"),
        _ => format!("the key {key} is at version {current}, not {expected}"),
    };
    Err(Error::new(ErrorKind::Conflict, problem).with_fact("current_version", current.to_string()))
}
