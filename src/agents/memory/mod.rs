//! The memory agent: values under keys, for each user apart, durably. What a request may hold and what
//! it does stands in one file for each operation; who may call is not decided here.

mod change;
mod config;
mod fields;
mod forget;
mod gauges;
mod increment;
mod list;
mod recall;
mod remember;
mod restore;
mod room;
mod schema;
mod sweep;
mod transact;
mod value;

use std::sync::Arc;

use crate::agents::Setup;
use crate::call::Context;
use crate::contract::Agent;
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::memory::v1::{
    BulkRecallRequest, BulkRecallResponse, ForgetRequest, ForgetResponse, HistoryRequest,
    HistoryResponse, IncrementRequest, IncrementResponse, ListRequest, ListResponse, MemoryService,
    MemoryServiceAgent, RecallRequest, RecallResponse, RememberRequest, RememberResponse,
    RestoreRequest, RestoreResponse, TransactRequest, TransactResponse,
};
use crate::storage::{Failure, Store, time};

pub use config::Config;

use change::Change;
use fields::Scope;
use forget::Forget;
use gauges::Gauges;
use increment::Increment;
use list::List;
use recall::Recall;
use remember::Remember;
use restore::Restore;
use sweep::Sweep;
use transact::Transact;

/// How many keys a BulkRecall names at most.
const MAX_BULK: usize = 1000;

/// So many keys are read on the calling thread, as one is; more go to a thread for long reads.
const BULK_INLINE: usize = 16;

const DEFAULT_HISTORY: u32 = 100;
const MAX_HISTORY: u32 = 1000;

/// The implementation of `opdbus.agent.memory.v1.MemoryService`.
pub struct Memory {
    store: Store,
    config: Arc<Config>,
    gauges: Gauges,
}

/// The agent as the registry takes it.
///
/// # Errors
/// The store's, if its file cannot be opened.
pub fn build(setup: &Setup) -> Result<Arc<dyn Agent>, Error> {
    Ok(Arc::new(MemoryServiceAgent(Arc::new(Memory::open(setup, Config::default())?))))
}

impl Memory {
    /// Opens the store below the state directory.
    ///
    /// # Errors
    /// The store's, if its file cannot be opened.
    pub fn open(setup: &Setup, config: Config) -> Result<Self, Error> {
        let config = Arc::new(config);
        let gauges = Gauges::new(&setup.metrics);
        let sweep = Sweep { config: Arc::clone(&config), gauges: gauges.clone() };
        let store = Store::open(&setup.storage, &schema::SCHEMA, &setup.status, sweep)?;
        gauges.begin(store.read(gauges::total)?);
        Ok(Self { store, config, gauges })
    }

    /// Makes one change, all of it or nothing.
    async fn change<T: Send + 'static>(
        &self,
        scope: Scope,
        work: impl FnOnce(&mut Change<'_>) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, Error> {
        let config = Arc::clone(&self.config);
        let gauges = self.gauges.clone();
        self.store
            .write(
                move |database| {
                    let mut change = Change::new(database, &config, scope, time::now());
                    let answer = work(&mut change)?;
                    change.make_room()?;
                    Ok((answer, change.gained))
                },
                move |(_, gained)| gauges.add(*gained),
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

fn scope(context: &Context, namespace: String) -> Result<Scope, Error> {
    let uid = context.caller.uid().ok_or_else(|| {
        Error::new(ErrorKind::Unauthenticated, "the memory of nobody cannot be reached")
    })?;
    Ok(Scope { uid, namespace: fields::namespace("", namespace)? })
}

impl MemoryService for Memory {
    async fn remember(
        &self,
        context: &Context,
        mut request: RememberRequest,
    ) -> Result<RememberResponse, Error> {
        let scope = scope(context, std::mem::take(&mut request.namespace))?;
        let remember = Remember::check("", request)?;
        self.change(scope, move |change| remember.apply(change)).await
    }

    async fn recall(
        &self,
        context: &Context,
        mut request: RecallRequest,
    ) -> Result<RecallResponse, Error> {
        let scope = scope(context, std::mem::take(&mut request.namespace))?;
        let recall = Recall::check("", request)?;
        self.store.read(|database| recall.apply(database, &self.config, &scope, time::now()))
    }

    async fn forget(
        &self,
        context: &Context,
        mut request: ForgetRequest,
    ) -> Result<ForgetResponse, Error> {
        let scope = scope(context, std::mem::take(&mut request.namespace))?;
        let forget = Forget::check("", request)?;
        self.change(scope, move |change| forget.apply(change)).await
    }

    async fn list(
        &self,
        context: &Context,
        mut request: ListRequest,
    ) -> Result<ListResponse, Error> {
        let scope = scope(context, std::mem::take(&mut request.namespace))?;
        let list = List::check(&scope, request)?;
        self.store.scan(move |database| list.apply(database, &scope, time::now())).await
    }

    async fn increment(
        &self,
        context: &Context,
        mut request: IncrementRequest,
    ) -> Result<IncrementResponse, Error> {
        let scope = scope(context, std::mem::take(&mut request.namespace))?;
        let increment = Increment::check("", request)?;
        self.change(scope, move |change| increment.apply(change)).await
    }

    async fn transact(
        &self,
        context: &Context,
        mut request: TransactRequest,
    ) -> Result<TransactResponse, Error> {
        let scope = scope(context, std::mem::take(&mut request.namespace))?;
        let transact = Transact::check(request)?;
        self.change(scope, move |change| transact.apply(change)).await
    }

    async fn bulk_recall(
        &self,
        context: &Context,
        request: BulkRecallRequest,
    ) -> Result<BulkRecallResponse, Error> {
        let scope = scope(context, request.namespace)?;
        let keys = request.keys;
        if keys.len() > MAX_BULK {
            return Err(Error::invalid(
                "keys",
                format_args!("must be {MAX_BULK} at most, not {}", keys.len()),
            ));
        }
        for (index, key) in keys.iter().enumerate() {
            fields::key_of_list(index, key)?;
        }
        let items = if keys.len() <= BULK_INLINE {
            self.store.read(|snapshot| recall::bulk(snapshot, &scope, keys, time::now()))?
        } else {
            self.store
                .scan(move |snapshot| recall::bulk(snapshot, &scope, keys, time::now()))
                .await?
        };
        Ok(BulkRecallResponse { items })
    }

    async fn history(
        &self,
        context: &Context,
        request: HistoryRequest,
    ) -> Result<HistoryResponse, Error> {
        let scope = scope(context, request.namespace)?;
        fields::key("", &request.key)?;
        if request.limit > MAX_HISTORY {
            return Err(Error::invalid(
                "limit",
                format_args!("must be {MAX_HISTORY} at most, not {}", request.limit),
            ));
        }
        let limit = if request.limit == 0 { DEFAULT_HISTORY } else { request.limit };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        self.settle(&scope, &request.key).await?;
        let config = Arc::clone(&self.config);
        self.store
            .scan(move |snapshot| recall::history(snapshot, &config, &scope, &request.key, limit))
            .await
    }

    async fn restore(
        &self,
        context: &Context,
        mut request: RestoreRequest,
    ) -> Result<RestoreResponse, Error> {
        let scope = scope(context, std::mem::take(&mut request.namespace))?;
        let restore = Restore::check(request)?;
        self.change(scope, move |change| restore.apply(change)).await
    }
}

#[cfg(test)]
mod tests;
