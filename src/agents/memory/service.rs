//! The operations as the contract has them: each finds out whose keys are meant and hands the request
//! to its file. What a request may hold is not known here.

use std::sync::Arc;

use super::fields::{Owner, Scope};
use super::forget::Forget;
use super::increment::Increment;
use super::list::List;
use super::recall::{self, Recall};
use super::remember::Remember;
use super::restore::Restore;
use super::transact::Transact;
use super::{Memory, bulk, fields, search, session, stats, time, transfer, watch};
use crate::call::{Context, SessionScope};
use crate::contract::{Replies, Requests};
use crate::error::Error;
use crate::proto::opdbus::agent::memory::v1::{
    BulkRecallRequest, BulkRecallResponse, BulkRememberRequest, BulkRememberResponse,
    ExportRequest, ExportResponse, ForgetRequest, ForgetResponse, HistoryRequest, HistoryResponse,
    ImportRequest, ImportResponse, IncrementRequest, IncrementResponse, ListRequest, ListResponse,
    MemoryService, RecallRequest, RecallResponse, RememberRequest, RememberResponse,
    RestoreRequest, RestoreResponse, SearchRequest, SearchResponse, StatsRequest, StatsResponse,
    TransactRequest, TransactResponse, WatchRequest, WatchResponse,
};

const DEFAULT_HISTORY: u32 = 100;
const MAX_HISTORY: u32 = 1000;

impl MemoryService for Memory {
    async fn remember(
        &self,
        context: &Context,
        request: RememberRequest,
    ) -> Result<RememberResponse, Error> {
        let scope = Scope::of(context, "", request.scope, &request.namespace)?;
        let remember = Remember::check("", request)?;
        self.change(scope, move |change| remember.apply(change)).await
    }

    async fn recall(
        &self,
        context: &Context,
        request: RecallRequest,
    ) -> Result<RecallResponse, Error> {
        let scope = Scope::of(context, "", request.scope, &request.namespace)?;
        let recall = Recall::check("", request)?;
        self.store.read(|database| recall.apply(database, &self.shared.config, &scope, time::now()))
    }

    async fn forget(
        &self,
        context: &Context,
        request: ForgetRequest,
    ) -> Result<ForgetResponse, Error> {
        let scope = Scope::of(context, "", request.scope, &request.namespace)?;
        let forget = Forget::check("", request)?;
        self.change(scope, move |change| forget.apply(change)).await
    }

    async fn list(&self, context: &Context, request: ListRequest) -> Result<ListResponse, Error> {
        let scope = Scope::of(context, "", request.scope, &request.namespace)?;
        let list = List::check(&scope, request)?;
        self.store.scan(move |database| list.apply(database, &scope, time::now())).await
    }

    async fn increment(
        &self,
        context: &Context,
        request: IncrementRequest,
    ) -> Result<IncrementResponse, Error> {
        let scope = Scope::of(context, "", request.scope, &request.namespace)?;
        let increment = Increment::check("", request)?;
        self.change(scope, move |change| increment.apply(change)).await
    }

    async fn transact(
        &self,
        context: &Context,
        request: TransactRequest,
    ) -> Result<TransactResponse, Error> {
        let scope = Scope::of(context, "", request.scope, &request.namespace)?;
        let transact = Transact::check(request)?;
        self.change(scope, move |change| transact.apply(change)).await
    }

    async fn history(
        &self,
        context: &Context,
        request: HistoryRequest,
    ) -> Result<HistoryResponse, Error> {
        let scope = Scope::of(context, "", request.scope, &request.namespace)?;
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
        let shared = Arc::clone(&self.shared);
        self.store
            .scan(move |snapshot| {
                recall::history(snapshot, &shared.config, &scope, &request.key, limit)
            })
            .await
    }

    async fn restore(
        &self,
        context: &Context,
        request: RestoreRequest,
    ) -> Result<RestoreResponse, Error> {
        let scope = Scope::of(context, "", request.scope, &request.namespace)?;
        let restore = Restore::check(request)?;
        self.change(scope, move |change| restore.apply(change)).await
    }

    async fn bulk_remember(
        &self,
        context: &Context,
        requests: Requests<BulkRememberRequest>,
    ) -> Result<BulkRememberResponse, Error> {
        bulk::remember(self, context, requests).await
    }

    async fn bulk_recall(
        &self,
        context: &Context,
        request: BulkRecallRequest,
        replies: Replies<BulkRecallResponse>,
    ) -> Result<(), Error> {
        bulk::recall(self, context, request, replies).await
    }

    async fn watch(
        &self,
        context: &Context,
        request: WatchRequest,
        replies: Replies<WatchResponse>,
    ) -> Result<(), Error> {
        let scope = Scope::of(context, "", request.scope, &request.namespace)?;
        watch::watch(self, scope, request, &replies).await
    }

    async fn search(
        &self,
        context: &Context,
        request: SearchRequest,
    ) -> Result<SearchResponse, Error> {
        search::search(self, context, request).await
    }

    async fn export(
        &self,
        context: &Context,
        request: ExportRequest,
        replies: Replies<ExportResponse>,
    ) -> Result<(), Error> {
        transfer::export(self, context, request, replies).await
    }

    async fn import(
        &self,
        context: &Context,
        requests: Requests<ImportRequest>,
    ) -> Result<ImportResponse, Error> {
        transfer::import(self, context, requests).await
    }

    async fn stats(
        &self,
        context: &Context,
        request: StatsRequest,
    ) -> Result<StatsResponse, Error> {
        let owner = Owner::of(context, "", request.scope)?;
        let shared = Arc::clone(&self.shared);
        let watchers = shared.feeds.count(owner.uid);
        self.store
            .scan(move |database| {
                stats::stats(database, &shared.config, &owner, watchers, time::now())
            })
            .await
    }

    async fn session_ended(&self, session: &SessionScope) -> Result<(), Error> {
        let (uid, id) = (session.uid, Arc::clone(&session.id));
        self.shared.feeds.close(uid, &id);
        let mut more = self.store.read(|database| session::has_keys(database, uid, &id))?;
        while more {
            let (id, shared) = (Arc::clone(&id), Arc::clone(&self.shared));
            (_, more) = self
                .store
                .write(
                    move |database| session::drop_some(database, uid, &id),
                    move |(gained, _)| shared.gauges.add(*gained),
                )
                .await?;
        }
        Ok(())
    }
}
