//! Times as they are stored: microseconds since the epoch, by the wall clock. Nothing here waits.

use std::time::{SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

use super::limits::MAX_AGE;

const MICROS: i64 = 1_000_000;

/// Now.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A stored time as the contract has it.
pub(super) fn timestamp(micros: i64) -> Timestamp {
    let nanos = i32::try_from(micros.rem_euclid(MICROS) * 1000).unwrap_or(0);
    Timestamp { seconds: micros.div_euclid(MICROS), nanos }
}

/// Chains that were last changed before this moment are gone.
pub(super) fn horizon(now: i64) -> i64 {
    now.saturating_sub(max_age())
}

/// When a chain that was last changed at `updated_at` will be gone.
pub(super) fn expiry(updated_at: i64) -> i64 {
    updated_at.saturating_add(max_age())
}

fn max_age() -> i64 {
    i64::try_from(MAX_AGE.as_micros()).unwrap_or(i64::MAX)
}
