//! Where rules are, on disk in `rollout.db`, with who moved them and when. It decides nothing.

use std::sync::Arc;

use rusqlite::{Connection, Row, params};

use super::Position;
use super::state::State;
use crate::error::Error;
use crate::status::Status;
use crate::storage::{self, Failure, NoChore, Schema, Store};

const SCHEMA: Schema =
    Schema { name: "rollout", application_id: 0x6f70_6472, migrations: &[FIRST] };

const FIRST: &str = "
-- A rule. `own_stage` and `own_share` are what the configuration said when the row was written: if it says
-- something else, the row no longer holds. `held_by` is empty unless it is held; `changed_at` is in
-- microseconds since the epoch.
CREATE TABLE rule (
    name TEXT PRIMARY KEY,
    own_stage TEXT NOT NULL,
    own_share INTEGER NOT NULL,
    stage TEXT NOT NULL,
    share INTEGER NOT NULL,
    held_by TEXT NOT NULL,
    changed_at INTEGER NOT NULL,
    changed_by TEXT NOT NULL,
    reason TEXT NOT NULL
) WITHOUT ROWID;
";

/// Where the states of rules are kept.
pub(super) struct Records(Store);

/// One rule's state, and what the configuration said of it then.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) own: Position,
    pub(super) state: State,
}

impl Records {
    pub(super) fn open(config: &storage::Config, status: &Arc<Status>) -> Result<Self, Error> {
        Store::open(config, &SCHEMA, status, NoChore).map(Self)
    }

    /// Everything that is kept.
    pub(super) fn all(&self) -> Result<Vec<Record>, Error> {
        self.0.read(|database| {
            let mut statement = database.prepare(
                "SELECT name, own_stage, own_share, stage, share, held_by, changed_at, changed_by,
                 reason FROM rule",
            )?;
            let rows = statement.query_map([], record)?.collect::<Result<Vec<_>, _>>()?;
            // Only we write here; what cannot be read counts as not there.
            Ok(rows.into_iter().flatten().collect())
        })
    }

    /// Keeps these and forgets all others.
    pub(super) async fn replace(&self, records: Vec<Record>) -> Result<(), Error> {
        self.0.write(move |database| write(database, &records), |()| {}).await
    }
}

fn write(database: &Connection, records: &[Record]) -> Result<(), Failure> {
    database.execute("DELETE FROM rule", [])?;
    let mut insert =
        database.prepare_cached("INSERT INTO rule VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
    for Record { name, own, state } in records {
        insert.execute(params![
            name,
            own.name(),
            own.share(),
            state.position.name(),
            state.position.share(),
            state.held_by,
            state.changed,
            state.changed_by,
            state.reason,
        ])?;
    }
    Ok(())
}

fn record(row: &Row<'_>) -> Result<Option<Record>, rusqlite::Error> {
    let stage: String = row.get(3)?;
    let own: String = row.get(1)?;
    let (Some(position), Some(own)) =
        (Position::named(&stage, row.get(4)?), Position::named(&own, row.get(2)?))
    else {
        return Ok(None);
    };
    let state = State {
        position,
        held_by: row.get(5)?,
        changed: row.get(6)?,
        changed_by: row.get(7)?,
        reason: row.get(8)?,
    };
    Ok(Some(Record { name: row.get(0)?, own, state }))
}
