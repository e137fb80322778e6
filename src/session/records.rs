//! The record of sessions on disk, `sessions.db`, for which nobody waits: it follows what is in memory.
//! After a restart the sessions of the record go on, and the agents of those that had ended are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, Row, params};
use tokio::sync::Mutex;

use super::Sessions;
use super::table::{Lease, Said, Session, Table};
use super::token::Token;
use crate::call::{SessionScope, Transport};
use crate::error::Error;
use crate::status::Status;
use crate::storage::{self, Failure, NoChore, Schema, Store};

/// How many records one write takes at most.
const BATCH: usize = 1024;

const SCHEMA: Schema =
    Schema { name: "sessions", application_id: 0x6f70_6465, migrations: &[FIRST] };

const FIRST: &str = "
-- A session, or one that has ended (`ended`) whose agents have yet to be told. `started_at` is in
-- microseconds since the epoch; `held` tells that something held it; `metadata` is a JSON object and
-- `agents` a JSON array of ids.
CREATE TABLE session (
    uid INTEGER NOT NULL,
    id TEXT NOT NULL,
    token BLOB NOT NULL,
    transport TEXT NOT NULL,
    started_at INTEGER NOT NULL,
    idle_ms INTEGER NOT NULL,
    held INTEGER NOT NULL,
    ended INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    client_name TEXT NOT NULL,
    metadata TEXT NOT NULL,
    agents TEXT NOT NULL,
    PRIMARY KEY (uid, id)
) WITHOUT ROWID;
";

/// Where sessions are recorded.
pub(super) struct Records {
    store: Store,
    /// Held while a batch is written, so that a later one is not overtaken.
    writing: Mutex<()>,
}

/// What the record of a session is to be.
enum Record {
    Session(Box<Recorded>),
    /// It has ended, and these agents are to be told.
    Ended(String),
    Gone,
}

/// A session as it is recorded.
struct Recorded {
    token: [u8; 16],
    transport: Transport,
    started_at: i64,
    idle_ms: i64,
    held: bool,
    calls: i64,
    client_name: String,
    metadata: String,
    agents: String,
}

impl Records {
    pub(super) fn open(config: &storage::Config, status: &Arc<Status>) -> Result<Self, Error> {
        let store = Store::open(config, &SCHEMA, status, NoChore)?;
        Ok(Self { store, writing: Mutex::default() })
    }
}

impl Sessions {
    /// Records everything that has changed, before this returns.
    ///
    /// # Errors
    /// The store's; what could not be recorded stays to be recorded.
    ///
    /// # Cancel safety
    /// What is being written is recorded, or stays to be recorded until the service ends.
    pub async fn record(&self) -> Result<(), Error> {
        loop {
            let _turn = self.records.writing.lock().await;
            let batch = records(&mut self.table());
            if batch.is_empty() {
                return Ok(());
            }
            let scopes: Vec<_> = batch.iter().map(|(scope, _)| scope.clone()).collect();
            let written =
                self.records.store.write(move |database| write(database, &batch), |()| {});
            if let Err(error) = written.await {
                self.table().unrecorded.extend(scopes);
                return Err(error);
            }
        }
    }

    /// Records everything, because the service ends.
    ///
    /// # Errors
    /// As [`Sessions::record`].
    pub async fn record_all(&self) -> Result<(), Error> {
        {
            let mut table = self.table();
            let scopes: Vec<_> = table.all().map(|session| session.scope.clone()).collect();
            table.unrecorded.extend(scopes);
        }
        self.record().await
    }

    /// Reads what is recorded into the table.
    pub(super) fn restore(self: &Arc<Self>) -> Result<(), Error> {
        let rows = self.records.store.read(read)?;
        let grace = self.config.load().grace;
        let mut ended = Vec::new();
        let mut table = self.table();
        for row in rows {
            match row {
                Taken::Session(session) => {
                    self.metrics.session_taken_up(session.transport);
                    table.insert(*session, grace);
                }
                Taken::Ended(scope, agents) => {
                    ended.push(self.telling(&mut table, scope, agents, Arc::default()));
                }
            }
        }
        for uid in table.uids() {
            self.want_agents(&mut table, uid);
        }
        drop(table);
        for telling in ended {
            tokio::spawn(telling.run());
        }
        Ok(())
    }
}

