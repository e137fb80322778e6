//! The bounds of what is kept that an administrator may want to change. The others are in `limits`.

use std::time::Duration;

/// How much is kept for each user, and for how long.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many chains a user may have (`[sequential_thinking] max_chains`).
    pub max_chains: u32,
    /// After so long without a change a chain is gone (`max_age_days`).
    pub max_age: Duration,
    /// How many bytes the text of an Import may have (`max_import_bytes`).
    pub max_import_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_chains: 10_000,
            max_age: Duration::from_secs(90 * 24 * 3600),
            max_import_bytes: 8 << 20,
        }
    }
}
