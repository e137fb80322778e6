//! Calls that somebody must approve before they are made, because the policy or their agent says so.
//! What is approved is one call of one user, with one request, once.

mod record;
mod service;
mod step;
mod table;

use std::time::Duration;

pub use service::ApprovalDesk;

pub(super) use table::Approvals;

/// The settings of approvals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many calls wait for approval, or were decided on and not made (`[approvals] max`).
    pub max: usize,
    /// How many of them one user may have (`[approvals] max_per_caller`).
    pub max_per_caller: usize,
    /// How long one waits, and how long what was decided holds (`[approvals] expire_ms`).
    pub expire: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self { max: 1024, max_per_caller: 32, expire: Duration::from_secs(600) }
    }
}
