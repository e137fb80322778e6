//! The tables of the ledger, and how counts get into them. What is asked of them is asked elsewhere.

use std::collections::HashMap;

use rusqlite::{Connection, OptionalExtension as _, params};

use super::clients::Clients;
use super::histogram::Histogram;
use super::pending::Counts;
use crate::proto::opdbus::v1::{ClientIdentity, Way};
use crate::storage::{Failure, Schema};

/// The file `ledger.db`.
pub(super) const SCHEMA: Schema =
    Schema { name: "ledger", application_id: 0x6f70_646c, migrations: &[FIRST] };

/// Times are microseconds since the epoch. A `slice` is what a `tally` counted in one hour or, further
/// back than [`HOURS_KEPT`], in one day; `start` is where that begins. A `comparison` is one of a day.
const FIRST: &str = "
CREATE TABLE client (
    id INTEGER PRIMARY KEY,
    uid INTEGER,
    others INTEGER NOT NULL,
    executable TEXT NOT NULL,
    unit TEXT NOT NULL,
    token TEXT NOT NULL,
    name TEXT NOT NULL
) STRICT;
CREATE TABLE operation (
    id INTEGER PRIMARY KEY,
    agent TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (agent, name)
) STRICT;
CREATE TABLE tally (
    client INTEGER NOT NULL,
    operation INTEGER NOT NULL,
    way INTEGER NOT NULL,
    first_seen INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    times BLOB NOT NULL,
    PRIMARY KEY (client, operation, way)
) STRICT, WITHOUT ROWID;
CREATE INDEX tally_seen ON tally (last_seen);
CREATE TABLE slice (
    client INTEGER NOT NULL,
    operation INTEGER NOT NULL,
    way INTEGER NOT NULL,
    start INTEGER NOT NULL,
    calls INTEGER NOT NULL,
    errors INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    PRIMARY KEY (client, operation, way, start)
) STRICT, WITHOUT ROWID;
CREATE INDEX slice_start ON slice (start);
CREATE TABLE comparison (
    client INTEGER NOT NULL,
    operation INTEGER NOT NULL,
    start INTEGER NOT NULL,
    last_seen INTEGER NOT NULL,
    compared INTEGER NOT NULL,
    differed INTEGER NOT NULL,
    PRIMARY KEY (client, operation, start)
) STRICT, WITHOUT ROWID;
CREATE TABLE difference (
    id INTEGER PRIMARY KEY,
    operation INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    field TEXT NOT NULL,
    dbus TEXT NOT NULL,
    grpc TEXT NOT NULL
) STRICT;
CREATE INDEX difference_operation ON difference (operation, seen);
";

pub(super) const HOUR: i64 = 3_600_000_000;
pub(super) const DAY: i64 = 24 * HOUR;

/// For how long it is kept what was counted in each hour; further back it is what was in each day.
const HOURS_KEPT: i64 = 3 * DAY;

/// How many rows one write forgets or puts together at most, so that others do not wait for it.
const STEP: i64 = 4096;

/// What is to be written of one kind of calls.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) client: i64,
    pub(super) operation: i64,
    pub(super) way: Way,
    pub(super) counts: Counts,
    /// Calls without an answer, as the client told.
    pub(super) lost: u64,
}

impl Line {
    pub(super) fn key(&self) -> (i64, i64, Way) {
        (self.client, self.operation, self.way)
    }
}

/// Names that rows refer to by number.
#[derive(Debug, Default)]
pub(super) struct Names<'a> {
    pub(super) clients: Vec<(i64, &'a ClientIdentity)>,
    pub(super) operations: Vec<(i64, &'a str, &'a str)>,
}

/// Writes the names that are not there yet.
pub(super) fn write_names(database: &Connection, names: &Names<'_>) -> Result<(), Failure> {
    let mut client = database
        .prepare_cached("INSERT OR IGNORE INTO client VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
    for (id, it) in &names.clients {
        let uid = if it.unknown { None } else { Some(it.uid) };
        client.execute(params![id, uid, it.others, it.executable, it.unit, it.token, it.name])?;
    }
    let mut operation =
        database.prepare_cached("INSERT OR IGNORE INTO operation VALUES (?1, ?2, ?3)")?;
    for (id, agent, name) in &names.operations {
        operation.execute(params![id, agent, name])?;
    }
    Ok(())
}

/// Adds counts to what is there.
pub(super) fn write_lines(database: &Connection, lines: &[Line]) -> Result<(), Failure> {
    let mut known = database.prepare_cached(
        "SELECT times FROM tally WHERE client = ?1 AND operation = ?2 AND way = ?3",
    )?;
    let mut tally = database.prepare_cached(
        "INSERT INTO tally VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT DO UPDATE SET first_seen = min(first_seen, excluded.first_seen),
             last_seen = max(last_seen, excluded.last_seen), calls = calls + excluded.calls,
             errors = errors + excluded.errors, lost = lost + excluded.lost,
             times = excluded.times",
    )?;
    let mut slice = database.prepare_cached(
        "INSERT INTO slice VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT DO UPDATE SET calls = calls + excluded.calls,
             errors = errors + excluded.errors, lost = lost + excluded.lost",
    )?;
    for line in lines {
        let Line { client, operation, counts, lost, .. } = line;
        let way = i32::from(line.way);
        let times = known.query_row(params![client, operation, way], |row| row.get(0));
        let mut times = times
            .optional()?
            .map_or_else(Histogram::default, |stored: Vec<u8>| Histogram::decode(&stored));
        times.merge(&counts.times);
        let (calls, errors, lost) = (stored(counts.calls), stored(counts.errors), stored(*lost));
        let Counts { first, last, .. } = counts;
        let times = times.encode();
        tally.execute(params![client, operation, way, first, last, calls, errors, lost, times])?;
        let start = last - last.rem_euclid(HOUR);
        slice.execute(params![client, operation, way, start, calls, errors, lost])?;
    }
    Ok(())
}

/// A count as SQLite has it. Sums of such never overflow there.
pub(super) fn stored(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX).min(1 << 53)
}

