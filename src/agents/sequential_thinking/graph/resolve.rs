//! How a step is settled or opened again. It is checked first and then done in whole.

use super::change::unresolved;
use super::{Graph, Node};
use crate::agents::sequential_thinking::names;
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::sequential_thinking::v1::{Resolution, StepKind, StepStatus};

impl Graph {
    /// Settles a step; gives its status.
    pub(in super::super) fn resolve(
        &mut self,
        step: u32,
        resolution: Resolution,
        by_step: Option<u32>,
        now: i64,
    ) -> Result<StepStatus, Error> {
        let node = self.find_current("step", step)?;
        let unresolved = unresolved(node.kind);
        let status = match (resolution, node.kind) {
            (Resolution::Unspecified, _) => {
                return Err(Error::invalid(
                    "resolution",
                    "must be confirmed, refuted, answered, dropped or reopened",
                ));
            }
            (Resolution::Confirmed, StepKind::Hypothesis) => StepStatus::Confirmed,
            (Resolution::Refuted, StepKind::Hypothesis) => StepStatus::Refuted,
            (Resolution::Answered, StepKind::Question) => StepStatus::Answered,
            (Resolution::Confirmed | Resolution::Refuted | Resolution::Answered, _) => {
                return Err(wrong_kind(node));
            }
            (Resolution::Dropped, _) => StepStatus::Dropped,
            (Resolution::Reopened, _) => unresolved,
        };
        if resolution == Resolution::Reopened && by_step.is_some() {
            return Err(Error::invalid("by_step", "cannot be set when a step is reopened"));
        }
        if node.status != status && node.status != unresolved && status != unresolved {
            return Err(resolved_already(node));
        }
        if let Some(by_step) = by_step {
            if node.resolved_by.is_some_and(|other| other != by_step) {
                return Err(resolved_already(node));
            }
            self.can_settle(by_step, step)?;
        }
        let reopened = status == unresolved;
        let settled_by = if reopened { None } else { by_step.or(node.resolved_by) };
        if (node.status, node.resolved_by) == (status, settled_by) {
            return Ok(status);
        }
        if let Some(node) = self.node_mut(step) {
            let moved = node.status != status;
            node.status = status;
            node.resolved_by = settled_by;
            if reopened {
                node.resolved_at = None;
            } else if moved {
                node.resolved_at = Some(now);
            }
        }
        Ok(status)
    }

    fn can_settle(&self, by_step: u32, step: u32) -> Result<(), Error> {
        let by = self.find_current("by_step", by_step)?;
        if by_step == step {
            return Err(Error::invalid("by_step", "a step cannot settle itself"));
        }
        if !by.stands() {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("by_step: step {by_step} was refuted or dropped, so it settles nothing"),
            )
            .with_fact("field", "by_step"));
        }
        let mut ground = by.resolved_by;
        while let Some(id) = ground {
            if self.newest(id) == step {
                return Err(Error::invalid(
                    "by_step",
                    format_args!("step {by_step} itself rests on step {step}"),
                ));
            }
            ground = self.get(id).and_then(|node| node.resolved_by);
        }
        Ok(())
    }
}

fn wrong_kind(node: &Node) -> Error {
    let possible = match node.kind {
        StepKind::Hypothesis => "confirmed, refuted or dropped",
        StepKind::Question => "answered or dropped",
        StepKind::Unspecified
        | StepKind::Analysis
        | StepKind::Evidence
        | StepKind::Decision
        | StepKind::Risk
        | StepKind::Verification
        | StepKind::Synthesis => "dropped",
    };
    let kind = names::kind(node.kind);
    Error::invalid(
        "resolution",
        format_args!("step {} is of the kind {kind}, which can only be {possible}", node.id),
    )
}

fn resolved_already(node: &Node) -> Error {
    let status = names::status(node.status);
    let by = node.resolved_by.map(|by| format!(" by step {by}")).unwrap_or_default();
    Error::new(
        ErrorKind::Conflict,
        format!("step {} is {status}{by} already; reopen it first", node.id),
    )
    .with_fact("status", status)
}
