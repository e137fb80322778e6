//! Whether a graph hangs together: what every change keeps up, said once more for graphs that come
//! from elsewhere.

use std::collections::BTreeSet;

use super::change::unresolved;
use super::{Graph, MAIN, Node};
use crate::agents::sequential_thinking::limits::{MAX_BRANCHES, MAX_STEPS};
use crate::proto::opdbus::agent::sequential_thinking::v1::{StepKind, StepStatus};

impl Graph {
    /// What does not hang together, with its place, as `steps[3].parents must be earlier steps`.
    ///
    /// # Errors
    /// The first such place.
    pub(in super::super) fn sound(&self) -> Result<(), String> {
        if self.len() > MAX_STEPS {
            return Err(format!("steps are {}; {MAX_STEPS} are the most", self.len()));
        }
        if self.branches.len() > MAX_BRANCHES {
            return Err(format!(
                "branches are {}; {MAX_BRANCHES} are the most",
                self.branches.len()
            ));
        }
        self.branches_sound()?;
        for (index, node) in self.nodes.iter().enumerate() {
            let step = Checked { graph: self, node };
            step.sound(index).map_err(|problem| format!("steps[{index}].{problem}"))?;
        }
        Ok(())
    }

    fn branches_sound(&self) -> Result<(), String> {
        let mut names = BTreeSet::new();
        for (index, branch) in self.branches.iter().enumerate() {
            let fail = |problem: &str| Err(format!("branches[{index}].{problem}"));
            if !names.insert(branch.name.as_str()) {
                return fail("name is there twice");
            }
            let main = index == 0;
            if (branch.name == MAIN) != main {
                return fail("name must be main for the first branch and only for that");
            }
            if main && branch.merged_by.is_some() {
                return fail("merged_by cannot be set for main");
            }
            if branch.from_step.is_none() != main {
                return fail("from_step must be set for every branch but main");
            }
            if branch.head.is_none() != (main && self.nodes.is_empty()) {
                return fail("head must be set once there are steps");
            }
            let steps = [branch.from_step, branch.head, branch.merged_by];
            if steps.into_iter().flatten().any(|step| self.get(step).is_none()) {
                return fail("from_step, head and merged_by must be steps of the chain");
            }
            let head = branch.head.and_then(|head| self.get(head));
            if head.is_some_and(|head| head.superseded_by.is_some()) {
                return fail("head must not be a superseded step");
            }
            let merge = branch.merged_by.and_then(|step| self.get(step));
            if merge.is_some_and(|merge| merge.kind != StepKind::Synthesis) {
                return fail("merged_by must be a synthesis");
            }
        }
        if self.branches.is_empty() {
            return Err("branches must begin with main".to_owned());
        }
        Ok(())
    }
}

/// A step in its graph.
struct Checked<'a> {
    graph: &'a Graph,
    node: &'a Node,
}

impl Checked<'_> {
    fn sound(&self, index: usize) -> Result<(), &'static str> {
        let Self { graph, node } = self;
        if usize::try_from(node.id).is_ok_and(|id| id != index + 1) {
            return Err("step must be counted from 1");
        }
        let parents: BTreeSet<u32> = node.parents.iter().copied().collect();
        if parents.len() != node.parents.len()
            || parents.iter().any(|parent| !(1..node.id).contains(parent))
        {
            return Err("parents must be earlier steps, each once");
        }
        if graph.branches.get(node.branch).is_none() {
            return Err("branch must be one of the branches");
        }
        if !(1..=2 * MAX_STEPS).contains(&node.number) {
            return Err("number is out of range");
        }
        if node.cites.iter().any(|cited| graph.get(*cited).is_none()) {
            return Err("evidence names a step that is not there");
        }
        self.status_sound()?;
        self.revision_sound()?;
        self.ground_sound()
    }

    fn status_sound(&self) -> Result<(), &'static str> {
        let unresolved = unresolved(self.node.kind);
        let (kind, status) = (self.node.kind, self.node.status);
        let fits = match status {
            StepStatus::Unspecified => false,
            StepStatus::Active | StepStatus::Open => status == unresolved,
            StepStatus::Confirmed | StepStatus::Refuted => kind == StepKind::Hypothesis,
            StepStatus::Answered => kind == StepKind::Question,
            StepStatus::Dropped | StepStatus::Superseded => true,
        };
        if fits { Ok(()) } else { Err("status does not fit the kind") }
    }

    fn revision_sound(&self) -> Result<(), &'static str> {
        let Self { graph, node } = self;
        if (node.status == StepStatus::Superseded) != node.superseded_by.is_some() {
            return Err("superseded_by must be set for superseded steps and only for those");
        }
        if let Some(newer) = node.superseded_by
            && graph.get(newer).is_none_or(|newer| newer.revises != Some(node.id))
        {
            return Err("superseded_by must be a step that revises this one");
        }
        let Some(revised) = node.revises else { return Ok(()) };
        let fits = graph.get(revised).is_some_and(|old| {
            old.id < node.id
                && old.superseded_by == Some(node.id)
                && old.parents == node.parents
                && old.kind == node.kind
                && old.branch == node.branch
        });
        if fits {
            Ok(())
        } else {
            Err("revises must be an earlier step in whose place this one is")
        }
    }

    fn ground_sound(&self) -> Result<(), &'static str> {
        let Self { graph, node } = self;
        let unresolved = node.status == unresolved(node.kind);
        if unresolved && (node.resolved_by.is_some() || node.resolved_at.is_some()) {
            return Err("resolved_by and resolved_at_us cannot be set before it is resolved");
        }
        let mut ground = node.resolved_by;
        for _ in 0..graph.len() {
            let Some(id) = ground else { return Ok(()) };
            let Some(by) = graph.get(id) else {
                return Err("resolved_by must be a step of the chain");
            };
            ground = by.resolved_by;
        }
        if ground.is_none() { Ok(()) } else { Err("resolved_by leads back to itself") }
    }
}
