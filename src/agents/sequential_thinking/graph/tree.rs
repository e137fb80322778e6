//! In which order the steps of a chain are shown, and which of them.

use std::collections::BTreeMap;

use super::Graph;

/// Which steps, and in which order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum View {
    /// Those that stand, by id.
    Active,
    /// All, by id.
    Full,
    /// All, each after the one that it follows from.
    Tree,
}

/// A step's place in a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Placed {
    pub(in super::super) id: u32,
    /// How many steps it is away from the first one; 0 unless in the view of the tree.
    pub(in super::super) depth: u32,
}

impl Graph {
    /// The steps of a view, in its order.
    pub(in super::super) fn view(&self, view: View) -> Vec<Placed> {
        let flat = |id| Placed { id, depth: 0 };
        match view {
            View::Active => {
                self.nodes.iter().filter(|node| node.stands()).map(|node| flat(node.id)).collect()
            }
            View::Full => self.nodes.iter().map(|node| flat(node.id)).collect(),
            View::Tree => self.tree(),
        }
    }

    fn tree(&self) -> Vec<Placed> {
        let mut children: BTreeMap<Option<u32>, Vec<u32>> = BTreeMap::new();
        for node in &self.nodes {
            children.entry(node.parents.first().copied()).or_default().push(node.id);
        }
        let below = |parent: Option<u32>, depth: u32| {
            let ids = children.get(&parent).map(Vec::as_slice).unwrap_or_default();
            // The last one is taken from the stack first.
            ids.iter().rev().map(move |id| Placed { id: *id, depth })
        };
        let mut stack: Vec<Placed> = below(None, 0).collect();
        let mut placed = Vec::with_capacity(self.nodes.len());
        while let Some(next) = stack.pop() {
            placed.push(next);
            stack.extend(below(Some(next.id), next.depth + 1));
        }
        placed
    }
}
