//! When agents start and stop: the lists of the section `[agents]`. Whether the agents exist is not known
//! here.

use std::collections::BTreeSet;

use super::checker::Checker;
use super::{Agents, MAX_IDLE_MS};
use crate::config::keys::{self, Key};

/// When agents start and stop.
pub(super) fn agents(c: &mut Checker<'_>, keys: &keys::agents::Section) -> Agents {
    let mut named = BTreeSet::new();
    for key in [&keys.run_on_connection, &keys.on_demand] {
        for id in &key.value {
            check_agent(c, key, id, named.insert(id.as_str()));
        }
    }
    let idle_stop = c.millis(&keys.idle_stop_ms, 0..=MAX_IDLE_MS);
    Agents {
        run_on_connection: keys.run_on_connection.value.clone(),
        on_demand: keys.on_demand.value.clone(),
        idle_stop: Some(idle_stop).filter(|idle| !idle.is_zero()),
    }
}

fn check_agent(c: &mut Checker<'_>, key: &Key<Vec<String>>, id: &str, first: bool) {
    let well_formed = id.starts_with(|first: char| first.is_ascii_lowercase())
        && id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !well_formed {
        c.reject(
            key,
            format!("{id:?} is no agent id: lower-case letters, digits and _, as \"memory\""),
        );
    } else if !first {
        c.reject(key, format!("{id:?} is named twice; name it once, in one of the two lists"));
    }
}
