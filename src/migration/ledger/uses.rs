//! Lists the ledger in pages, the last seen first. What the stages mean is not known here.

use std::sync::Arc;

use rusqlite::params;

use super::row::{COLUMNS, Seen};
use super::{Ledger, Rules, micros};
use crate::error::Error;
use crate::proto::opdbus::v1::{ListUsesRequest, ListUsesResponse, Use};
use crate::storage::Failure;

/// How many uses a page has, unless it is said.
const PAGE: u32 = 100;

/// The most that a page has.
const PAGE_MAX: u32 = 1000;

/// Where a page begins: after the row with these.
type Place = (i64, i64, i64, i64);

impl Ledger {
    /// Lists what the ledger holds.
    ///
    /// # Errors
    /// `InvalidArgument` naming the field; the store's, and that of [`Ledger::flush`].
    ///
    /// # Cancel safety
    /// As [`Ledger::visit`].
    pub async fn list_uses(
        &self,
        request: ListUsesRequest,
        rules: Arc<dyn Rules>,
    ) -> Result<ListUsesResponse, Error> {
        let way = request.way().into();
        let count = match request.page_size {
            0 => PAGE,
            size if size <= PAGE_MAX => size,
            size => {
                let problem = format!("must be {PAGE_MAX} at most, not {size}");
                return Err(Error::invalid("page_size", problem));
            }
        };
        let since = request.since.map_or(Ok(0), |time| micros("since", time))?;
        let place = match request.page_token.as_str() {
            "" => (i64::MAX, 0, 0, 0),
            token => place(token)
                .ok_or_else(|| Error::invalid("page_token", "is none that ListUses has given"))?,
        };
        self.flush().await?;
        let ListUsesRequest { agent, client, .. } = request;
        let query = move |database: &rusqlite::Connection| {
            page(database, (way, &agent, &client, since), place, count, &*rules)
        };
        self.store.scan(query).await
    }
}

fn page(
    database: &rusqlite::Connection,
    (way, agent, client, since): (i32, &str, &str, i64),
    after: Place,
    count: u32,
    rules: &dyn Rules,
) -> Result<ListUsesResponse, Failure> {
    let mut statement = database.prepare_cached(&format!(
        "SELECT {COLUMNS}, t.calls, t.errors, t.lost, t.client, t.operation
         FROM tally AS t
         JOIN client AS c ON c.id = t.client
         JOIN operation AS o ON o.id = t.operation
         WHERE (t.last_seen, t.client, t.operation, t.way) < (?1, ?2, ?3, ?4)
             AND t.last_seen >= ?5
             AND (?6 = 0 OR t.way = ?6)
             AND (?7 = '' OR o.agent = ?7)
             AND (?8 = '' OR ?8 IN (c.executable, c.unit, c.token, c.name, CAST(c.uid AS TEXT)))
         ORDER BY t.last_seen DESC, t.client DESC, t.operation DESC, t.way DESC
         LIMIT ?9"
    ))?;
    let (last, by, of, over) = after;
    // One more tells whether there is a page after this one.
    let limit = i64::from(count) + 1;
    let mut rows =
        statement.query(params![last, by, of, over, since, way, agent, client, limit])?;
    let mut uses: Vec<Use> = Vec::new();
    let mut reached = after;
    while let Some(row) = rows.next()? {
        if uses.len() == count as usize {
            let (last, by, of, over) = reached;
            let next_page_token = format!("{last:x}.{by:x}.{of:x}.{over:x}");
            return Ok(ListUsesResponse { uses, next_page_token });
        }
        let seen = Seen::read(row)?;
        reached = (seen.last, row.get(16)?, row.get(17)?, i64::from(i32::from(seen.way)));
        let rule = rules.holding(&seen.client, &seen.agent, &seen.operation);
        uses.push(seen.into_use(rules.stage(rule)));
    }
    Ok(ListUsesResponse { uses, next_page_token: String::new() })
}

fn place(token: &str) -> Option<Place> {
    let mut parts = token.split('.').map(|part| i64::from_str_radix(part, 16).ok());
    let place = (parts.next()??, parts.next()??, parts.next()??, parts.next()??);
    parts.next().is_none().then_some(place)
}
