//! The bounds of what the memory agent keeps. They are checked where something is stored.

use std::time::Duration;

/// How much is kept for each user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many keys a user may have (`memory.max_keys`).
    pub max_keys: u64,
    /// How many bytes his keys, values and labels may take (`memory.max_bytes`).
    pub max_bytes: u64,
    /// How many versions of a key are kept, the current one included, 2 at least
    /// (`memory.max_versions`).
    pub max_versions: u32,
    /// How long a version is kept once it is not the current one (`memory.history_days`).
    pub history_age: Duration,
    /// How many bytes a user's older versions may take; the oldest make room
    /// (`memory.max_history_bytes`).
    pub max_history_bytes: u64,
    /// How many keys one Forget may remove (`memory.max_forget`): it is one write, for which all
    /// others wait.
    pub max_forget: u32,
    /// How many values a stream stores all at once (`memory.max_atomic`): the same holds for them.
    pub max_atomic: u32,
    /// How many bytes such a stream has (`memory.max_atomic_bytes`); they are held in memory.
    pub max_atomic_bytes: u64,
    /// How many streams of Watch a user may have open (`memory.max_watchers`).
    pub max_watchers: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_keys: 100_000,
            max_bytes: 64 << 20,
            max_versions: 32,
            history_age: Duration::from_secs(30 * 24 * 3600),
            max_history_bytes: 128 << 20,
            max_forget: 10_000,
            max_atomic: 10_000,
            max_atomic_bytes: 16 << 20,
            max_watchers: 4096,
        }
    }
}
