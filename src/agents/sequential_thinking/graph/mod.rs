//! A chain's steps and branches without their texts, and questions about how they hang together. It
//! knows no storage; a change is made in memory, and what was touched is noted for whoever stores it.

mod change;
mod check;
mod resolve;
mod sound;
mod tree;

use std::collections::BTreeSet;

use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::sequential_thinking::v1::{StepKind, StepStatus};

pub(super) use change::{Added, Place};
pub(super) use check::{Contradiction, mean};
pub(super) use tree::{Placed, View};

/// The branch that every chain has.
pub(super) const MAIN: &str = "main";

/// A step without its texts.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The position in the chain, from 1.
    pub(super) id: u32,
    pub(super) kind: StepKind,
    pub(super) status: StepStatus,
    /// The position in [`Graph::branches`].
    pub(super) branch: usize,
    /// The steps that it follows, each with a smaller id; the first one is on its own line.
    pub(super) parents: Vec<u32>,
    /// The number on its line.
    pub(super) number: u32,
    pub(super) confidence: Option<f64>,
    pub(super) revises: Option<u32>,
    pub(super) superseded_by: Option<u32>,
    pub(super) resolved_by: Option<u32>,
    /// When it was resolved, in microseconds since the epoch.
    pub(super) resolved_at: Option<i64>,
    /// When it was added, in microseconds since the epoch.
    pub(super) created_at: i64,
    /// The steps that it names as its evidence.
    pub(super) cites: Vec<u32>,
    /// The revision of the chain that last changed it; set by whoever stores it.
    pub(super) changed: i64,
}

/// A branch.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) name: String,
    pub(super) from_step: Option<u32>,
    /// The step that the next one follows.
    pub(super) head: Option<u32>,
    pub(super) merged_by: Option<u32>,
}

/// A chain's steps and branches.
#[derive(Clone, Debug)]
pub(super) struct Graph {
    /// By id: the step 1 is the first.
    pub(super) nodes: Vec<Node>,
    /// In the order in which they were opened; the first is `main`.
    pub(super) branches: Vec<Branch>,
    /// The steps that were added or changed.
    pub(super) touched_nodes: BTreeSet<u32>,
    /// The positions of the branches that were added or changed.
    pub(super) touched_branches: BTreeSet<usize>,
}

impl Node {
    /// True unless it was superseded, dropped or refuted.
    pub(super) fn stands(&self) -> bool {
        match self.status {
            StepStatus::Unspecified
            | StepStatus::Active
            | StepStatus::Open
            | StepStatus::Confirmed
            | StepStatus::Answered => true,
            StepStatus::Refuted | StepStatus::Dropped | StepStatus::Superseded => false,
        }
    }
}

impl Graph {
    /// A chain's first branch and nothing on it.
    pub(super) fn empty() -> Self {
        let main = Branch { name: MAIN.to_owned(), from_step: None, head: None, merged_by: None };
        Self {
            nodes: Vec::new(),
            branches: vec![main],
            touched_nodes: BTreeSet::new(),
            touched_branches: BTreeSet::from([0]),
        }
    }

    /// How many steps there are.
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.nodes.len()).unwrap_or(u32::MAX)
    }

    /// The step `id`, which `field` of the request names.
    pub(super) fn find(&self, field: &str, id: u32) -> Result<&Node, Error> {
        self.get(id).ok_or_else(|| {
            let there = match self.len() {
                0 => "the chain has no steps yet".to_owned(),
                last => format!("the chain has the steps 1 to {last}"),
            };
            Error::new(ErrorKind::NotFound, format!("{field}: there is no step {id}; {there}"))
                .with_fact("field", field)
        })
    }

    /// As [`Graph::find`], and refuses a superseded step, naming the one that took its place.
    pub(super) fn find_current(&self, field: &str, id: u32) -> Result<&Node, Error> {
        let node = self.find(field, id)?;
        if node.status == StepStatus::Superseded {
            let newest = self.newest(id);
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("{field}: step {id} was superseded; name step {newest} instead"),
            )
            .with_fact("field", field)
            .with_fact("current_step", newest.to_string()));
        }
        Ok(node)
    }

    pub(super) fn get(&self, id: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(id.checked_sub(1)?).ok()?)
    }

    /// The step that stands in the place of `id` after all revisions; itself if there was none.
    pub(super) fn newest(&self, id: u32) -> u32 {
        let mut newest = id;
        while let Some(next) = self.get(newest).and_then(|node| node.superseded_by) {
            newest = next;
        }
        newest
    }

    /// The position of the branch `name`, which `field` of the request names.
    pub(super) fn branch(&self, field: &str, name: &str) -> Result<usize, Error> {
        self.branch_position(name).ok_or_else(|| {
            let names: Vec<&str> =
                self.branches.iter().map(|branch| branch.name.as_str()).collect();
            Error::new(
                ErrorKind::NotFound,
                format!("{field}: there is no branch {name}; there are {}", names.join(", ")),
            )
            .with_fact("field", field)
        })
    }

    pub(super) fn branch_position(&self, name: &str) -> Option<usize> {
        self.branches.iter().position(|branch| branch.name == name)
    }

    /// The steps from `head` back to the first one along first parents, each in its newest revision.
    pub(super) fn line(&self, head: Option<u32>) -> Vec<u32> {
        let mut line = Vec::new();
        // A revision has the parents of what it revises, so the ids looked up only become smaller.
        let mut next = head;
        while let Some(id) = next {
            let newest = self.newest(id);
            line.push(newest);
            next = self.get(newest).and_then(|node| node.parents.first().copied());
        }
        line
    }

    /// The hypotheses and questions that are open.
    pub(super) fn open_steps(&self) -> Vec<u32> {
        let open = self.nodes.iter().filter(|node| node.status == StepStatus::Open);
        open.map(|node| node.id).collect()
    }

    /// The steps that follow `id`, directly.
    pub(super) fn children(&self, id: u32) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(move |node| node.parents.contains(&id))
    }

    /// A step while the graph is read; it does not count as touched.
    pub(super) fn stored_mut(&mut self, id: u32) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(id.checked_sub(1)?).ok()?)
    }

    /// Notes that something about a step has changed that the graph does not hold.
    pub(super) fn touch(&mut self, id: u32) {
        self.touched_nodes.insert(id);
    }

    fn node_mut(&mut self, id: u32) -> Option<&mut Node> {
        self.touched_nodes.insert(id);
        self.stored_mut(id)
    }
}

#[cfg(test)]
mod tests;
