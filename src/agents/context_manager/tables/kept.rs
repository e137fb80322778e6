//! Contexts of sessions that are over, one at a time.

use rusqlite::{Connection, OptionalExtension as _, Row, ToSql};

use super::read::{Head, head_columns};
use crate::agents::context_manager::space::Space;
use crate::storage::Failure;

/// A context that was kept for a session.
pub(in super::super) struct Kept {
    pub(in super::super) space: Space,
    pub(in super::super) head: Head,
    /// True if it was deleted and could be brought back.
    pub(in super::super) is_deleted: bool,
}

/// One context of a session, deleted ones too.
pub(in super::super) fn kept_for(
    database: &Connection,
    space: &Space,
) -> Result<Option<Kept>, Failure> {
    first(database, "session = ?1 AND uid = ?2", &[&space.session, &space.uid])
}

/// One context of a session none of whose contexts was changed since `oldest`.
pub(in super::super) fn kept_idle(
    database: &Connection,
    oldest: i64,
) -> Result<Option<Kept>, Failure> {
    first(
        database,
        "updated_at < ?1 AND NOT EXISTS (
             SELECT 1 FROM context AS later WHERE later.session > '' AND later.session = context.session
             AND later.uid = context.uid AND later.updated_at >= ?1)",
        &[&oldest],
    )
}

fn first(
    database: &Connection,
    condition: &str,
    parameters: &[&dyn ToSql],
) -> Result<Option<Kept>, Failure> {
    Ok(database
        .prepare_cached(&format!(
            concat!(
                "SELECT ",
                head_columns!(),
                ", uid, session, undo IS NOT NULL FROM context
                 WHERE session > '' AND {} LIMIT 1"
            ),
            condition
        ))?
        .query_row(parameters, read)
        .optional()?)
}

fn read(row: &Row<'_>) -> Result<Kept, rusqlite::Error> {
    let session: String = row.get(15)?;
    Ok(Kept {
        head: Head::read(row)?,
        space: Space { uid: row.get(14)?, session: session.into() },
        is_deleted: row.get(16)?,
    })
}
