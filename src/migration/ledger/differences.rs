//! What only clients see: calls that never got an answer, and what comparing both ways found. It is kept
//! as they tell it, bounded; nothing is concluded from it here.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::pending::Counts;
use super::schema::{DAY, Line, stored, write_lines};
use super::{Ledger, micros, way_name};
use crate::call::{Context, client_name};
use crate::contract::Operation;
use crate::error::Error;
use crate::migration::identity;
use crate::proto::opdbus::v1::{
    Comparison, Difference, ListDifferencesResponse, ReportCallsRequest, Way,
};
use crate::storage::{Failure, time};

/// The most entries of each kind in a report.
const ENTRIES_MAX: usize = 1000;

/// The most samples of one comparison in a report.
const SAMPLES_MAX: usize = 8;

/// The most calls that one entry tells of.
const CALLS_MAX: u64 = 1_000_000_000;

/// The longest text of a sample, in characters.
const TEXT_MAX: usize = 200;

/// How many samples of one operation are kept.
const SAMPLES_KEPT: i64 = 64;

/// How many samples are listed, over all operations.
const SAMPLES_LISTED: usize = 4096;

/// A report that was checked.
struct Checked {
    lost: Vec<(Arc<Operation>, Way, u64)>,
    compared: Vec<(Arc<Operation>, Comparison)>,
}

impl Ledger {
    /// Takes what a client saw since its last report. `find` finds an operation by the agent's id and
    /// its name.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field, those of `find` and the store's; then none of it is kept.
    ///
    /// # Cancel safety
    /// All of it is kept or nothing.
    pub async fn report_calls(
        &self,
        context: &Context,
        request: ReportCallsRequest,
        find: impl Fn(&str, &str) -> Result<Arc<Operation>, Error>,
    ) -> Result<(), Error> {
        let name = match request.name.as_str() {
            "" => context.client_name.clone(),
            name => Some(client_name(name).map_err(|problem| Error::invalid("name", problem))?),
        };
        let Checked { lost, compared } = check(request, find)?;
        let metrics = self.shared.metrics.clone();
        let told = (
            lost.iter().map(|(_, way, calls)| (*way, *calls)).collect::<Vec<_>>(),
            compared.iter().map(|(_, it)| (it.compared, it.differed)).collect::<Vec<_>>(),
        );
        let shared = Arc::clone(&self.shared);
        let caller = Arc::clone(&context.caller);
        let write = move |database: &Connection| {
            let client = identity(&caller, name.as_deref());
            let mut books = shared.books();
            let (client, _) = books.client(client, shared.room());
            let now = time::now();
            let mut lines = Vec::with_capacity(lost.len());
            for (operation, way, calls) in lost {
                let operation = books.operation(&operation);
                let counts = Counts { first: now, last: now, ..Counts::default() };
                lines.push(Line { client, operation, way, counts, lost: calls });
            }
            for (operation, found) in compared {
                let operation = books.operation(&operation);
                write_comparison(database, (client, operation, now), &found)?;
            }
            books.write_names(database)?;
            write_lines(database, &lines)
        };
        self.store.write(write, |()| ()).await?;
        for (way, calls) in told.0 {
            metrics.lost(way_name(way), calls);
        }
        for (compared, differed) in told.1 {
            metrics.compared(compared, differed);
        }
        Ok(())
    }

    /// What was compared of `operation` (as `memory.Recall`; empty: of every one), with samples of what
    /// differed, the last first.
    ///
    /// # Errors
    /// The store's.
    ///
    /// # Cancel safety
    /// As [`Ledger::visit`].
    pub async fn list_differences(
        &self,
        operation: String,
    ) -> Result<ListDifferencesResponse, Error> {
        let query = move |database: &Connection| comparisons(database, &operation);
        let comparisons = self.store.scan(query).await?;
        Ok(ListDifferencesResponse { comparisons })
    }
}

fn check(
    request: ReportCallsRequest,
    find: impl Fn(&str, &str) -> Result<Arc<Operation>, Error>,
) -> Result<Checked, Error> {
    let find = |field: String, name: &str| match name.split_once('.') {
        Some((agent, operation)) => find(agent, operation),
        None => Err(Error::invalid(field, "is no operation, as \"memory.Recall\"")),
    };
    bounded("lost", request.lost.len(), ENTRIES_MAX)?;
    bounded("comparisons", request.comparisons.len(), ENTRIES_MAX)?;
    let mut checked = Checked { lost: Vec::new(), compared: Vec::new() };
    for (index, lost) in request.lost.into_iter().enumerate() {
        let operation = find(format!("lost[{index}].operation"), &lost.operation)?;
        let way = lost.way();
        if way == Way::Unspecified {
            return Err(Error::invalid(format!("lost[{index}].way"), "is missing"));
        }
        few(format!("lost[{index}].calls"), lost.calls)?;
        checked.lost.push((operation, way, lost.calls));
    }
    let now = time::now();
    for (index, mut found) in request.comparisons.into_iter().enumerate() {
        let at = |field: &str| format!("comparisons[{index}].{field}");
        let operation = find(at("operation"), &found.operation)?;
        few(at("compared"), found.compared)?;
        if found.differed > found.compared {
            return Err(Error::invalid(at("differed"), "must not be more than were compared"));
        }
        bounded(&at("samples"), found.samples.len(), SAMPLES_MAX)?;
        for (number, sample) in found.samples.iter_mut().enumerate() {
            check_sample(&at(&format!("samples[{number}].")), sample, now)?;
        }
        checked.compared.push((operation, found));
    }
    Ok(checked)
}

