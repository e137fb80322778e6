//! The sequential thinking agent: chains of thought as checked, durable graphs, for each user apart.
//! It keeps and checks what others thought, and thinks nothing itself; who may call is not decided
//! here.
//!
//! `graph` holds the rules and knows no database; `chain` and `steps` hold the rows and know no rules;
//! `draft` brings both together for one change.

mod chain;
mod config;
mod draft;
mod export;
mod follow;
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
use crate::contract::{Agent, Intake};
use crate::error::Error;
use crate::proto::opdbus::agent::sequential_thinking::v1::SequentialThinkingServiceAgent;
use crate::storage::{Failure, Store};

pub use config::Config;

use chain::Chain;
use draft::Draft;
use follow::Watchers;
use gauges::{Gained, Gauges};
use sweep::Sweep;
use time::Moment;

/// The implementation of `opdbus.agent.sequential_thinking.v1.SequentialThinkingService`.
pub struct SequentialThinking {
    store: Store,
    config: Config,
    gauges: Gauges,
    watchers: Watchers,
    intake: Arc<Intake>,
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
        let config = setup.settings.sequential_thinking.clone();
        let gauges = Gauges::new(&setup.metrics);
        let sweep = Sweep { gauges: gauges.clone(), max_age: config.max_age };
        let store = Store::open(&setup.storage, &schema::SCHEMA, &setup.status, sweep)?;
        gauges.begin(store.read(gauges::total)?);
        let intake = Intake::new(
            "sequential_thinking.max_import_bytes",
            config.max_import_bytes,
            "sequential_thinking.max_imports",
        );
        Ok(Self { store, config, gauges, watchers: Watchers::default(), intake })
    }

    fn moment(&self) -> Moment {
        Moment::now(self.config.max_age)
    }

    /// Makes one change of the chain `chain_id`, all of it or nothing.
    async fn change<T: Send + 'static>(
        &self,
        uid: u32,
        chain_id: &str,
        work: impl FnOnce(&mut Draft<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let (chain_id, max_age) = (chain_id.to_owned(), self.config.max_age);
        let (watchers, changed) = (self.watchers.clone(), chain_id.clone());
        let change = move |database: &Connection| {
            let moment = Moment::now(max_age);
            let chain = Chain::find(database, uid, &chain_id, moment)?;
            let mut draft = Draft::of(database, chain, moment)?;
            let answer = work(&mut draft)?;
            Ok((answer, draft.save()?))
        };
        self.write(change, move |_| watchers.wake(&changed)).await
    }

    /// Makes one change, which says what it adds to the store. `after` sees the answer once it is
    /// committed, even when nobody waits for it any more.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<(T, Gained), Failure> + Send + 'static,
        after: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, Error> {
        let gauges = self.gauges.clone();
        let committed = move |(answer, gained): &(T, Gained)| {
            gauges.add(*gained);
            after(answer);
        };
        self.store.write(work, committed).await.map(|(answer, _)| answer)
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
        let moment = self.moment();
        self.store
            .scan(move |database| {
                let chain = Chain::find(database, uid, &chain_id, moment)?;
                let warning = review::repetition(database, &chain, &thought, except)?;
                Ok(warning.into_iter().collect())
            })
            .await
    }
}

#[cfg(test)]
mod tests;
