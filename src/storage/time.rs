//! Times as they are stored: microseconds since the epoch, by the wall clock. Nothing here waits.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prost_types::Timestamp;

use crate::error::Error;

/// The longest time to live: 100 years of 365.25 days.
const MAX_TTL: Duration = Duration::from_secs(100 * 31_557_600);

const MICROS: i64 = 1_000_000;

/// Now.
#[must_use]
pub fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A stored time as the contract has it.
#[must_use]
pub fn timestamp(micros: i64) -> Timestamp {
    let nanos = i32::try_from(micros.rem_euclid(MICROS) * 1000).unwrap_or(0);
    Timestamp { seconds: micros.div_euclid(MICROS), nanos }
}

/// A duration in microseconds.
#[must_use]
pub fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A time to live in microseconds, rounded up; `at` is where the field stands.
///
/// # Errors
/// `InvalidArgument` naming `ttl` if it is not more than 0 and at most 100 years.
pub fn ttl(at: &str, ttl: Option<prost_types::Duration>) -> Result<Option<i64>, Error> {
    let Some(ttl) = ttl else { return Ok(None) };
    let invalid =
        || Error::invalid(format!("{at}ttl"), "must be more than 0 and at most 100 years");
    let ttl = Duration::try_from(ttl).map_err(|_negative| invalid())?;
    if ttl.is_zero() || ttl > MAX_TTL {
        return Err(invalid());
    }
    Ok(Some(micros(ttl + Duration::from_nanos(999))))
}