fn check_sample(at: &str, sample: &mut Difference, now: i64) -> Result<(), Error> {
    let texts = [("field", &sample.field), ("dbus", &sample.dbus), ("grpc", &sample.grpc)];
    for (name, text) in texts {
        if text.chars().count() > TEXT_MAX || text.chars().any(char::is_control) {
            let problem = format!("must be one line of {TEXT_MAX} characters at most");
            return Err(Error::invalid(format!("{at}{name}"), problem));
        }
    }
    let seen = sample.seen.map_or(Ok(now), |time| micros(&format!("{at}seen"), time))?;
    // What a client with a wrong clock saw, it saw by now.
    sample.seen = Some(time::timestamp(seen.min(now)));
    Ok(())
}

fn bounded(field: &str, count: usize, most: usize) -> Result<(), Error> {
    match count <= most {
        true => Ok(()),
        false => {
            Err(Error::invalid(field, format!("must have {most} entries at most, not {count}")))
        }
    }
}

fn few(field: String, calls: u64) -> Result<(), Error> {
    match calls <= CALLS_MAX {
        true => Ok(()),
        false => Err(Error::invalid(field, format!("must be {CALLS_MAX} at most, not {calls}"))),
    }
}

fn write_comparison(
    database: &Connection,
    (client, operation, now): (i64, i64, i64),
    found: &Comparison,
) -> Result<(), Failure> {
    database
        .prepare_cached(
            "INSERT INTO comparison VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT DO UPDATE SET last_seen = excluded.last_seen,
                 compared = compared + excluded.compared, differed = differed + excluded.differed",
        )?
        .execute(params![
            client,
            operation,
            now - now.rem_euclid(DAY),
            now,
            stored(found.compared),
            stored(found.differed)
        ])?;
    if found.samples.is_empty() {
        return Ok(());
    }
    let mut sample = database.prepare_cached(
        "INSERT INTO difference (operation, seen, field, dbus, grpc) VALUES (?1, ?2, ?3, ?4, ?5)",
    )?;
    for Difference { field, dbus, grpc, seen } in &found.samples {
        let seen = seen.map_or(Ok(now), |time| micros("seen", time))?;
        sample.execute(params![operation, seen, field, dbus, grpc])?;
    }
    database
        .prepare_cached(
            "DELETE FROM difference WHERE operation = ?1 AND id NOT IN
                 (SELECT id FROM difference WHERE operation = ?1 ORDER BY seen DESC, id DESC LIMIT ?2)",
        )?
        .execute(params![operation, SAMPLES_KEPT])?;
    Ok(())
}

fn comparisons(database: &Connection, wanted: &str) -> Result<Vec<Comparison>, Failure> {
    let mut operations = database.prepare_cached(
        "SELECT o.id, o.agent || '.' || o.name AS operation, sum(c.compared), sum(c.differed)
         FROM comparison AS c JOIN operation AS o ON o.id = c.operation
         WHERE ?1 = '' OR o.agent || '.' || o.name = ?1
         GROUP BY o.id ORDER BY operation",
    )?;
    let mut samples = database.prepare_cached(
        "SELECT field, dbus, grpc, seen FROM difference
         WHERE operation = ?1 ORDER BY seen DESC, id DESC",
    )?;
    let mut comparisons = Vec::new();
    let mut room = SAMPLES_LISTED;
    let mut rows = operations.query([wanted])?;
    while let Some(row) = rows.next()? {
        let id: i64 = row.get(0)?;
        let found = samples.query_map([id], |row| {
            Ok(Difference {
                field: row.get(0)?,
                dbus: row.get(1)?,
                grpc: row.get(2)?,
                seen: Some(time::timestamp(row.get(3)?)),
            })
        })?;
        let samples = found.take(room).collect::<Result<Vec<_>, _>>()?;
        room -= samples.len();
        comparisons.push(Comparison {
            operation: row.get(1)?,
            compared: row.get(2)?,
            differed: row.get(3)?,
            samples,
        });
    }
    Ok(comparisons)
}
