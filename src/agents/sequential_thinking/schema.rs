//! The tables of `sequential_thinking.db`. What the rows mean stands here; who changes them is
//! elsewhere.

use crate::storage::Schema;

/// The database of the sequential thinking agent.
pub(super) const SCHEMA: Schema =
    Schema { name: "sequential_thinking", application_id: 0x6f70_6473, migrations: &[FIRST] };

const FIRST: &str = "
-- A chain. `name` is its id in the contract; kinds and statuses are the contract's numbers; times are
-- microseconds since the epoch; `tags` and `goals` are JSON arrays. `steps` and `open` count its
-- steps and those that are open. `numbered` is 1 if the form with nine fields started it.
CREATE TABLE chain (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    uid INTEGER NOT NULL,
    status INTEGER NOT NULL,
    numbered INTEGER NOT NULL,
    steps INTEGER NOT NULL,
    open INTEGER NOT NULL,
    max_steps INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    tags TEXT NOT NULL,
    goals TEXT NOT NULL,
    problem TEXT NOT NULL,
    context TEXT NOT NULL,
    conclusion TEXT NOT NULL
);
CREATE INDEX chain_user ON chain (uid, created_at, name);
CREATE INDEX chain_user_age ON chain (uid, updated_at);
CREATE INDEX chain_age ON chain (updated_at);

-- A step. `branch` is a position in `branch`; `parents` are step numbers with spaces between them;
-- `scores` is a JSON object; `changed` is the chain's revision that last changed it. The thought
-- comes last, so that reading what is before it never touches a long one.
CREATE TABLE step (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    chain INTEGER NOT NULL,
    step INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    status INTEGER NOT NULL,
    branch INTEGER NOT NULL,
    parents TEXT NOT NULL,
    number INTEGER NOT NULL,
    confidence REAL,
    revises INTEGER,
    superseded_by INTEGER,
    resolved_by INTEGER,
    resolved_at INTEGER,
    created_at INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    scores TEXT NOT NULL,
    reason TEXT NOT NULL,
    note TEXT NOT NULL,
    thought TEXT NOT NULL
);
CREATE UNIQUE INDEX step_place ON step (chain, step);

CREATE TABLE branch (
    chain INTEGER NOT NULL,
    position INTEGER NOT NULL,
    name TEXT NOT NULL,
    from_step INTEGER,
    head INTEGER,
    merged_by INTEGER,
    PRIMARY KEY (chain, position)
) WITHOUT ROWID;

-- What supports a step: `kind` is 1 for a task, 2 for a URI, 3 for a text, 4 for a step, whose number
-- is the value.
CREATE TABLE evidence (
    chain INTEGER NOT NULL,
    step INTEGER NOT NULL,
    position INTEGER NOT NULL,
    kind INTEGER NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (chain, step, position)
) WITHOUT ROWID;

-- The words of the thoughts. Each row also holds a word that stands for its user and one for its
-- chain, so that a search only ever looks at the caller's.
CREATE VIEW step_words AS
    SELECT step.id AS id, 'u' || chain.uid || ' c' || chain.id AS scope, step.thought AS thought
    FROM step JOIN chain ON chain.id = step.chain;
CREATE VIRTUAL TABLE words USING fts5 (
    scope, thought,
    content = 'step_words', content_rowid = 'id', tokenize = 'unicode61 remove_diacritics 2'
);
";
