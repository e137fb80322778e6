//! The settings of workers.

use super::checker::Checker;
use super::{MAX_IDLE_MS, MAX_TIMEOUT_MS};
use crate::config::keys::worker::Section;
use crate::host::worker::Config;

pub(super) fn workers(c: &mut Checker<'_>, keys: &Section) -> Option<Config> {
    let idle = c.millis(&keys.idle_ms, 0..=MAX_IDLE_MS);
    let min_uid = c.size(&keys.min_uid, 0..=i64::from(u32::MAX) - 1, "as a user id");
    let config = Config {
        min_uid: u32::try_from(min_uid).unwrap_or_default(),
        max: c.size(&keys.max, 1..=4096, "workers"),
        idle: Some(idle).filter(|idle| !idle.is_zero()),
        start_timeout: c.millis(&keys.start_timeout_ms, 100..=60_000),
        check: c.millis(&keys.check_ms, 100..=MAX_TIMEOUT_MS),
        check_timeout: c.millis(&keys.check_timeout_ms, 100..=600_000),
        max_response_bytes: c.size(&keys.max_response_bytes, 1024..=1 << 30, "bytes"),
    };
    keys.enabled.value.then_some(config)
}
