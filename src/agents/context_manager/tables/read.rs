//! Queries. They see only the caller's own contexts, and none whose time is over.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::Gained;
use crate::agents::context_manager::fields::stored_tags;
use crate::agents::context_manager::space::Space;
use crate::agents::context_manager::time::timestamp;
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::context_manager::v1::{Cause, ContextInfo, Version};
use crate::storage::Failure;

/// A context without its items.
#[derive(Clone, Debug)]
pub(in super::super) struct Head {
    pub(in super::super) id: i64,
    pub(in super::super) name: String,
    pub(in super::super) version: i64,
    pub(in super::super) next_item: i64,
    pub(in super::super) next_position: i64,
    pub(in super::super) items: u64,
    pub(in super::super) tokens: u64,
    /// The bytes of its texts.
    pub(in super::super) size: u64,
    pub(in super::super) created_at: i64,
    pub(in super::super) updated_at: i64,
    pub(in super::super) expires_at: Option<i64>,
    pub(in super::super) tags: Vec<u8>,
    /// The version that last replaced everything in it.
    pub(in super::super) base: i64,
    /// True if it becomes the user's own when its session ends.
    pub(in super::super) auto_save: bool,
}

impl Head {
    /// The id of a further item.
    pub(in super::super) fn take_item(&mut self) -> i64 {
        let item = self.next_item;
        self.next_item += 1;
        item
    }

    /// True if its time is over and that has not been written down yet.
    pub(in super::super) fn is_over(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }

    pub(super) fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            id: row.get(0)?,
            name: row.get(1)?,
            version: row.get(2)?,
            next_item: row.get(3)?,
            next_position: row.get(4)?,
            items: row.get(5)?,
            tokens: row.get(6)?,
            size: row.get(7)?,
            created_at: row.get(8)?,
            updated_at: row.get(9)?,
            expires_at: row.get(10)?,
            tags: row.get(11)?,
            base: row.get(12)?,
            auto_save: row.get(13)?,
        })
    }

    pub(in super::super) fn into_info(self) -> ContextInfo {
        ContextInfo {
            name: self.name,
            version: self.version.unsigned_abs(),
            items: u32::try_from(self.items).unwrap_or(u32::MAX),
            tokens: self.tokens,
            size_bytes: self.size,
            tags: stored_tags(&self.tags),
            created_at: Some(timestamp(self.created_at)),
            updated_at: Some(timestamp(self.updated_at)),
            expires_at: self.expires_at.map(timestamp),
            auto_save: self.auto_save,
        }
    }
}

macro_rules! head_columns {
    () => {
        "id, name, version, next_item, next_position, items, tokens, size, created_at, updated_at,
         expires_at, tags, base, auto_save"
    };
}
pub(super) use head_columns;

/// The context with this name, even if its time is over.
pub(in super::super) fn head(
    database: &Connection,
    space: &Space,
    name: &str,
) -> Result<Option<Head>, rusqlite::Error> {
    database
        .prepare_cached(concat!(
            "SELECT ",
            head_columns!(),
            " FROM context WHERE uid = ?1 AND session = ?2 AND name = ?3 AND undo IS NULL"
        ))?
        .query_row(params![space.uid, space.session, name], Head::read)
        .optional()
}

/// The context with this name.
pub(in super::super) fn find(
    database: &Connection,
    space: &Space,
    name: &str,
    now: i64,
) -> Result<Option<Head>, rusqlite::Error> {
    Ok(head(database, space, name)?.filter(|head| !head.is_over(now)))
}

/// The context with this name, which must be there.
pub(in super::super) fn require(
    database: &Connection,
    space: &Space,
    name: &str,
    now: i64,
) -> Result<Head, Failure> {
    Ok(find(database, space, name, now)?.ok_or_else(|| missing(name))?)
}

/// The error for a context that is not there.
pub(super) fn missing(name: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("name: there is no context {name:?}; List names them"))
        .with_fact("field", "name")
}

/// The contexts with names after `after` for which `keep` holds, sorted, `limit` at most.
pub(in super::super) fn list(
    database: &Connection,
    space: &Space,
    after: &str,
    now: i64,
    limit: usize,
    keep: impl Fn(&Head) -> bool,
) -> Result<Vec<Head>, Failure> {
    let mut select = database.prepare_cached(concat!(
        "SELECT ",
        head_columns!(),
        " FROM context WHERE uid = ?1 AND session = ?2 AND name > ?3 AND undo IS NULL ORDER BY name"
    ))?;
    let mut rows = select.query(params![space.uid, space.session, after])?;
    let mut found = Vec::new();
    while found.len() < limit
        && let Some(row) = rows.next()?
    {
        let head = Head::read(row)?;
        if !head.is_over(now) && keep(&head) {
            found.push(head);
        }
    }
    Ok(found)
}

const VERSION_COLUMNS: &str = "number, created_at, cause, items, tokens, size";

fn read_version(row: &Row<'_>) -> Result<Version, rusqlite::Error> {
    let cause: i32 = row.get(2)?;
    Ok(Version {
        version: row.get::<_, i64>(0)?.unsigned_abs(),
        created_at: Some(timestamp(row.get(1)?)),
        cause: Cause::try_from(cause).unwrap_or_default().into(),
        items: row.get(3)?,
        tokens: row.get(4)?,
        size_bytes: row.get(5)?,
    })
}

/// The versions of a context, newest first.
pub(in super::super) fn versions(
    database: &Connection,
    head: &Head,
) -> Result<Vec<Version>, Failure> {
    let versions = database
        .prepare_cached(&format!(
            "SELECT {VERSION_COLUMNS} FROM version WHERE context = ?1 ORDER BY number DESC"
        ))?
        .query_map([head.id], read_version)?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(versions)
}

/// One version of a context, which must be kept; `field` is where it was named.
pub(in super::super) fn version(
    database: &Connection,
    head: &Head,
    field: &str,
    number: i64,
) -> Result<Version, Failure> {
    let found = database
        .prepare_cached(&format!(
            "SELECT {VERSION_COLUMNS} FROM version WHERE context = ?1 AND number = ?2"
        ))?
        .query_row([head.id, number], read_version)
        .optional()?;
    Ok(found.ok_or_else(|| {
        Error::new(
            ErrorKind::NotFound,
            format!(
                "{field}: the context {:?} has no version {number}, or not any more; Versions lists \
                 those that are kept",
                head.name
            ),
        )
        .with_fact("field", field)
    })?)
}

/// What is stored, over all users.
pub(in super::super) fn total(database: &Connection) -> Result<Gained, Failure> {
    Ok(database.query_row(
        "SELECT ifnull(sum(contexts), 0), ifnull(sum(bytes), 0) FROM usage",
        [],
        |row| Ok(Gained { contexts: row.get(0)?, bytes: row.get(1)? }),
    )?)
}

/// The versions that compactions replaced since everything in the context was last replaced, oldest
/// first.
pub(in super::super) fn compacted(database: &Connection, head: &Head) -> Result<Vec<i64>, Failure> {
    let numbers = database
        .prepare_cached(
            "SELECT number FROM version WHERE context = ?1 AND number >= ?2 AND compacted = 1
             ORDER BY number",
        )?
        .query_map([head.id, head.base], |row| row.get(0))?
        .collect::<Result<Vec<_>, _>>()?;
    Ok(numbers)
}
