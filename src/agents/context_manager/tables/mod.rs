//! The tables of `context_manager.db` and every statement on them. Which items are chosen is decided
//! elsewhere.

mod change;
mod content;
mod items;
mod kept;
mod left_out;
mod read;
mod room;
mod schema;
mod search;
mod versions;

pub(super) use change::{Change, Gained, Placed, check_version, taken};
pub(super) use content::Content;
pub(super) use items::{fixed_tokens, items, outlines, places, text};
pub(super) use kept::{Kept, kept_for, kept_idle};
pub(super) use left_out::{Wanted, left_out};
pub(super) use read::{Head, compacted, find, list, require, total, version, versions};
pub(super) use room::tidy;
pub(super) use schema::SCHEMA;
pub(super) use search::{Found, Join, expression, search};
