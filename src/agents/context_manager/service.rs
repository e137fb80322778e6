//! The operations: each checks its request and runs it as a change or a query. No rule stands here.

use std::sync::Arc;

use super::ContextManager;
use super::assemble::Assemble;
use super::branch::{Delete, Fork, SetPinned, Undelete};
use super::compaction::{Compact, Dropped, Uncompact};
use super::fields;
use super::list::{Budget, List};
use super::load::{Diff, Load};
use super::save::{Append, Save, saved};
use super::search;
use super::session_end::end_one;
use super::space::Space;
use super::tables;
use super::transfer::Export;
use crate::call::{Context, SessionScope};
use crate::contract::{Replies, Requests};
use crate::error::Error;
use crate::proto::opdbus::agent::context_manager::v1::{
    AppendRequest, AppendResponse, AssembleRequest, AssembleResponse, BudgetRequest,
    BudgetResponse, CompactRequest, CompactResponse, ContextManagerService, DeleteRequest,
    DeleteResponse, DiffRequest, DiffResponse, DroppedRequest, DroppedResponse, ExportRequest,
    ExportResponse, ForkRequest, ForkResponse, ImportRequest, ImportResponse, ListRequest,
    ListResponse, LoadRequest, LoadResponse, SaveRequest, SaveResponse, Scope, SearchRequest,
    SearchResponse, SetPinnedRequest, SetPinnedResponse, UncompactRequest, UncompactResponse,
    UndeleteRequest, UndeleteResponse, VersionsRequest, VersionsResponse,
};

/// How often a compaction begins anew because the context changed meanwhile.
const COMPACT_ATTEMPTS: u32 = 3;

impl ContextManagerService for ContextManager {
    async fn save(&self, context: &Context, request: SaveRequest) -> Result<SaveResponse, Error> {
        let space = Space::of(context, request.scope)?;
        let save = Save::check(request)?;
        self.change(space, move |change| save.apply(change).map(saved)).await
    }

    async fn load(&self, context: &Context, request: LoadRequest) -> Result<LoadResponse, Error> {
        let space = Space::of(context, request.scope)?;
        let load = Load::check(request)?;
        self.query(space, move |database, space, now| load.apply(database, space, now)).await
    }

    async fn append(
        &self,
        context: &Context,
        request: AppendRequest,
    ) -> Result<AppendResponse, Error> {
        let space = Space::of(context, request.scope)?;
        let append = Append::check(request)?;
        self.change(space, move |change| append.apply(change)).await
    }

    async fn list(&self, context: &Context, request: ListRequest) -> Result<ListResponse, Error> {
        let space = Space::of(context, request.scope)?;
        let list = List::check(request)?;
        self.query(space, move |database, space, now| list.apply(database, space, now)).await
    }

    async fn delete(
        &self,
        context: &Context,
        request: DeleteRequest,
    ) -> Result<DeleteResponse, Error> {
        let space = Space::of(context, request.scope)?;
        let delete = Delete::check(request)?;
        self.change(space, move |change| delete.apply(change)).await
    }

    async fn undelete(
        &self,
        context: &Context,
        request: UndeleteRequest,
    ) -> Result<UndeleteResponse, Error> {
        let space = Space::of(context, request.scope)?;
        let undelete = Undelete::check(request)?;
        self.change(space, move |change| undelete.apply(change)).await
    }

    async fn versions(
        &self,
        context: &Context,
        request: VersionsRequest,
    ) -> Result<VersionsResponse, Error> {
        let space = Space::of(context, request.scope)?;
        fields::name("name", &request.name)?;
        self.query(space, move |database, space, now| {
            let head = tables::require(database, space, &request.name, now)?;
            let versions = tables::versions(database, &head)?;
            Ok(VersionsResponse { versions, tokens_exact: false })
        })
        .await
    }

    async fn diff(&self, context: &Context, request: DiffRequest) -> Result<DiffResponse, Error> {
        let space = Space::of(context, request.scope)?;
        let diff = Diff::check(request)?;
        self.long_query(space, move |database, space, now| diff.apply(database, space, now)).await
    }

