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
use super::tables;
use super::transfer::{Export, Import};
use crate::call::Context;
use crate::error::Error;
use crate::proto::opdbus::agent::context_manager::v1::{
    AppendRequest, AppendResponse, AssembleRequest, AssembleResponse, BudgetRequest,
    BudgetResponse, CompactRequest, CompactResponse, ContextManagerService, DeleteRequest,
    DeleteResponse, DiffRequest, DiffResponse, DroppedRequest, DroppedResponse, ExportRequest,
    ExportResponse, ForkRequest, ForkResponse, ImportRequest, ImportResponse, ListRequest,
    ListResponse, LoadRequest, LoadResponse, SaveRequest, SaveResponse, SearchRequest,
    SearchResponse, SetPinnedRequest, SetPinnedResponse, UncompactRequest, UncompactResponse,
    UndeleteRequest, UndeleteResponse, VersionsRequest, VersionsResponse,
};

/// How often a compaction begins anew because the context changed meanwhile.
const COMPACT_ATTEMPTS: u32 = 3;

impl ContextManagerService for ContextManager {
    async fn save(&self, context: &Context, request: SaveRequest) -> Result<SaveResponse, Error> {
        let save = Save::check(request)?;
        self.change(context, move |change| save.apply(change).map(saved)).await
    }

    async fn load(&self, context: &Context, request: LoadRequest) -> Result<LoadResponse, Error> {
        let load = Load::check(request)?;
        self.query(context, move |database, uid, now| load.apply(database, uid, now)).await
    }

    async fn append(
        &self,
        context: &Context,
        request: AppendRequest,
    ) -> Result<AppendResponse, Error> {
        let append = Append::check(request)?;
        self.change(context, move |change| append.apply(change)).await
    }

    async fn list(&self, context: &Context, request: ListRequest) -> Result<ListResponse, Error> {
        let list = List::check(request)?;
        self.query(context, move |database, uid, now| list.apply(database, uid, now)).await
    }

    async fn delete(
        &self,
        context: &Context,
        request: DeleteRequest,
    ) -> Result<DeleteResponse, Error> {
        let delete = Delete::check(request)?;
        self.change(context, move |change| delete.apply(change)).await
    }

    async fn undelete(
        &self,
        context: &Context,
        request: UndeleteRequest,
    ) -> Result<UndeleteResponse, Error> {
        let undelete = Undelete::check(request)?;
        self.change(context, move |change| undelete.apply(change)).await
    }

    async fn versions(
        &self,
        context: &Context,
        request: VersionsRequest,
    ) -> Result<VersionsResponse, Error> {
        fields::name("name", &request.name)?;
        self.query(context, move |database, uid, now| {
            let head = tables::require(database, uid, &request.name, now)?;
            let versions = tables::versions(database, &head)?;
            Ok(VersionsResponse { versions, tokens_exact: false })
        })
        .await
    }

    async fn diff(&self, context: &Context, request: DiffRequest) -> Result<DiffResponse, Error> {
        let diff = Diff::check(request)?;
        self.long_query(context, move |database, uid, now| diff.apply(database, uid, now)).await
    }

    async fn fork(&self, context: &Context, request: ForkRequest) -> Result<ForkResponse, Error> {
        let fork = Fork::check(request)?;
        self.change(context, move |change| fork.apply(change)).await
    }

    async fn set_pinned(
        &self,
        context: &Context,
        request: SetPinnedRequest,
    ) -> Result<SetPinnedResponse, Error> {
        let set_pinned = SetPinned::check(request)?;
        self.change(context, move |change| set_pinned.apply(change)).await
    }

    async fn search(
        &self,
        context: &Context,
        request: SearchRequest,
    ) -> Result<SearchResponse, Error> {
        let wanted = search::check(request)?;
        self.query(context, move |database, uid, now| {
            if let Some(name) = &wanted.name {
                tables::require(database, uid, name, now)?;
            }
            let matches = tables::search(database, uid, now, &wanted)?;
            Ok(SearchResponse { matches })
        })
        .await
    }

    async fn assemble(
        &self,
        context: &Context,
        request: AssembleRequest,
    ) -> Result<AssembleResponse, Error> {
        let assemble = Assemble::check(request)?;
        self.long_query(context, move |database, uid, now| assemble.apply(database, uid, now)).await
    }

    async fn compact(
        &self,
        context: &Context,
        request: CompactRequest,
    ) -> Result<CompactResponse, Error> {
        let compact = Arc::new(Compact::check(request)?);
        let mut attempt = 1;
        loop {
            let plan = Arc::clone(&compact);
            let proposal = self
                .long_query(context, move |database, uid, now| plan.propose(database, uid, now))
                .await?;
            let mut answer = proposal.answer(compact.target());
            if compact.is_dry_run || !proposal.is_change() {
                return Ok(answer);
            }
            match self.change(context, move |change| proposal.apply(change)).await {
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
        let uncompact = Uncompact::check(request)?;
        self.change(context, move |change| uncompact.apply(change)).await
    }

    async fn dropped(
        &self,
        context: &Context,
        request: DroppedRequest,
    ) -> Result<DroppedResponse, Error> {
        let dropped = Dropped::check(request)?;
        self.query(context, move |database, uid, now| dropped.apply(database, uid, now)).await
    }

    async fn export(
        &self,
        context: &Context,
        request: ExportRequest,
    ) -> Result<ExportResponse, Error> {
        let export = Export::check(request)?;
        self.long_query(context, move |database, uid, now| export.apply(database, uid, now)).await
    }

    async fn import(
        &self,
        context: &Context,
        request: ImportRequest,
    ) -> Result<ImportResponse, Error> {
        let import = Import::check(&request)?;
        self.change(context, move |change| import.apply(change)).await
    }

    async fn budget(
        &self,
        context: &Context,
        request: BudgetRequest,
    ) -> Result<BudgetResponse, Error> {
        let budget = Budget::check(request)?;
        self.query(context, move |database, uid, now| budget.apply(database, uid, now)).await
    }
}
