//! The tables of `memory.db`. What the rows mean stands here; who changes them is elsewhere.

use crate::storage::Schema;

/// The database of the memory agent.
///
/// A namespace is stored as it is, or for what is kept for a session as the session's id, a NUL and the
/// namespace: neither has a NUL of its own.
///
/// Versions come from one counter for each user, `usage.revision`: a version is never used twice, not
/// even after a key was removed and stored anew, and a user cannot tell from his versions how much
/// others store.
pub(super) const SCHEMA: Schema =
    Schema { name: "memory", application_id: 0x6f70_646d, migrations: &[FIRST, SECOND] };

const FIRST: &str = "
-- What a user has. `removed` counts the entries that are removals; `history_bytes` is the sum of
-- history.size.
CREATE TABLE usage (
    uid INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL,
    keys INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    removed INTEGER NOT NULL,
    history_bytes INTEGER NOT NULL
);

-- The newest version of each key, which may be a removal. Times are microseconds since the epoch.
-- A removal has a `batch`: the first version of the Forget that made it, or its own version if the
-- key's time was over (`forgotten` is 0 then). `depth` counts the older versions that history may
-- hold. `tags` are sorted and each ends in a NUL. The value comes last, so that reading what is
-- before it never touches a large one.
CREATE TABLE entry (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid INTEGER NOT NULL,
    namespace TEXT NOT NULL,
    key TEXT NOT NULL,
    version INTEGER NOT NULL,
    depth INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    expires_at INTEGER,
    batch INTEGER,
    forgotten INTEGER NOT NULL,
    size INTEGER NOT NULL,
    tags BLOB NOT NULL,
    value BLOB
);
CREATE UNIQUE INDEX entry_key ON entry (uid, namespace, key);
CREATE INDEX entry_expiry ON entry (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX entry_batch ON entry (uid, batch) WHERE batch IS NOT NULL;

-- Versions that another one replaced. The key of a row is the version that replaced it, so the
-- versions of a key form a chain that begins at its entry, and a user's oldest rows come first.
CREATE TABLE history (
    uid INTEGER NOT NULL,
    replaced_by INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    replaced_at INTEGER NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    expires_at INTEGER,
    batch INTEGER,
    forgotten INTEGER NOT NULL,
    size INTEGER NOT NULL,
    tags BLOB NOT NULL,
    value BLOB,
    PRIMARY KEY (uid, replaced_by)
) WITHOUT ROWID;
CREATE INDEX history_batch ON history (uid, batch) WHERE batch IS NOT NULL;
";

const SECOND: &str = "
-- The keys that were stored for the first time, by the revision that did it. With the history, which
-- has a row for every other change, it tells what changed since a revision.
CREATE TABLE created (
    uid INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    entry INTEGER NOT NULL,
    PRIMARY KEY (uid, revision)
) WITHOUT ROWID;

-- Of the revisions up to `compacted` some may be dropped, whichever keys they were of. What an older
-- op-dbus dropped is not known.
ALTER TABLE usage ADD COLUMN compacted INTEGER NOT NULL DEFAULT 0;
UPDATE usage SET compacted = revision;

-- The newest version that was dropped of a key because it has too many.
CREATE TABLE trimmed (
    entry INTEGER PRIMARY KEY,
    version INTEGER NOT NULL
);

-- The sessions that have keys, and about when one of them last changed.
CREATE TABLE session (
    uid INTEGER NOT NULL,
    id TEXT NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (uid, id)
) WITHOUT ROWID;

-- The users who have an index of words (`words_<uid>`), and up to which revision it goes. It is made
-- with a user's first search; while it is, `namespace` and `key` say up to which key of that revision.
CREATE TABLE indexed (
    uid INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL,
    namespace TEXT,
    key TEXT
);
";
