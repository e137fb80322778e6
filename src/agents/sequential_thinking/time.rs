//! When chains end: their times beside the ones that every store has.

use super::limits::MAX_AGE;
use crate::storage::time::micros;
pub(super) use crate::storage::time::{now, timestamp};

/// Chains that were last changed before this moment are gone.
pub(super) fn horizon(now: i64) -> i64 {
    now.saturating_sub(micros(MAX_AGE))
}

/// When a chain that was last changed at `updated_at` will be gone.
pub(super) fn expiry(updated_at: i64) -> i64 {
    updated_at.saturating_add(micros(MAX_AGE))
}
