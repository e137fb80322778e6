//! The bounds of what the context manager keeps. They are checked where something is stored.

use std::time::Duration;

/// How many bytes the text of one item may have (`context_manager.max_item_bytes`).
pub(super) const MAX_ITEM_BYTES: usize = 1 << 20;

/// How many bytes an Export gives and an Import takes at most (`context_manager.max_transfer_bytes`).
pub(super) const MAX_TRANSFER_BYTES: usize = 16 << 20;

/// How many bytes the contexts that an Assemble ranks may have together
/// (`context_manager.max_assemble_bytes`).
pub(super) const MAX_ASSEMBLE_BYTES: u64 = 64 << 20;

/// How much is kept for each user.
#[derive(Clone, Debug)]
pub struct Config {
    /// How many contexts a user may have (`context_manager.max_contexts`).
    pub max_contexts: u64,
    /// How many items a context may have (`context_manager.max_items`).
    pub max_items: u64,
    /// How many bytes the texts of a context may have (`context_manager.max_context_bytes`).
    pub max_context_bytes: u64,
    /// How many versions of a context are kept, and beside them how many that a compaction replaced
    /// (`context_manager.max_versions`).
    pub max_versions: u32,
    /// How many bytes all versions of all his contexts may take (`context_manager.max_bytes`). What he
    /// deleted makes room, the oldest first.
    pub max_bytes: u64,
    /// How long a deleted context can be brought back (`context_manager.deleted_age`).
    pub deleted_age: Duration,
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
        }
    }
}