/// Where slices begin that hold something since `since`, given the time `now`: it is exact to the hour,
/// and further back than three days to the day.
pub(super) fn slices_since(since: i64, now: i64) -> i64 {
    let length = if since < daily_before(now) { DAY } else { HOUR };
    since - since.rem_euclid(length)
}

/// Before this there is one slice for each day.
fn daily_before(now: i64) -> i64 {
    let time = now - HOURS_KEPT;
    time - time.rem_euclid(DAY)
}

/// Puts the hours of old days together; true if there is more to do.
pub(super) fn fold(database: &Connection, now: i64) -> Result<bool, Failure> {
    let mut hours = database.prepare_cached(
        "SELECT client, operation, way, start, calls, errors, lost FROM slice
         WHERE start < ?1 AND start % ?2 != 0 LIMIT ?3",
    )?;
    let mut day = database.prepare_cached(
        "INSERT INTO slice VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT DO UPDATE SET calls = calls + excluded.calls,
             errors = errors + excluded.errors, lost = lost + excluded.lost",
    )?;
    let mut remove = database.prepare_cached(
        "DELETE FROM slice WHERE client = ?1 AND operation = ?2 AND way = ?3 AND start = ?4",
    )?;
    let rows = hours
        .query_map(params![daily_before(now), DAY, STEP], |row| {
            let mut numbers = [0_i64; 7];
            for (index, number) in numbers.iter_mut().enumerate() {
                *number = row.get(index)?;
            }
            Ok(numbers)
        })?
        .collect::<Result<Vec<_>, _>>()?;
    for [client, operation, way, start, calls, errors, lost] in &rows {
        let begins = start - start.rem_euclid(DAY);
        day.execute(params![client, operation, way, begins, calls, errors, lost])?;
        remove.execute(params![client, operation, way, start])?;
    }
    Ok(rows.len() as i64 == STEP)
}

/// Forgets what was last seen before `oldest`; gives the clients of whom nothing is left, and whether
/// there is more to do.
pub(super) fn forget(database: &Connection, oldest: i64) -> Result<(Vec<i64>, bool), Failure> {
    let mut more = false;
    for statement in [
        "DELETE FROM tally WHERE (client, operation, way) IN
             (SELECT client, operation, way FROM tally WHERE last_seen < ?1 LIMIT ?2)",
        "DELETE FROM slice WHERE (client, operation, way, start) IN
             (SELECT client, operation, way, start FROM slice WHERE start < ?1 LIMIT ?2)",
        "DELETE FROM comparison WHERE (client, operation, start) IN
             (SELECT client, operation, start FROM comparison WHERE last_seen < ?1 LIMIT ?2)",
        "DELETE FROM difference WHERE id IN
             (SELECT id FROM difference WHERE seen < ?1 LIMIT ?2)",
    ] {
        more |= database.prepare_cached(statement)?.execute(params![oldest, STEP])? as i64 == STEP;
    }
    if more {
        return Ok((Vec::new(), true));
    }
    let mut idle = database.prepare_cached(
        "DELETE FROM client
         WHERE NOT EXISTS (SELECT 1 FROM tally WHERE tally.client = client.id)
             AND NOT EXISTS (SELECT 1 FROM comparison WHERE comparison.client = client.id)
         RETURNING id",
    )?;
    let gone = idle.query_map([], |row| row.get(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok((gone, false))
}

/// How many clients were seen on each way since `since`.
pub(super) fn clients_since(
    database: &Connection,
    since: i64,
) -> Result<HashMap<i32, i64>, Failure> {
    let mut statement = database.prepare_cached(
        "SELECT way, count(DISTINCT client) FROM tally WHERE last_seen >= ?1 GROUP BY way",
    )?;
    let counts = statement.query_map([since], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(counts.collect::<Result<_, _>>()?)
}

/// The clients and operations that the file knows.
pub(super) fn read_names(database: &Connection) -> Result<(Clients, Operations), Failure> {
    let mut clients = Clients::default();
    let mut statement = database.prepare("SELECT * FROM client")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        clients.known(row.get(0)?, client(row, 1)?);
    }
    let mut operations = Operations::default();
    let mut statement = database.prepare("SELECT id, agent, name FROM operation")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        operations.insert((row.get(1)?, row.get(2)?), row.get(0)?);
    }
    Ok((clients, operations))
}

/// The numbers of operations.
pub(super) type Operations = HashMap<(Box<str>, Box<str>), i64>;

/// The client that stands in a row from the column `at` on, as the table has it after its id.
pub(super) fn client(
    row: &rusqlite::Row<'_>,
    at: usize,
) -> Result<ClientIdentity, rusqlite::Error> {
    let uid: Option<u32> = row.get(at)?;
    Ok(ClientIdentity {
        uid: uid.unwrap_or_default(),
        unknown: uid.is_none(),
        others: row.get(at + 1)?,
        executable: row.get(at + 2)?,
        unit: row.get(at + 3)?,
        token: row.get(at + 4)?,
        name: row.get(at + 5)?,
    })
}
