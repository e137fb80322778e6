//! When chains end: their times beside the ones that every store has.

use std::time::Duration;

pub(super) use crate::storage::time::timestamp;
use crate::storage::time::{micros, now};

/// A moment, and how long chains last that are not changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    /// In microseconds since the epoch.
    pub(super) now: i64,
    max_age: i64,
}

impl Moment {
    /// This moment.
    pub(super) fn now(max_age: Duration) -> Self {
        Self { now: now(), max_age: micros(max_age) }
    }

    /// Chains that were last changed before this are gone.
    pub(super) fn horizon(self) -> i64 {
        self.now.saturating_sub(self.max_age)
    }

    /// When a chain that was last changed at `updated_at` will be gone.
    pub(super) fn expiry(self, updated_at: i64) -> i64 {
        updated_at.saturating_add(self.max_age)
    }
}