/// A bounded number of the records that are to be written.
fn records(table: &mut Table) -> Vec<(SessionScope, Record)> {
    let scopes: Vec<_> = table.unrecorded.iter().take(BATCH).cloned().collect();
    scopes
        .into_iter()
        .map(|scope| {
            table.unrecorded.remove(&scope);
            let session = table.find(scope.uid, &scope.id).map(|session| recorded(session));
            let record = match (session, table.ending.get(&scope)) {
                (Some(session), _) => Record::Session(Box::new(session)),
                (None, Some(ending)) => Record::Ended(json_list(&ending.agents)),
                (None, None) => Record::Gone,
            };
            (scope, record)
        })
        .collect()
}

fn recorded(session: &Session) -> Recorded {
    let metadata: BTreeMap<_, _> =
        session.said.metadata.iter().map(|(name, value)| (&**name, &**value)).collect();
    Recorded {
        token: *session.token.bytes(),
        transport: session.transport,
        started_at: session.started_at,
        idle_ms: i64::try_from(session.idle.as_millis()).unwrap_or(i64::MAX),
        held: session.is_held() || session.lease == Lease::Grace,
        calls: i64::try_from(session.calls).unwrap_or(i64::MAX),
        client_name: session.said.client_name.to_string(),
        metadata: serde_json::json!(metadata).to_string(),
        agents: json_list(&session.agents),
    }
}

fn json_list(texts: &[Box<str>]) -> String {
    serde_json::json!(texts.iter().map(|text| &**text).collect::<Vec<_>>()).to_string()
}

fn write(database: &Connection, batch: &[(SessionScope, Record)]) -> Result<(), Failure> {
    for (SessionScope { uid, id }, record) in batch {
        match record {
            Record::Session(session) => {
                database
                    .prepare_cached(
                        "INSERT OR REPLACE INTO session
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11)",
                    )?
                    .execute(params![
                        uid,
                        id,
                        session.token,
                        session.transport.name(),
                        session.started_at,
                        session.idle_ms,
                        session.held,
                        session.calls,
                        session.client_name,
                        session.metadata,
                        session.agents,
                    ])?;
            }
            Record::Ended(agents) => {
                database
                    .prepare_cached(
                        "INSERT OR REPLACE INTO session
                         VALUES (?1, ?2, zeroblob(16), '', 0, 0, 0, 1, 0, '', '{}', ?3)",
                    )?
                    .execute(params![uid, id, agents])?;
            }
            Record::Gone => {
                database
                    .prepare_cached("DELETE FROM session WHERE uid = ?1 AND id = ?2")?
                    .execute(params![uid, id])?;
            }
        }
    }
    Ok(())
}

/// What a row turns out to be.
enum Taken {
    Session(Box<Session>),
    Ended(SessionScope, Vec<Box<str>>),
}

fn read(database: &Connection) -> Result<Vec<Taken>, Failure> {
    let mut statement = database.prepare(
        "SELECT uid, id, token, transport, started_at, idle_ms, held, ended, calls, client_name,
         metadata, agents FROM session",
    )?;
    let rows = statement.query_map([], taken)?.collect::<Result<Vec<_>, _>>()?;
    Ok(rows)
}

fn taken(row: &Row<'_>) -> Result<Taken, rusqlite::Error> {
    let id: String = row.get(1)?;
    let scope = SessionScope { uid: row.get(0)?, id: id.into() };
    // Only we write here; what cannot be read is left out rather than in the way of the start.
    let agents: String = row.get(11)?;
    let agents: Vec<Box<str>> = serde_json::from_str(&agents).unwrap_or_default();
    if row.get(7)? {
        return Ok(Taken::Ended(scope, agents));
    }
    let transport: String = row.get(3)?;
    let metadata: String = row.get(10)?;
    let metadata: BTreeMap<Box<str>, Box<str>> =
        serde_json::from_str(&metadata).unwrap_or_default();
    let client_name: String = row.get(9)?;
    let said = Said {
        client_name: client_name.into(),
        metadata: metadata.into_iter().collect::<Vec<_>>().into(),
    };
    let transport = Transport::ALL.into_iter().find(|known| known.name() == transport);
    let transport = transport.unwrap_or(Transport::Grpc);
    let idle = Duration::from_millis(row.get(5)?);
    Ok(Taken::Session(Box::new(Session {
        token: Token::from_bytes(row.get(2)?),
        started_at: row.get(4)?,
        lease: if row.get(6)? { Lease::Grace } else { Lease::Idle },
        calls: row.get(8)?,
        agents,
        ..Session::new(scope, said, transport, idle)
    })))
}
