//! The memory agent: values under keys, for each user apart, durably. What a request may hold and what
//! it does stands in one file for each operation; who may call is not decided here.

mod bulk;
mod change;
mod config;
mod fields;
mod forget;
mod gauges;
mod increment;
mod list;
mod place;
mod recall;
mod remember;
mod restore;
mod room;
mod schema;
mod search;
mod service;
mod session;
mod stats;
mod sweep;
mod transact;
mod transfer;
mod value;
mod watch;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::agents::Setup;
use crate::contract::Agent;
use crate::error::Error;
use crate::proto::opdbus::agent::memory::v1::MemoryServiceAgent;
use crate::storage::{Failure, Store, time};

pub use config::Config;

use change::{Change, Made};
use fields::Scope;
use gauges::Gauges;
use sweep::Sweep;
use watch::Feeds;

/// The implementation of `opdbus.agent.memory.v1.MemoryService`.
pub struct Memory {
    store: Store,
    shared: Arc<Shared>,
    /// Lets one search in at a time, so that the store always has a place for short reads.
    searches: Arc<Semaphore>,
}

/// What calls and the sweeper share.
struct Shared {
    config: Config,
    gauges: Gauges,
    feeds: Arc<Feeds>,
}

impl Shared {
    /// Sees a change after its commit.
    fn committed(&self, made: &Made) {
        self.gauges.add(made.gained);
        self.feeds.tell(&made.changed);
    }
}

/// The agent as the registry takes it.
///
/// # Errors
/// The store's, if its file cannot be opened.
pub fn build(setup: &Setup) -> Result<Arc<dyn Agent>, Error> {
    let memory = Memory::open(setup, setup.settings.memory.clone())?;
    Ok(Arc::new(MemoryServiceAgent(Arc::new(memory))))
}

impl Memory {
    /// Opens the store below the state directory.
    ///
    /// # Errors
    /// The store's, if its file cannot be opened.
    pub fn open(setup: &Setup, config: Config) -> Result<Self, Error> {
        let gauges = Gauges::new(&setup.metrics);
        let shared = Arc::new(Shared { config, gauges, feeds: Arc::default() });
        let sweep = Sweep(Arc::clone(&shared));
        let store = Store::open(&setup.storage, &schema::SCHEMA, &setup.status, sweep)?;
        shared.gauges.begin(store.read(gauges::total)?);
        shared.feeds.begin(store.read(watch::revisions)?);
        Ok(Self { store, shared, searches: Arc::new(Semaphore::new(1)) })
    }

    /// Makes one change, all of it or nothing.
    async fn change<T: Send + 'static>(
        &self,
        scope: Scope,
        work: impl FnOnce(&mut Change<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let (shared, after) = (Arc::clone(&self.shared), Arc::clone(&self.shared));
        self.store
            .write(
                move |database| {
                    let mut change = Change::new(database, &shared, scope, time::now());
                    let answer = work(&mut change)?;
                    Ok((answer, change.finish()?))
                },
                move |(_, made)| after.committed(made),
            )
            .await
            .map(|(answer, _)| answer)
    }

    /// Writes the expiry of a key down, if its time is over: it is one of the key's versions.
    async fn settle(&self, scope: &Scope, key: &str) -> Result<(), Error> {
        let now = time::now();
        let entry = self.store.read(|database| Ok(change::find(database, scope, key)?))?;
        if entry.is_some_and(|entry| entry.is_over(now)) {
            let key = key.to_owned();
            self.change(scope.clone(), move |change| change.entry(&key)).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