    async fn fork(&self, context: &Context, request: ForkRequest) -> Result<ForkResponse, Error> {
        let space = Space::of(context, request.scope)?;
        let new_space = if request.new_scope == i32::from(Scope::Unspecified) {
            space.clone()
        } else {
            Space::of(context, request.new_scope)?
        };
        let fork = Fork::check(request, new_space)?;
        self.change(space, move |change| fork.apply(change)).await
    }

    async fn set_pinned(
        &self,
        context: &Context,
        request: SetPinnedRequest,
    ) -> Result<SetPinnedResponse, Error> {
        let space = Space::of(context, request.scope)?;
        let set_pinned = SetPinned::check(request)?;
        self.change(space, move |change| set_pinned.apply(change)).await
    }

    async fn search(
        &self,
        context: &Context,
        request: SearchRequest,
    ) -> Result<SearchResponse, Error> {
        let space = Space::of(context, request.scope)?;
        let wanted = search::check(request)?;
        self.query(space, move |database, space, now| {
            if let Some(name) = &wanted.name {
                tables::require(database, space, name, now)?;
            }
            let matches = tables::search(database, space, now, &wanted)?;
            Ok(SearchResponse { matches })
        })
        .await
    }

    async fn assemble(
        &self,
        context: &Context,
        request: AssembleRequest,
    ) -> Result<AssembleResponse, Error> {
        let user = Space::of(context, Scope::User.into())?;
        let assemble = Assemble::check(request, |scope| Space::of(context, scope))?;
        self.long_query(user, move |database, _, now| assemble.apply(database, now)).await
    }

    async fn compact(
        &self,
        context: &Context,
        request: CompactRequest,
    ) -> Result<CompactResponse, Error> {
        let space = Space::of(context, request.scope)?;
        let compact = Arc::new(Compact::check(request)?);
        let mut attempt = 1;
        loop {
            let plan = Arc::clone(&compact);
            let proposal = self
                .long_query(space.clone(), move |database, space, now| {
                    plan.propose(database, space, now)
                })
                .await?;
            let mut answer = proposal.answer(compact.target());
            if compact.is_dry_run || !proposal.is_change() {
                return Ok(answer);
            }
            match self.change(space.clone(), move |change| proposal.apply(change)).await {
                Ok(version) => {
                    answer.version = version;
                    return Ok(answer);
                }
                Err(error) if attempt < COMPACT_ATTEMPTS && compact.may_repeat(&error) => {
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn uncompact(
        &self,
        context: &Context,
        request: UncompactRequest,
    ) -> Result<UncompactResponse, Error> {
        let space = Space::of(context, request.scope)?;
        let uncompact = Uncompact::check(request)?;
        self.change(space, move |change| uncompact.apply(change)).await
    }

    async fn dropped(
        &self,
        context: &Context,
        request: DroppedRequest,
    ) -> Result<DroppedResponse, Error> {
        let space = Space::of(context, request.scope)?;
        let dropped = Dropped::check(request)?;
        self.query(space, move |database, space, now| dropped.apply(database, space, now)).await
    }

    async fn export(
        &self,
        context: &Context,
        request: ExportRequest,
        replies: Replies<ExportResponse>,
    ) -> Result<(), Error> {
        let space = Space::of(context, request.scope)?;
        self.send(context, space, Export::check(request)?, replies).await
    }

    async fn import(
        &self,
        context: &Context,
        requests: Requests<ImportRequest>,
    ) -> Result<ImportResponse, Error> {
        self.receive(context, requests).await
    }

    async fn budget(
        &self,
        context: &Context,
        request: BudgetRequest,
    ) -> Result<BudgetResponse, Error> {
        let space = Space::of(context, request.scope)?;
        let budget = Budget::check(request)?;
        self.query(space, move |database, space, now| budget.apply(database, space, now)).await
    }

    async fn session_ended(&self, session: &SessionScope) -> Result<(), Error> {
        let space = Arc::new(Space::session(session));
        loop {
            let (config, space) = (Arc::clone(&self.config), Arc::clone(&space));
            let end = move |database: &_| end_one(database, &config, &space);
            if !self.write(end).await? {
                return Ok(());
            }
        }
    }
}
