//! The changes of a graph: each is checked first and then made in whole, so that a refused change
//! leaves nothing behind.

use super::{Branch, Graph, Node};
use crate::agents::sequential_thinking::limits::{MAX_BRANCHES, MAX_STEPS};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::sequential_thinking::v1::{StepKind, StepStatus};

/// Where a thought goes.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct Place {
    /// The step that it follows; the head of the branch if none.
    pub(in super::super) parent: Option<u32>,
    /// The name of the branch; the parent's, or `main`, if none.
    pub(in super::super) branch: Option<String>,
    /// The number on its line; the parent's and one if none.
    pub(in super::super) number: Option<u32>,
}

/// A step that is being added.
#[derive(Clone, Debug)]
pub(in super::super) struct Added {
    pub(in super::super) kind: StepKind,
    pub(in super::super) confidence: Option<f64>,
    /// The steps that it names as its evidence, and the fields that name them.
    pub(in super::super) cites: Vec<(String, u32)>,
    pub(in super::super) now: i64,
}

impl Graph {
    /// Adds a step; gives its id.
    pub(in super::super) fn think(&mut self, added: &Added, place: Place) -> Result<u32, Error> {
        let (parent, branch) = self.place(&place)?;
        self.takes_steps(branch)?;
        let number = match place.number {
            Some(number) => number,
            None => parent.and_then(|id| self.get(id)).map_or(1, |node| node.number + 1),
        };
        let id = self.add(added, branch, parent.into_iter().collect(), number)?;
        self.set_head(branch, id);
        Ok(id)
    }

    /// Adds a step in the place of `step`; gives its id.
    pub(in super::super) fn revise(
        &mut self,
        added: &Added,
        step: u32,
        number: Option<u32>,
    ) -> Result<u32, Error> {
        let old = self.find_current("step", step)?.clone();
        let added = Added { kind: old.kind, ..added.clone() };
        let id = self.add(&added, old.branch, old.parents, number.unwrap_or(old.number))?;
        if let Some(new) = self.node_mut(id) {
            new.revises = Some(step);
        }
        if let Some(old) = self.node_mut(step) {
            old.status = StepStatus::Superseded;
            old.superseded_by = Some(id);
        }
        for position in 0..self.branches.len() {
            if self.branches[position].head == Some(step) {
                self.set_head(position, id);
            }
        }
        Ok(id)
    }

