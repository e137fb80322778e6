//! The end of a session: its contexts become the user's own or go. One context at a time, because all
//! other writes wait for it.

use std::collections::{HashMap, VecDeque};

use rusqlite::Connection;

use super::config::Config;
use super::item::Item;
use super::space::Space;
use super::tables::{self, Change, Content, Gained, Head, Kept, Placed};
use super::time;
use crate::proto::opdbus::agent::context_manager::v1::{Cause, Role};
use crate::storage::Failure;

/// After so long without a change of its contexts a session has been forgotten by everybody, in
/// microseconds: seven days.
const IDLE: i64 = 7 * 24 * 3600 * 1_000_000;

/// Sees to one context of a session that has ended; true if there may be more.
pub(super) fn end_one(
    database: &Connection,
    config: &Config,
    space: &Space,
) -> Result<(Gained, bool), Failure> {
    let kept = tables::kept_for(database, space)?;
    see_to(database, config, kept)
}

/// Sees to one context of a session in which none was changed for [`IDLE`]: its end was never told, as
/// when the service was killed before it was recorded that the session has contexts.
pub(super) fn end_one_idle(
    database: &Connection,
    config: &Config,
    now: i64,
) -> Result<(Gained, bool), Failure> {
    let kept = tables::kept_idle(database, now.saturating_sub(IDLE))?;
    see_to(database, config, kept)
}

fn see_to(
    database: &Connection,
    config: &Config,
    kept: Option<Kept>,
) -> Result<(Gained, bool), Failure> {
    let Some(Kept { space, head, is_deleted }) = kept else {
        return Ok((Gained::default(), false));
    };
    let (uid, now) = (space.uid, time::now());
    let ((), gained) = Change::run(database, config, space, now, |change| {
        if is_deleted {
            return change.purge(head.id);
        }
        if !head.auto_save || head.is_over(now) {
            return change.delete_for_good(&head);
        }
        change.within(Space::user(uid), |change| save(change, &head))
    })?;
    Ok((gained, true))
}

/// Makes a context of a session the user's own. It needs no room, so that nothing refuses it: either
/// the whole context changes hands, or its texts become a version and the rest goes.
fn save(change: &mut Change<'_>, kept: &Head) -> Result<(), Failure> {
    let Some(mut head) = change.find(&kept.name)? else {
        return change.give_to_user(kept);
    };
    let old = tables::items(change.database(), &head, head.version)?;
    let items = tables::items(change.database(), kept, kept.version)?;
    let mut known: HashMap<(Role, &str, &str), VecDeque<i64>> = HashMap::new();
    for item in &old {
        known.entry(says(item)).or_default().push_back(item.id);
    }
    let mut places = Vec::with_capacity(items.len());
    for (position, item) in (0_i64..).zip(&items) {
        let same = known.get_mut(&says(item)).and_then(VecDeque::pop_front);
        let id = same.unwrap_or_else(|| head.take_item());
        places.push(Placed {
            item: id,
            position,
            pinned: item.pinned,
            content: Content::from(item),
        });
        head.next_position = position + 1;
    }
    head.tags.clone_from(&kept.tags);
    head.expires_at = kept.expires_at;
    change.put(&mut head, Cause::SessionEnd, &places, &HashMap::new())?;
    change.delete_for_good(kept)
}

fn says(item: &Item) -> (Role, &str, &str) {
    (item.role, &item.text, &item.source)
}
