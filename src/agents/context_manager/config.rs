//! The bounds of what the context manager keeps. They are checked where something is stored.

use std::time::Duration;

/// How many bytes the text of one item may have (`context_manager.max_item_bytes`).
pub(super) const MAX_ITEM_BYTES: usize = 1 << 20;

/// How many bytes the contexts that an Assemble ranks may have together
/// (`context_manager.max_assemble_bytes`).
pub(super) const MAX_ASSEMBLE_BYTES: u64 = 64 << 20;

/// How much is kept for each user.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many contexts a user may have (`[context_manager] max_contexts`).
    pub max_contexts: u64,
    /// How many items a context may have (`max_items`).
    pub max_items: u64,
    /// How many bytes the texts of a context may have (`max_context_bytes`).
    pub max_context_bytes: u64,
    /// How many versions of a context are kept, and beside them how many that a compaction replaced
    /// (`max_versions`).
    pub max_versions: u32,
    /// How many bytes all versions of all his contexts may take (`max_bytes`). What he deleted makes
    /// room, the oldest first.
    pub max_bytes: u64,
    /// How long a deleted context can be brought back (`deleted_age_days`).
    pub deleted_age: Duration,
    /// How many bytes the text of an Import may have (`max_import_bytes`).
    pub max_import_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_contexts: 10_000,
            max_items: 10_000,
            max_context_bytes: 32 << 20,
            max_versions: 100,
            max_bytes: 512 << 20,
            deleted_age: Duration::from_secs(30 * 24 * 3600),
            max_import_bytes: 16 << 20,
        }
    }
}
