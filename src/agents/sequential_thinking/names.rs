//! The names of the contract's enum values as people read them: lower case, without their prefix.

use crate::proto::opdbus::agent::sequential_thinking::v1::{ChainStatus, StepKind, StepStatus};

/// `hypothesis`, and the like.
pub(super) fn kind(kind: StepKind) -> String {
    plain(kind.as_str_name(), "STEP_KIND_")
}

/// `open`, and the like.
pub(super) fn status(status: StepStatus) -> String {
    plain(status.as_str_name(), "STEP_STATUS_")
}

/// `open` or `concluded`.
pub(super) fn chain_status(status: ChainStatus) -> String {
    plain(status.as_str_name(), "CHAIN_STATUS_")
}

fn plain(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}
