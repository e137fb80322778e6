//! The kinds of event that have an entry in the journal's catalog (`journalctl -x`): log them with the
//! field `message_id`. The texts are in `systemd/op-dbus.catalog`. Nothing is logged here.

/// The service is ready.
pub const STARTED: &str = "9bc78dc719da4441bcee58537e2fab9b";

/// The service has stopped.
pub const STOPPED: &str = "d4148c3592164a86b131e5ba79bd3c9d";

/// The service could not start.
pub const START_FAILED: &str = "dd31f75a278c4e27bdb34b03eee19ee4";

/// A new configuration is in force.
pub const CONFIG_RELOADED: &str = "6368ae12908a4eac93f7636cbf21521d";

/// A new configuration was refused.
pub const CONFIG_REFUSED: &str = "3d6f3b5c6b2c40399f900e4c44b41769";

/// A changed key needs a restart.
pub const NEEDS_RESTART: &str = "8b8c0fcd99224bb19668e8bfefcf9530";

/// The configuration names an agent that this build lacks.
pub const AGENT_MISSING: &str = "4ab5867b61a540efab671866f9a5c400";

/// The service runs as root.
pub const RUNS_AS_ROOT: &str = "ad7a040c818f4369ae07541344768df0";

/// A thread panicked.
pub const PANICKED: &str = "a7502cd07bc14ccb93cc2c5aa6786d24";

/// The executor does not answer the watchdog.
pub const NOT_ALIVE: &str = "84d3801f19b74edf803d4e8c5a1249f1";

/// The connection to the bus was lost or made again.
pub const BUS_LOST: &str = "246236854fa74e3bb7a52735842f555b";

/// A damaged database was set aside.
pub const STORE_SET_ASIDE: &str = "3d43cf4cc7864d2db70cdc5bf76a4f37";

/// An agent could not be started.
pub const AGENT_FAILED: &str = "75d6eb7f402d45239af4526cdb2b881b";

/// A worker ended by itself, was killed or did not answer.
pub const WORKER_LOST: &str = "60d426abf0cd4da885a05c01e292ec81";

/// A call above READ was made, or a call was refused.
pub const AUDIT: &str = "8b2e5dfe879b4fc4b996880a22f821b4";

/// The audit log cannot be written.
pub const AUDIT_FAILED: &str = "9f760878c1854d96909a9af4f0fb3a41";

/// The audit log does not end as the service left it.
pub const AUDIT_DAMAGED: &str = "ebd95e12d94c4e9d9ceddbc8870089a9";

/// A rule of the rollout was moved.
pub const ROLLOUT_STEP: &str = "5f0c3b9e6a7d4d52b8e1c2f49a3d7e61";

/// Every kind, in the order of this file.
pub const ALL: [&str; 18] = [
    STARTED,
    STOPPED,
    START_FAILED,
    CONFIG_RELOADED,
    CONFIG_REFUSED,
    NEEDS_RESTART,
    AGENT_MISSING,
    RUNS_AS_ROOT,
    PANICKED,
    NOT_ALIVE,
    BUS_LOST,
    STORE_SET_ASIDE,
    AGENT_FAILED,
    WORKER_LOST,
    AUDIT,
    AUDIT_FAILED,
    AUDIT_DAMAGED,
    ROLLOUT_STEP,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn the_catalog_explains_every_event_and_no_other() {
        let catalog = include_str!("../systemd/op-dbus.catalog");
        let explained: Vec<_> =
            catalog.lines().filter_map(|line| line.strip_prefix("-- ")).collect();
        assert_eq!(explained, super::ALL);
        assert_eq!(BTreeSet::from(super::ALL).len(), super::ALL.len());
        assert!(explained.iter().all(|id| id.len() == 32 && u128::from_str_radix(id, 16).is_ok()));
    }
}
