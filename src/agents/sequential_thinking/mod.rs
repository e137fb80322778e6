//! The sequential thinking agent: chains of thought as checked, durable graphs, for each user apart.
//! It keeps and checks what others thought, and thinks nothing itself; who may call is not decided
//! here.
//!
//! `graph` holds the rules and knows no database; `chain` and `steps` hold the rows and know no rules;
//! `draft` brings both together for one change.

mod chain;
mod draft;
mod export;
mod gauges;
mod graph;
mod grow;
mod import;
mod limits;
mod names;
mod numbered;
mod read;
mod review;
mod schema;
mod search;
mod service;
mod settle;
mod similarity;
mod steps;
mod sweep;
mod time;
mod wire;

use std::sync::Arc;

use rusqlite::Connection;

use crate::agents::Setup;
use crate::contract::Agent;
use crate::error::Error;
use crate::proto::opdbus::agent::sequential_thinking::v1::SequentialThinkingServiceAgent;
use crate::storage::{Failure, Store};

use chain::Chain;
use draft::Draft;
use gauges::{Gained, Gauges};
use sweep::Sweep;

/// The implementation of `opdbus.agent.sequential_thinking.v1.SequentialThinkingService`.
pub struct SequentialThinking {
    store: Store,
    gauges: Gauges,
}

/// The agent as the registry takes it.
///
/// # Errors
/// The store's, if its file cannot be opened.
pub fn build(setup: &Setup) -> Result<Arc<dyn Agent>, Error> {
    Ok(Arc::new(SequentialThinkingServiceAgent(Arc::new(SequentialThinking::open(setup)?))))
}

impl SequentialThinking {
    /// Opens the store below the state directory.
    ///
    /// # Errors
    /// The store's, if its file cannot be opened.
    pub fn open(setup: &Setup) -> Result<Self, Error> {
        let gauges = Gauges::new(&setup.metrics);
        let sweep = Sweep { gauges: gauges.clone() };
        let store = Store::open(&setup.storage, &schema::SCHEMA, &setup.status, sweep)?;
        gauges.begin(store.read(gauges::total)?);
        Ok(Self { store, gauges })
    }

    /// Makes one change of the chain `chain_id`, all of it or nothing.
    async fn change<T: Send + 'static>(
        &self,
        uid: u32,
        chain_id: &str,
        work: impl FnOnce(&mut Draft<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let chain_id = chain_id.to_owned();
        self.write(move |database| {
            let now = time::now();
            let mut draft = Draft::of(database, Chain::find(database, uid, &chain_id, now)?, now)?;
            let answer = work(&mut draft)?;
            Ok((answer, draft.save()?))
        })
        .await
    }

    /// Makes one change, which says what it adds to the store.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<(T, Gained), Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let gauges = self.gauges.clone();
        let written = self.store.write(work, move |(_, gained)| gauges.add(*gained)).await;
        written.map(|(answer, _)| answer)
    }

    /// What a new thought repeats, as warnings. It is found before the change, so that the comparison
    /// holds up nobody's writes.
    async fn repetition(
        &self,
        uid: u32,
        chain_id: &str,
        thought: &str,
        except: Option<u32>,
    ) -> Result<Vec<String>, Error> {
        let (chain_id, thought) = (chain_id.to_owned(), thought.to_owned());
        self.store
            .scan(move |database| {
                let chain = Chain::find(database, uid, &chain_id, time::now())?;
                let warning = review::repetition(database, &chain, &thought, except)?;
                Ok(warning.into_iter().collect())
            })
            .await
    }
}

#[cfg(test)]
mod tests;
