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
mod sweep;
mod tables;
mod transfer;

use std::sync::Arc;

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::agents::Setup;
use crate::call::Context;
use crate::contract::Agent;
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::context_manager::v1::ContextManagerServiceAgent;
use crate::storage::{Failure, Store, time};

pub use config::Config;

use gauges::Gauges;
use sweep::Sweep;
use tables::Change;

/// The implementation of `opdbus.agent.context_manager.v1.ContextManagerService`.
pub struct ContextManager {
    store: Store,
    config: Arc<Config>,
    gauges: Gauges,
    /// Lets one long query in at a time, so that the store always has a place for short ones.
    long_queries: Arc<Semaphore>,
}

/// The agent as the registry takes it.
///
/// # Errors
/// The store's, if its file cannot be opened.
pub fn build(setup: &Setup) -> Result<Arc<dyn Agent>, Error> {
    let manager = ContextManager::open(setup, Config::default())?;
    Ok(Arc::new(ContextManagerServiceAgent(Arc::new(manager))))
}

impl ContextManager {
    /// Opens the store below the state directory.
    ///
    /// # Errors
    /// The store's, if its file cannot be opened.
    pub fn open(setup: &Setup, config: Config) -> Result<Self, Error> {
        let config = Arc::new(config);
        let gauges = Gauges::new(&setup.metrics);
        let sweep = Sweep { config: Arc::clone(&config), gauges: gauges.clone() };
        let store = Store::open(&setup.storage, &tables::SCHEMA, &setup.status, sweep)?;
        gauges.begin(store.read(tables::total)?);
        Ok(Self { store, config, gauges, long_queries: Arc::new(Semaphore::new(1)) })
    }

    /// Makes one change, all of it or nothing.
    async fn change<T: Send + 'static>(
        &self,
        context: &Context,
        work: impl FnOnce(&mut Change<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let uid = uid(context)?;
        let config = Arc::clone(&self.config);
        let gauges = self.gauges.clone();
        self.store
            .write(
                move |database| Change::run(database, &config, uid, time::now(), work),
                move |(_, gained)| gauges.add(*gained),
            )
            .await
            .map(|(answer, _)| answer)
    }

    /// Runs a query of the caller's, as of one moment.
    async fn query<T: Send + 'static>(
        &self,
        context: &Context,
        query: impl FnOnce(&Connection, u32, i64) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let uid = uid(context)?;
        self.store.scan(move |database| query(database, uid, time::now())).await
    }

    /// The same for one that may take seconds.
    async fn long_query<T: Send + 'static>(
        &self,
        context: &Context,
        query: impl FnOnce(&Connection, u32, i64) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let place = Arc::clone(&self.long_queries)
            .acquire_owned()
            .await
            .map_err(|_closed| Error::internal("the context manager takes no more queries"))?;
        let query = move |database: &Connection, uid, now| {
            // It is held to the query's end, which may come after the caller went away.
            let _place = place;
            query(database, uid, now)
        };
        self.query(context, query).await
    }
}

fn uid(context: &Context) -> Result<u32, Error> {
    context.caller.uid().ok_or_else(|| {
        Error::new(ErrorKind::Unauthenticated, "the contexts of nobody cannot be reached")
    })
}
