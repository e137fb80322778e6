//! The bounds of what agents keep: a section for each agent that has some.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::Checker;
use crate::agents::{context_manager, memory, sequential_thinking};
use crate::config::keys::{self, Key};

/// A kibibyte, a mebibyte and a gibibyte.
const KIB: i64 = 1 << 10;
const MIB: i64 = 1 << 20;
const GIB: i64 = 1 << 30;

/// How many days a time may have, ten years.
const DAYS: RangeInclusive<i64> = 1..=3650;

pub(super) fn context_manager(
    c: &mut Checker<'_>,
    keys: &keys::context_manager::Section,
) -> context_manager::Config {
    c.not_above(&keys.max_context_bytes, &keys.max_bytes);
    context_manager::Config {
        max_contexts: c.size(&keys.max_contexts, 1..=1_000_000, "contexts") as u64,
        max_items: c.size(&keys.max_items, 1..=100_000, "items") as u64,
        max_context_bytes: c.size(&keys.max_context_bytes, KIB..=256 * MIB, "bytes") as u64,
        max_versions: number(c, &keys.max_versions, 1..=1000, "versions"),
        max_bytes: c.size(&keys.max_bytes, MIB..=1024 * GIB, "bytes") as u64,
        deleted_age: days(c, &keys.deleted_age_days),
        max_import_bytes: c.size(&keys.max_import_bytes, KIB..=256 * MIB, "bytes"),
    }
}

pub(super) fn sequential_thinking(
    c: &mut Checker<'_>,
    keys: &keys::sequential_thinking::Section,
) -> sequential_thinking::Config {
    sequential_thinking::Config {
        max_chains: number(c, &keys.max_chains, 1..=1_000_000, "chains"),
        max_age: days(c, &keys.max_age_days),
        max_import_bytes: c.size(&keys.max_import_bytes, KIB..=64 * MIB, "bytes"),
    }
}

pub(super) fn memory(c: &mut Checker<'_>, keys: &keys::memory::Section) -> memory::Config {
    memory::Config {
        max_keys: c.size(&keys.max_keys, 1..=10_000_000, "keys") as u64,
        max_bytes: c.size(&keys.max_bytes, KIB..=1024 * GIB, "bytes") as u64,
        max_versions: number(c, &keys.max_versions, 2..=10_000, "versions"),
        history_age: days(c, &keys.history_days),
        max_history_bytes: c.size(&keys.max_history_bytes, MIB..=1024 * GIB, "bytes") as u64,
        max_forget: number(c, &keys.max_forget, 1..=1_000_000, "keys"),
        max_atomic: number(c, &keys.max_atomic, 1..=1_000_000, "values"),
        max_atomic_bytes: c.size(&keys.max_atomic_bytes, KIB..=GIB, "bytes") as u64,
        max_watchers: number(c, &keys.max_watchers, 0..=1_000_000, "streams"),
    }
}

fn days(c: &mut Checker<'_>, key: &Key<i64>) -> Duration {
    Duration::from_secs(c.size(key, DAYS, "days") as u64 * 24 * 3600)
}

/// A number of something, of which there are fewer than 2³².
fn number(c: &mut Checker<'_>, key: &Key<i64>, range: RangeInclusive<i64>, unit: &str) -> u32 {
    u32::try_from(c.size(key, range, unit)).unwrap_or(u32::MAX)
}
