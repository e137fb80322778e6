//! The move to gRPC: the bounds of the ledger, and the rules of the rollout.

use super::checker::Checker;
use super::rollout;
use crate::config::keys::Keys;
use crate::migration::{Config, ledger};

/// The longest time that the ledger keeps what it has seen, in milliseconds: ten years.
const MAX_KEEP_MS: i64 = 3650 * 86_400_000;

pub(super) fn migration(c: &mut Checker<'_>, all: &Keys) -> Config {
    let keys = &all.migration;
    let ledger = ledger::Config {
        flush: c.millis(&keys.ledger_flush_ms, 100..=600_000),
        keep: c.millis(&keys.ledger_keep_ms, 3_600_000..=MAX_KEEP_MS),
        clients: c.size(&keys.ledger_clients, 1..=1_000_000, "clients"),
        clients_per_uid: c.size(&keys.ledger_clients_per_uid, 1..=1_000_000, "clients"),
        unwritten: c.size(&keys.ledger_unwritten, 256..=1_000_000, "rows"),
    };
    c.not_above(&keys.ledger_clients_per_uid, &keys.ledger_clients);
    Config { ledger, rollout: rollout::rules(c, all) }
}
