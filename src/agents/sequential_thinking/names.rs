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

/// The kind that is called `name`.
pub(super) fn kind_of(name: &str) -> Option<StepKind> {
    StepKind::from_str_name(&full("STEP_KIND_", name)?)
}

/// The status of a step that is called `name`.
pub(super) fn status_of(name: &str) -> Option<StepStatus> {
    StepStatus::from_str_name(&full("STEP_STATUS_", name)?)
}

/// The status of a chain that is called `name`.
pub(super) fn chain_status_of(name: &str) -> Option<ChainStatus> {
    ChainStatus::from_str_name(&full("CHAIN_STATUS_", name)?)
}

/// The contract's name of a value; none if it would be the one for values that were not said.
fn full(prefix: &str, name: &str) -> Option<String> {
    (name != "unspecified" && name.to_lowercase() == name)
        .then(|| format!("{prefix}{}", name.to_uppercase()))
}

fn plain(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase()
}
