//! Queries for the items of a version.

use rusqlite::{Connection, Row, params};

use super::read::Head;
use super::schema::FOREVER;
use super::{Content, Placed};
use crate::agents::context_manager::item::Item;
use crate::proto::opdbus::agent::context_manager::v1::Role;
use crate::storage::Failure;

macro_rules! head_columns {
    () => {
        "place.item, place.content, place.position, place.pinned, role, content.created_at, source,
         importance, content.tokens, shortened"
    };
}

macro_rules! item_columns {
    () => {
        concat!(head_columns!(), ", content.text")
    };
}

/// What [`read_item`] reads.
pub(super) const ITEM_COLUMNS: &str = item_columns!();

pub(super) fn read_item(row: &Row<'_>) -> Result<Item, rusqlite::Error> {
    let role: i32 = row.get(4)?;
    Ok(Item {
        id: row.get(0)?,
        content: row.get(1)?,
        position: row.get(2)?,
        pinned: row.get(3)?,
        role: Role::try_from(role).unwrap_or_default(),
        created_at: row.get(5)?,
        source: row.get(6)?,
        importance: row.get(7)?,
        tokens: row.get(8)?,
        shortened: row.get(9)?,
        text: row.get(10)?,
    })
}

/// The items of a version, in their order.
pub(in super::super) fn items(
    database: &Connection,
    head: &Head,
    number: i64,
) -> Result<Vec<Item>, Failure> {
    select(database, head, number, item_columns!())
}

/// The same with empty texts, which are not read: for a choice that does not look at them.
pub(in super::super) fn outlines(
    database: &Connection,
    head: &Head,
    number: i64,
) -> Result<Vec<Item>, Failure> {
    select(database, head, number, concat!(head_columns!(), ", ''"))
}

/// The text of an item.
pub(in super::super) fn text(database: &Connection, item: &Item) -> Result<String, Failure> {
    Ok(database
        .prepare_cached("SELECT text FROM content WHERE id = ?1")?
        .query_row([item.content], |row| row.get(0))?)
}

fn select(
    database: &Connection,
    head: &Head,
    number: i64,
    columns: &str,
) -> Result<Vec<Item>, Failure> {
    // The current version has an index of its own: it begins where all others end.
    let (versions, number) = if number == head.version {
        ("until = ?2", FOREVER)
    } else {
        ("until > ?2 AND since <= ?2", number)
    };
    let items = database
        .prepare_cached(&format!(
            "SELECT {columns} FROM place JOIN content ON content.id = place.content
             WHERE context = ?1 AND {versions} ORDER BY position"
        ))?
        .query_map([head.id, number], read_item)?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(items)
}

/// The items of a version, in their order, without their texts.
pub(in super::super) fn places(
    database: &Connection,
    head: &Head,
    number: i64,
) -> Result<Vec<Placed>, Failure> {
    let mut select = database.prepare_cached(
        "SELECT item, position, pinned, content.id, tokens, size
         FROM place JOIN content ON content.id = place.content
         WHERE context = ?1 AND until > ?2 AND since <= ?2 ORDER BY position",
    )?;
    let places = select.query_map([head.id, number], |row| {
        let content = Content { id: row.get(3)?, tokens: row.get(4)?, size: row.get(5)? };
        Ok(Placed { item: row.get(0)?, position: row.get(1)?, pinned: row.get(2)?, content })
    })?;
    Ok(places.collect::<Result<Vec<_>, _>>()?)
}

/// How many tokens the pinned and system items of the current version take.
pub(in super::super) fn fixed_tokens(database: &Connection, head: &Head) -> Result<u64, Failure> {
    Ok(database
        .prepare_cached(
            "SELECT ifnull(sum(tokens), 0) FROM place JOIN content ON content.id = place.content
             WHERE context = ?1 AND until = ?2 AND (pinned OR role = ?3)",
        )?
        .query_row(params![head.id, FOREVER, i32::from(Role::System)], |row| row.get(0))?)
}
