//! The context manager: named lists of items with versions, for each user apart, durably. What a
//! request may hold and what it does stands in the file of its operation; who may call is not decided
//! here.

mod assemble;
mod branch;
mod choice;
mod compaction;
mod config;
mod fields;
mod formats;
mod gauges;
mod item;
mod list;
mod load;
mod save;
mod search;
mod service;
mod session_end;
mod space;
mod sweep;
mod tables;
mod transfer;

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::agents::Setup;
use crate::contract::{Agent, Intake};
use crate::error::Error;
use crate::proto::opdbus::agent::context_manager::v1::ContextManagerServiceAgent;
use crate::storage::{Failure, Store, time};

pub use config::Config;

use gauges::Gauges;
use space::Space;
use sweep::Sweep;
use tables::{Change, Gained};

/// The implementation of `opdbus.agent.context_manager.v1.ContextManagerService`.
pub struct ContextManager {
    store: Store,
    config: Arc<Config>,
    gauges: Gauges,
    /// Lets one long query in at a time, so that the store always has a place for short ones.
    long_queries: Arc<Semaphore>,
    intake: Arc<Intake>,
}

/// The agent as the registry takes it.
///
/// # Errors
/// The store's, if its file cannot be opened.
pub fn build(setup: &Setup) -> Result<Arc<dyn Agent>, Error> {
    let manager = ContextManager::open(setup)?;
    Ok(Arc::new(ContextManagerServiceAgent(Arc::new(manager))))
}

impl ContextManager {
    /// Opens the store below the state directory.
    ///
    /// # Errors
    /// The store's, if its file cannot be opened.
    pub fn open(setup: &Setup) -> Result<Self, Error> {
        let config = Arc::new(setup.settings.context_manager.clone());
        let gauges = Gauges::new(&setup.metrics);
        let sweep = Sweep { config: Arc::clone(&config), gauges: gauges.clone() };
        let store = Store::open(&setup.storage, &tables::SCHEMA, &setup.status, sweep)?;
        gauges.begin(store.read(tables::total)?);
        let intake = Intake::new(
            "context_manager.max_import_bytes",
            config.max_import_bytes,
            "context_manager.max_imports",
        );
        let long_queries = Arc::new(Semaphore::new(1));
        Ok(Self { store, config, gauges, long_queries, intake })
    }

    /// Makes one change, all of it or nothing.
    async fn change<T: Send + 'static>(
        &self,
        space: Space,
        work: impl FnOnce(&mut Change<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let config = Arc::clone(&self.config);
        self.write(move |database| {
            let (answer, gained) = Change::run(database, &config, space, time::now(), work)?;
            Ok((gained, answer))
        })
        .await
    }

    /// Makes a write, which says what it adds to the store.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<(Gained, T), Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let gauges = self.gauges.clone();
        let written = self.store.write(work, move |(gained, _)| gauges.add(*gained)).await;
        written.map(|(_, answer)| answer)
    }

    /// Runs a query of the caller's, as of one moment.
    async fn query<T: Send + 'static>(
        &self,
        space: Space,
        query: impl FnOnce(&Connection, &Space, i64) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        self.store.scan(move |database| query(database, &space, time::now())).await
    }

    /// The same for one that may take seconds.
    async fn long_query<T: Send + 'static>(
        &self,
        space: Space,
        query: impl FnOnce(&Connection, &Space, i64) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let place = Arc::clone(&self.long_queries)
            .acquire_owned()
            .await
            .map_err(|_closed| Error::internal("the context manager takes no more queries"))?;
        let query = move |database: &Connection, space: &Space, now| {
            // It is held to the query's end, which may come after the caller went away.
            let _place = place;
            query(database, space, now)
        };
        self.query(space, query).await
    }
}
