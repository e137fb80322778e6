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
    is_agents INTEGER NOT NULL,
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
    pub(super) operations: Vec<(&'a OperationName, Numbered)>,
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
        database.prepare_cached("INSERT OR REPLACE INTO operation VALUES (?1, ?2, ?3, ?4)")?;
    for ((agent, name), Numbered { id, is_agents }) in &names.operations {
        operation.execute(params![id, agent, name, is_agents])?;
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
    let mut statement = database.prepare("SELECT id, agent, name, is_agents FROM operation")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let numbered = Numbered { id: row.get(0)?, is_agents: row.get(3)? };
        operations.insert((row.get(1)?, row.get(2)?), numbered);
    }
    Ok((clients, operations))
}

/// The agent and the name of an operation.
pub(super) type OperationName = (Box<str>, Box<str>);

/// The operations that the file knows.
pub(super) type Operations = HashMap<OperationName, Numbered>;

/// The number of an operation, and whether it is an agent's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbered {
    pub(super) id: i64,
    pub(super) is_agents: bool,
}

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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// When the test is: noon of a day.
    const NOW: i64 = 20_000 * DAY + 12 * HOUR;

    fn line(client: i64, at: i64) -> Line {
        let mut counts = Counts { first: at, last: at, calls: 2, errors: 1, ..Counts::default() };
        counts.times.add(Duration::from_millis(1));
        Line { client, operation: 1, way: Way::Dbus, counts, lost: 3 }
    }

    fn database(lines: &[Line]) -> Connection {
        let database = Connection::open_in_memory().unwrap();
        database.execute_batch(FIRST).unwrap();
        let client = ClientIdentity { uid: 7, ..ClientIdentity::default() };
        let name = ("memory".into(), "Recall".into());
        let names = Names {
            clients: vec![(1, &client), (2, &client)],
            operations: vec![(&name, Numbered { id: 1, is_agents: true })],
        };
        write_names(&database, &names).unwrap();
        write_lines(&database, lines).unwrap();
        database
    }

    /// Of all slices: when it begins, and its calls, errors and lost calls.
    fn slices(database: &Connection) -> Vec<(i64, i64, i64, i64)> {
        let mut statement = database
            .prepare("SELECT start, calls, errors, lost FROM slice ORDER BY client, start")
            .unwrap();
        let rows =
            statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)));
        rows.unwrap().collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn what_is_added_adds_up() {
        let database = database(&[line(1, NOW), line(1, NOW + 5)]);
        write_lines(&database, &[line(1, NOW - 2 * HOUR)]).unwrap();
        let row = database.query_row(
            "SELECT first_seen, last_seen, calls, errors, lost, times FROM tally",
            [],
            |row| {
                let times: Vec<u8> = row.get(5)?;
                let seen: (i64, i64) = (row.get(0)?, row.get(1)?);
                let counts: [i64; 3] = [row.get(2)?, row.get(3)?, row.get(4)?];
                Ok((seen, counts, Histogram::decode(&times).count()))
            },
        );
        assert_eq!(row.unwrap(), ((NOW - 2 * HOUR, NOW + 5), [6, 3, 9], 3));
        assert_eq!(slices(&database), [(NOW - 2 * HOUR, 2, 1, 3), (NOW, 4, 2, 6)]);
    }

    #[test]
    fn the_hours_of_old_days_are_put_together_and_still_found() {
        let old = NOW - 5 * DAY;
        let lines = [line(1, old), line(1, old + HOUR), line(2, old), line(1, NOW)];
        let database = database(&lines);
        while fold(&database, NOW).unwrap() {}
        let day = old - 12 * HOUR;
        assert_eq!(slices(&database), [(day, 4, 2, 6), (NOW, 2, 1, 3), (day, 2, 1, 3)]);
        assert!(slices_since(old + 2 * HOUR, NOW) <= day, "the whole day counts");
        assert_eq!(slices_since(NOW + 5, NOW), NOW, "lately the whole hour does");
        assert!(!fold(&database, NOW).unwrap(), "nothing is left to do");
    }

    #[test]
    fn whoever_was_not_seen_for_long_is_forgotten() {
        let database = database(&[line(1, NOW - 9 * DAY), line(2, NOW)]);
        assert_eq!(forget(&database, NOW - DAY).unwrap(), (vec![1], false));
        let left: i64 =
            database.query_row("SELECT client FROM tally", [], |row| row.get(0)).unwrap();
        assert_eq!((left, slices(&database).len()), (2, 1));
    }
}