    /// Opens the branch `name`; gives its position.
    pub(in super::super) fn open_branch(
        &mut self,
        field: &str,
        from_step: u32,
        name: String,
    ) -> Result<usize, Error> {
        self.find_current(field, from_step)?;
        if self.branch_position(&name).is_some() {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("the chain has a branch {name} already; choose another name"),
            ));
        }
        if self.branches.len() >= MAX_BRANCHES {
            return Err(Error::limit(
                "sequential_thinking.max_branches",
                MAX_BRANCHES,
                "the chain has as many branches as it may have",
            ));
        }
        self.branches.push(Branch {
            name,
            from_step: Some(from_step),
            head: Some(from_step),
            merged_by: None,
        });
        let position = self.branches.len() - 1;
        self.touched_branches.insert(position);
        Ok(position)
    }

    /// Adds a step that follows the heads of `branches` and of `into`, which goes on; gives its id.
    pub(in super::super) fn merge(
        &mut self,
        added: &Added,
        branches: &[String],
        into: &str,
    ) -> Result<u32, Error> {
        let into = self.branch("into", into)?;
        self.takes_steps(into)?;
        if branches.is_empty() {
            return Err(Error::invalid("branches", "must name one branch or more"));
        }
        let mut merged = Vec::new();
        for (index, name) in branches.iter().enumerate() {
            let field = format!("branches[{index}]");
            let position = self.branch(&field, name)?;
            self.can_merge(&field, position, into)?;
            if merged.contains(&position) {
                return Err(Error::invalid(field, format_args!("{name} is named twice")));
            }
            merged.push(position);
        }
        let mut parents = Vec::new();
        for position in std::iter::once(&into).chain(&merged) {
            if let Some(head) = self.branches[*position].head
                && !parents.contains(&head)
            {
                parents.push(head);
            }
        }
        let numbers = parents.iter().filter_map(|id| self.get(*id)).map(|node| node.number);
        let number = numbers.max().unwrap_or(0) + 1;
        let id = self.add(added, into, parents, number)?;
        self.set_head(into, id);
        for position in merged {
            self.branches[position].merged_by = Some(id);
            self.touched_branches.insert(position);
        }
        Ok(id)
    }

    /// What is worth a look about following `parent`.
    pub(in super::super) fn parent_warning(&self, step: u32) -> Option<String> {
        let parent = self.get(*self.get(step)?.parents.first()?)?;
        let fate = match parent.status {
            StepStatus::Refuted => "was refuted",
            StepStatus::Dropped => "was dropped",
            StepStatus::Unspecified
            | StepStatus::Active
            | StepStatus::Open
            | StepStatus::Confirmed
            | StepStatus::Answered
            | StepStatus::Superseded => return None,
        };
        Some(format!("step {step} follows step {}, which {fate}", parent.id))
    }

    /// The parent and the branch of a new step.
    fn place(&self, place: &Place) -> Result<(Option<u32>, usize), Error> {
        let named = place.branch.as_deref();
        let Some(parent) = place.parent else {
            let branch = named.map_or(Ok(0), |name| self.branch("branch", name))?;
            return Ok((self.branches[branch].head, branch));
        };
        let node = self.find_current("parent", parent)?;
        let Some(name) = named else { return Ok((Some(parent), node.branch)) };
        let branch = self.branch("branch", name)?;
        if node.branch != branch && !self.line(self.branches[branch].head).contains(&parent) {
            return Err(Error::invalid(
                "parent",
                format_args!(
                    "step {parent} is not on the line of branch {name}; open a branch from it with Branch"
                ),
            ));
        }
        Ok((Some(parent), branch))
    }

    fn takes_steps(&self, branch: usize) -> Result<(), Error> {
        let branch = &self.branches[branch];
        let Some(step) = branch.merged_by else { return Ok(()) };
        Err(Error::new(
            ErrorKind::Conflict,
            format!("branch {} was merged by step {step} and takes no more steps", branch.name),
        ))
    }

    fn can_merge(&self, field: &str, position: usize, into: usize) -> Result<(), Error> {
        self.takes_steps(position)?;
        let branch = &self.branches[position];
        let name = &branch.name;
        if position == 0 {
            return Err(Error::invalid(
                field,
                format_args!("{name} goes on; merge others into it"),
            ));
        }
        if position == into {
            return Err(Error::invalid(field, format_args!("{name} cannot be merged into itself")));
        }
        if branch.head.and_then(|head| self.get(head)).is_none_or(|head| head.branch != position) {
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("{field}: branch {name} has no steps of its own to merge"),
            )
            .with_fact("field", field));
        }
        Ok(())
    }

    fn add(
        &mut self,
        added: &Added,
        branch: usize,
        parents: Vec<u32>,
        number: u32,
    ) -> Result<u32, Error> {
        if self.len() >= MAX_STEPS {
            return Err(Error::limit(
                "sequential_thinking.max_chain_steps",
                MAX_STEPS,
                "the chain has as many steps as it may have; conclude it and start another",
            ));
        }
        for (field, cited) in &added.cites {
            self.find(field, *cited)?;
        }
        let id = self.len() + 1;
        self.nodes.push(Node {
            id,
            kind: added.kind,
            status: unresolved(added.kind),
            branch,
            parents,
            number,
            confidence: added.confidence,
            revises: None,
            superseded_by: None,
            resolved_by: None,
            resolved_at: None,
            created_at: added.now,
            cites: added.cites.iter().map(|(_, cited)| *cited).collect(),
            changed: 0,
        });
        self.touched_nodes.insert(id);
        Ok(id)
    }

    fn set_head(&mut self, branch: usize, head: u32) {
        self.branches[branch].head = Some(head);
        self.touched_branches.insert(branch);
    }
}

/// How a step of this kind stands before anybody resolves it.
pub(super) fn unresolved(kind: StepKind) -> StepStatus {
    match kind {
        StepKind::Hypothesis | StepKind::Question => StepStatus::Open,
        StepKind::Unspecified
        | StepKind::Analysis
        | StepKind::Evidence
        | StepKind::Decision
        | StepKind::Risk
        | StepKind::Verification
        | StepKind::Synthesis => StepStatus::Active,
    }
}
