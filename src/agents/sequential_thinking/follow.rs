//! WatchChain: who waits for the steps of which chain, and what he has not seen of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prost::Message as _;
use rusqlite::Connection;
use tokio::sync::watch;

use super::chain::Chain;
use super::graph::View;
use super::time::Moment;
use super::{SequentialThinking, steps, wire};
use crate::contract::Replies;
use crate::error::Error;
use crate::proto::opdbus::agent::sequential_thinking::v1::watch_chain_response::Event;
use crate::proto::opdbus::agent::sequential_thinking::v1::{
    ChainStatus, Conclusion, Step, WatchChainRequest, WatchChainResponse,
};
use crate::storage::Failure;

/// How many steps are read at a time.
const STEPS: usize = 64;

/// A read ends with the step that makes it larger than this, in bytes.
const READ_BYTES: usize = 256 * 1024;

/// Who waits for changes, by the chain's id.
#[derive(Clone, Default)]
pub(super) struct Watchers(Arc<Mutex<HashMap<String, watch::Sender<()>>>>);

/// One who waits for the changes of a chain.
struct Watcher<'a> {
    watchers: &'a Watchers,
    chain_id: &'a str,
    changes: watch::Receiver<()>,
}

impl Watchers {
    /// Says that a chain was changed.
    pub(super) fn wake(&self, chain_id: &str) {
        if let Some(changes) = self.lock().get(chain_id) {
            changes.send_replace(());
        }
    }

    /// Sees every change that is made from here on.
    fn watch<'a>(&'a self, chain_id: &'a str) -> Watcher<'a> {
        let changes = self.lock().entry(chain_id.to_owned()).or_default().subscribe();
        Watcher { watchers: self, chain_id, changes }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, watch::Sender<()>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watcher<'_> {
    fn drop(&mut self) {
        let mut watched = self.watchers.lock();
        // This one still counts.
        if watched.get(self.chain_id).is_some_and(|changes| changes.receiver_count() <= 1) {
            watched.remove(self.chain_id);
        }
    }
}

/// What somebody has not seen of a chain, as of one moment.
#[derive(Default)]
struct Unseen {
    steps: Vec<Step>,
    /// True if there are further steps.
    more: bool,
    /// The chain's end, if nothing comes before it.
    conclusion: Option<Conclusion>,
}

impl Unseen {
    fn load(
        database: &Connection,
        uid: u32,
        chain_id: &str,
        known: u32,
        moment: Moment,
    ) -> Result<Self, Failure> {
        let chain = Chain::find(database, uid, chain_id, moment)?;
        if known > chain.steps {
            let problem = format!("is beyond the last step, {}", chain.steps);
            return Err(Error::invalid("since_step", problem).into());
        }
        let mut unseen = Self::default();
        if known == chain.steps {
            if chain.status == ChainStatus::Concluded {
                let text = chain.texts(database)?.conclusion;
                unseen.conclusion = Some(Conclusion { text, steps: chain.steps });
            }
            return Ok(unseen);
        }
        let graph = steps::load(database, chain.row)?;
        let mut bytes = 0;
        for placed in graph.view(View::Full) {
            if placed.id <= known {
                continue;
            }
            if unseen.steps.len() >= STEPS || bytes >= READ_BYTES {
                break;
            }
            let content = steps::content(database, chain.row, placed.id)?;
            let Some(step) = wire::step(&graph, placed, content) else { continue };
            bytes += step.encoded_len();
            unseen.steps.push(step);
        }
        // Even if these are all there are: the end is only told by a read that finds no step.
        unseen.more = true;
        Ok(unseen)
    }
}

impl SequentialThinking {
    /// Gives the steps of a chain until it is concluded.
    pub(super) async fn follow(
        &self,
        uid: u32,
        request: &WatchChainRequest,
        replies: Replies<WatchChainResponse>,
    ) -> Result<(), Error> {
        let mut watcher = self.watchers.watch(&request.chain_id);
        let mut known = request.since_step;
        loop {
            // What changes from here on wakes, even if the read sees it already.
            watcher.changes.mark_unchanged();
            let (chain_id, moment) = (request.chain_id.clone(), self.moment());
            let load =
                move |database: &Connection| Unseen::load(database, uid, &chain_id, known, moment);
            let unseen = self.store.scan(load).await?;
            for step in unseen.steps {
                known = step.step;
                send(&replies, Event::Step(step)).await?;
            }
            if let Some(conclusion) = unseen.conclusion {
                return send(&replies, Event::Conclusion(conclusion)).await;
            }
            if !unseen.more {
                let ended = watcher.changes.changed().await;
                ended.map_err(|_gone| Error::internal("nobody tells of changes any more"))?;
            }
        }
    }
}

async fn send(replies: &Replies<WatchChainResponse>, event: Event) -> Result<(), Error> {
    replies.send(WatchChainResponse { event: Some(event) }).await
}
