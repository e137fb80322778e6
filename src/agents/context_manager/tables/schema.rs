//! What the rows mean.

use crate::storage::Schema;

/// The database of the context manager.
///
/// Versions and undo tokens come from one counter for each user, `usage.revision`: none is used twice,
/// not even after a context was deleted and begun anew, and a user cannot tell from his numbers how
/// much others store. For the same reason the words of each user are in an index of their own, a table
/// `words_<uid>` that is made when it is first needed.
pub(in super::super) const SCHEMA: Schema = Schema {
    name: "context_manager",
    application_id: 0x6f70_6463,
    migrations: &[FIRST, SESSIONS, IDLE],
};

/// The `until` of what the current version has.
pub(super) const FOREVER: i64 = i64::MAX;

const FIRST: &str = "
-- What a user has. `contexts` counts those that are not deleted; `bytes` counts everything.
CREATE TABLE usage (
    uid INTEGER PRIMARY KEY,
    revision INTEGER NOT NULL,
    contexts INTEGER NOT NULL,
    bytes INTEGER NOT NULL
);

-- A context and what its current version has. Times are microseconds since the epoch. A deleted one has
-- the number of its undo token. `base` is the version that last replaced everything in it. `tags` are sorted and each ends in a NUL.
CREATE TABLE context (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid INTEGER NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    base INTEGER NOT NULL,
    next_item INTEGER NOT NULL,
    next_position INTEGER NOT NULL,
    items INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    size INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    expires_at INTEGER,
    deleted_at INTEGER,
    undo INTEGER,
    tags BLOB NOT NULL
);
CREATE UNIQUE INDEX context_name ON context (uid, name) WHERE undo IS NULL;
CREATE UNIQUE INDEX context_undo ON context (uid, undo) WHERE undo IS NOT NULL;
CREATE INDEX context_expiry ON context (expires_at) WHERE expires_at IS NOT NULL;
CREATE INDEX context_deleted ON context (deleted_at) WHERE deleted_at IS NOT NULL;

-- The versions that are kept. `compacted` is 1 for one that a compaction replaced.
CREATE TABLE version (
    context INTEGER NOT NULL,
    number INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    cause INTEGER NOT NULL,
    items INTEGER NOT NULL,
    tokens INTEGER NOT NULL,
    size INTEGER NOT NULL,
    compacted INTEGER NOT NULL,
    PRIMARY KEY (context, number)
) WITHOUT ROWID;

-- Which content stands where in which versions: in those from `since` on and below `until`. A place
-- that a compaction ended says why, and how much the item looked like something to keep.
CREATE TABLE place (
    context INTEGER NOT NULL,
    item INTEGER NOT NULL,
    since INTEGER NOT NULL,
    until INTEGER NOT NULL,
    position INTEGER NOT NULL,
    pinned INTEGER NOT NULL,
    content INTEGER NOT NULL,
    reason INTEGER,
    score REAL,
    PRIMARY KEY (context, item, since)
) WITHOUT ROWID;
CREATE INDEX place_until ON place (context, until, position);
CREATE INDEX place_content ON place (content);

-- Texts. They never change, and one may stand in several versions and contexts of its user. The text
-- comes last, so that reading what is before it never touches a large one.
CREATE TABLE content (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    uid INTEGER NOT NULL,
    role INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    importance REAL NOT NULL,
    tokens INTEGER NOT NULL,
    size INTEGER NOT NULL,
    shortened INTEGER NOT NULL,
    source TEXT NOT NULL,
    text TEXT NOT NULL
);
";

/// Contexts of sessions: `session` is empty for a user's own.
const SESSIONS: &str = "
ALTER TABLE context ADD COLUMN session TEXT NOT NULL DEFAULT '';
-- 1 if it becomes the user's own when its session ends.
ALTER TABLE context ADD COLUMN auto_save INTEGER NOT NULL DEFAULT 0;
DROP INDEX context_name;
CREATE UNIQUE INDEX context_name ON context (uid, session, name) WHERE undo IS NULL;
CREATE INDEX context_session ON context (session) WHERE session > '';
";

/// Finds the sessions in which nothing was changed for long.
const IDLE: &str = "
DROP INDEX context_session;
CREATE INDEX context_session ON context (session, uid, updated_at) WHERE session > '';
CREATE INDEX context_idle ON context (updated_at) WHERE session > '';
";
