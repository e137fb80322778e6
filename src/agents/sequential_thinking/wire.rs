//! Steps and branches as the contract has them.

use std::fmt::Display;

use super::graph::{Branch, Graph, Placed};
use super::steps::Content;
use super::time;
use crate::error::Error;
use crate::proto::opdbus::agent::sequential_thinking::v1::{BranchInfo, Step};

/// The enum value that a field holds.
///
/// # Errors
/// `InvalidArgument` if the contract has no such value.
pub(super) fn number<T: TryFrom<i32, Error: Display>>(
    field: &str,
    number: i32,
) -> Result<T, Error> {
    T::try_from(number).map_err(|error| Error::invalid(field, error))
}

/// A step with its texts.
pub(super) fn step(graph: &Graph, placed: Placed, content: Content) -> Option<Step> {
    let node = graph.get(placed.id)?;
    Some(Step {
        step: node.id,
        kind: node.kind.into(),
        status: node.status.into(),
        thought: content.thought,
        truncated: false,
        branch: graph.branches[node.branch].name.clone(),
        parents: node.parents.clone(),
        number: node.number,
        confidence: node.confidence,
        evidence: content.evidence,
        revises: node.revises.unwrap_or(0),
        reason: content.reason,
        superseded_by: node.superseded_by.unwrap_or(0),
        resolved_by: node.resolved_by.unwrap_or(0),
        note: content.note,
        scores: content.scores,
        created_at: Some(time::timestamp(node.created_at)),
        depth: placed.depth,
        changed: u64::try_from(node.changed).unwrap_or(0),
    })
}

/// A branch.
pub(super) fn branch(branch: &Branch) -> BranchInfo {
    BranchInfo {
        name: branch.name.clone(),
        from_step: branch.from_step.unwrap_or(0),
        head: branch.head.unwrap_or(0),
        merged_by: branch.merged_by.unwrap_or(0),
    }
}
