//! What the ledger holds of one client's calls of one operation over one way, as it is read. What is made
//! of it is decided elsewhere.

use rusqlite::{Connection, Row, params};

use super::Ledger;
use super::histogram::Histogram;
use super::schema;
use crate::error::Error;
use crate::proto::opdbus::v1::{ClientIdentity, Stage, Use, Way};
use crate::storage::{Failure, time};

/// What one client did with one operation over one way.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The client.
    pub client: ClientIdentity,
    /// The agent.
    pub agent: String,
    /// The operation, as `Recall`.
    pub operation: String,
    /// True if it is an agent's, which alone can be moved; not op-dbus's own.
    pub is_agents: bool,
    /// The way.
    pub way: Way,
    /// When it was first seen, in microseconds since the epoch.
    pub first: i64,
    /// When it was last seen.
    pub last: i64,
    /// How many calls have ended.
    pub calls: u64,
    /// Of them with an error.
    pub errors: u64,
    /// How many got no answer, as the client told.
    pub lost: u64,
    /// How long those took that ended well, since it was first seen.
    pub times: Histogram,
}

/// The columns of a row, from `client` as c, `operation` as o and `tally` as t, up to the sums.
pub(super) const COLUMNS: &str = "c.uid, c.others, c.executable, c.unit, c.token, c.name,
    o.agent, o.name, t.way, t.first_seen, t.last_seen, t.times,
    o.is_agents";

/// How many columns those are.
const SUMS: usize = 13;

impl Seen {
    /// Reads the row whose columns are [`COLUMNS`], calls, errors and lost calls.
    pub(super) fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        let way: i32 = row.get(8)?;
        let times: Vec<u8> = row.get(11)?;
        Ok(Self {
            client: schema::client(row, 0)?,
            agent: row.get(6)?,
            operation: row.get(7)?,
            way: Way::try_from(way).unwrap_or_default(),
            first: row.get(9)?,
            last: row.get(10)?,
            times: Histogram::decode(&times),
            is_agents: row.get(12)?,
            calls: row.get(SUMS)?,
            errors: row.get(SUMS + 1)?,
            lost: row.get(SUMS + 2)?,
        })
    }

    /// The operation, as `memory.Recall`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}.{}", self.agent, self.operation)
    }

    /// It as the contract has it; `stage`: that of such calls now.
    #[must_use]
    pub fn into_use(self, stage: Stage) -> Use {
        let quantile = |part| prost_types::Duration::try_from(self.times.quantile(part)?).ok();
        Use {
            operation: self.name(),
            way: self.way.into(),
            first_seen: Some(time::timestamp(self.first)),
            last_seen: Some(time::timestamp(self.last)),
            calls: self.calls,
            errors: self.errors,
            lost: self.lost,
            p50: quantile(0.5),
            p99: quantile(0.99),
            stage: stage.into(),
            client: Some(self.client),
        }
    }
}

impl Ledger {
    /// Shows `visit` everything that was seen since `since` (microseconds since the epoch), in no order
    /// that means anything: the calls, errors and lost calls since then. That is exact to the hour, and
    /// further back than three days to the day. Gives what it made of `state`.
    ///
    /// # Errors
    /// The store's, and that of [`Ledger::flush`].
    ///
    /// # Cancel safety
    /// As [`crate::storage::Store::scan`].
    pub async fn visit<T: Send + 'static>(
        &self,
        since: i64,
        mut state: T,
        mut visit: impl FnMut(&mut T, Seen) + Send + 'static,
    ) -> Result<T, Error> {
        self.flush().await?;
        let query = move |database: &Connection| {
            seen_since(database, since, |seen| visit(&mut state, seen))?;
            Ok(state)
        };
        self.store.scan(query).await
    }
}

/// Gives everything that was seen since `since`, one after the other.
pub(super) fn seen_since(
    database: &Connection,
    since: i64,
    mut visit: impl FnMut(Seen),
) -> Result<(), Failure> {
    // The plus keeps SQLite from the index, after which it would have to sort all of it in memory.
    let mut statement = database.prepare_cached(&format!(
        "SELECT {COLUMNS}, s.calls, s.errors, s.lost
         FROM (SELECT client, operation, way,
                   sum(calls) AS calls, sum(errors) AS errors, sum(lost) AS lost
               FROM slice WHERE +start >= ?1 GROUP BY client, operation, way) AS s
         JOIN tally AS t
             ON t.client = s.client AND t.operation = s.operation AND t.way = s.way
         JOIN client AS c ON c.id = s.client
         JOIN operation AS o ON o.id = s.operation"
    ))?;
    let mut rows = statement.query(params![schema::slices_since(since, time::now())])?;
    while let Some(row) = rows.next()? {
        visit(Seen::read(row)?);
    }
    Ok(())
}
