//! The tables of `context_manager.db` and every statement on them. Which items are chosen is decided
//! elsewhere.

mod change;
mod content;
mod read;
mod room;
mod schema;
mod search;
mod versions;

pub(super) use change::{Change, Gained, Placed, check_version, taken};
pub(super) use content::Content;
pub(super) use read::{
    Head, compacted, items, left_out, list, places, require, total, version, versions,
};
pub(super) use room::tidy;
pub(super) use schema::SCHEMA;
pub(super) use search::{Found, expression, search};
