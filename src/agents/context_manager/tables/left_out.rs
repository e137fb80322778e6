//! What compactions left out, from the places that they ended.

use rusqlite::{Connection, params};

use super::content::{has_words, words_table};
use super::items::{ITEM_COLUMNS, read_item};
use super::read::Head;
use super::schema::FOREVER;
use crate::proto::opdbus::agent::context_manager::v1::{LeftOut, Reason};
use crate::storage::Failure;

/// A list ends with the item that makes its texts larger than this, in bytes.
const MAX_BYTES: usize = 16 << 20;

/// What to find.
pub(in super::super) struct Wanted<'a> {
    /// Only what the compaction left out that made this version.
    pub(in super::super) version: Option<i64>,
    /// Only what matches this, as FTS5 takes it.
    pub(in super::super) expression: Option<&'a str>,
    pub(in super::super) limit: usize,
}

/// A place that a compaction ended, with an item that is not back in the current version.
const CONDITION: &str = "place.context = ?1 AND reason IS NOT NULL AND until = ifnull(?2, until)
     AND NOT EXISTS (SELECT 1 FROM place AS now WHERE now.context = place.context
        AND now.item = place.item AND now.until = ?3 AND now.content = place.content)";

/// What compactions left out of a context, best first, and how many there are in all.
pub(in super::super) fn left_out(
    database: &Connection,
    uid: u32,
    head: &Head,
    wanted: &Wanted<'_>,
) -> Result<(Vec<LeftOut>, u32), Failure> {
    if wanted.expression.is_some() && !has_words(database, uid)? {
        return Ok((Vec::new(), 0));
    }
    let table = words_table(uid);
    let (score, matching) = match wanted.expression {
        Some(_) => (format!("-bm25({table})"), format!("AND {table} MATCH ?4")),
        None => ("place.score".to_owned(), "AND ?4 IS NULL".to_owned()),
    };
    let index = match wanted.expression {
        Some(_) => format!("{table} JOIN content ON content.id = {table}.rowid"),
        None => "content".to_owned(),
    };
    let from = format!(
        "FROM {index} JOIN place ON place.content = content.id WHERE {CONDITION} {matching}"
    );
    let parameters = params![head.id, wanted.version, FOREVER, wanted.expression];
    let total = database
        .prepare_cached(&format!("SELECT count(*) {from}"))?
        .query_row(parameters, |row| row.get(0))?;
    let mut select = database.prepare_cached(&format!(
        "SELECT {ITEM_COLUMNS}, place.until, place.reason, {score} AS points {from}
         ORDER BY points DESC, place.item"
    ))?;
    let mut rows = select.query(parameters)?;
    let mut found = Vec::new();
    let mut bytes = 0;
    while found.len() < wanted.limit
        && bytes < MAX_BYTES
        && let Some(row) = rows.next()?
    {
        let item = read_item(row)?;
        bytes += item.text.len();
        let reason: i32 = row.get(12)?;
        found.push(LeftOut {
            item: Some(item.into_message()),
            version: row.get::<_, i64>(11)?.unsigned_abs(),
            reason: Reason::try_from(reason).unwrap_or_default().into(),
            score: row.get(13)?,
        });
    }
    Ok((found, total))
}
