//! One change of one chain: the chain and its graph are read, changed in memory, and written together.

use std::collections::BTreeMap;

use rusqlite::Connection;

use super::chain::{Chain, NewChain};
use super::gauges::Gained;
use super::graph::Graph;
use super::steps::{self, Content};
use super::time::Moment;
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::sequential_thinking::v1::ChainStatus;
use crate::storage::Failure;

/// A chain while it is changed. Nothing is stored before [`Draft::save`].
pub(super) struct Draft<'a> {
    pub(super) database: &'a Connection,
    pub(super) chain: Chain,
    pub(super) graph: Graph,
    pub(super) moment: Moment,
    added: BTreeMap<u32, Content>,
    /// 1 if the chain begins.
    begun: i64,
    /// True if something beside the graph was changed.
    changed: bool,
}

impl<'a> Draft<'a> {
    /// A chain that is there.
    pub(super) fn of(
        database: &'a Connection,
        chain: Chain,
        moment: Moment,
    ) -> Result<Self, Failure> {
        let graph = steps::load(database, chain.row)?;
        Ok(Self {
            database,
            chain,
            graph,
            moment,
            added: BTreeMap::new(),
            begun: 0,
            changed: false,
        })
    }

    /// A chain that begins.
    pub(super) fn begin(
        database: &'a Connection,
        new: &NewChain,
        max_chains: u32,
        moment: Moment,
    ) -> Result<Self, Failure> {
        let chain = Chain::begin(database, new, max_chains, moment)?;
        let graph = Graph::empty();
        Ok(Self { database, chain, graph, moment, added: BTreeMap::new(), begun: 1, changed: true })
    }

    /// Refuses a chain that is concluded.
    pub(super) fn must_be_open(&self) -> Result<(), Error> {
        if self.chain.status != ChainStatus::Concluded {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Conflict,
            "the chain is concluded; open it again with Think and reopen, or start another",
        ))
    }

    /// Opens a concluded chain again, without its conclusion.
    pub(super) fn reopen(&mut self) -> Result<(), rusqlite::Error> {
        if self.chain.status == ChainStatus::Concluded {
            self.chain.status = ChainStatus::Open;
            self.changed = true;
            self.chain.set_conclusion(self.database, "")?;
        }
        Ok(())
    }

    /// Closes the chain with a conclusion.
    pub(super) fn conclude(&mut self, conclusion: &str) -> Result<(), rusqlite::Error> {
        self.chain.status = ChainStatus::Concluded;
        self.changed = true;
        self.chain.set_conclusion(self.database, conclusion)
    }

    /// Takes a graph over, every step of which is new.
    pub(super) fn adopt(&mut self, graph: Graph) {
        self.graph = graph;
        self.graph.touched_nodes = (1..=self.graph.len()).collect();
        self.graph.touched_branches = (0..self.graph.branches.len()).collect();
    }

    /// Gives a new step of the graph its texts.
    pub(super) fn write(&mut self, step: u32, content: Content) {
        self.added.insert(step, content);
    }

    /// Stores everything that was changed and says what it adds; a change that came to nothing leaves
    /// no trace.
    pub(super) fn save(&mut self) -> Result<Gained, Failure> {
        let graph = &self.graph;
        if !self.changed && graph.touched_nodes.is_empty() && graph.touched_branches.is_empty() {
            return Ok(Gained::default());
        }
        let steps = i64::from(self.graph.len()) - i64::from(self.chain.steps);
        self.chain.revision += 1;
        self.chain.steps = self.graph.len();
        self.chain.open = u32::try_from(self.graph.open_steps().len()).unwrap_or(u32::MAX);
        self.chain.save(self.database, self.moment)?;
        steps::save(self.database, self.chain.row, self.chain.revision, &self.graph, &self.added)?;
        Ok(Gained { chains: self.begun, steps })
    }

    /// What exceeds the plan, as a warning.
    pub(super) fn plan_warning(&self) -> Option<String> {
        let (steps, planned) = (self.graph.len(), self.chain.max_steps);
        (steps > planned)
            .then(|| format!("the chain has {steps} steps, more than the {planned} planned"))
    }
}
