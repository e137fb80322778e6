//! The operations: each looks at its request, then reads or changes chains. What they do stands in a
//! file for each kind of operation.

use std::sync::Arc;

use rusqlite::Connection;

use super::chain::Chain;
use super::draft::Draft;
use super::export::Export;
use super::import::Imported;
use super::read::{Get, List};
use super::review::{self, Review};
use super::search::Search;
use super::{SequentialThinking, grow, numbered, settle, sweep};
use crate::call::Context;
use crate::contract::{Outgoing, Replies, Requests};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::sequential_thinking::v1::{
    BranchRequest, BranchResponse, CheckRequest, CheckResponse, ConcludeRequest, ConcludeResponse,
    DeleteChainRequest, DeleteChainResponse, ExportRequest, ExportResponse, GetChainRequest,
    GetChainResponse, ImportRequest, ImportResponse, ListChainsRequest, ListChainsResponse,
    MergeRequest, MergeResponse, ResolveRequest, ResolveResponse, ReviseRequest, ReviseResponse,
    ScoreRequest, ScoreResponse, SearchRequest, SearchResponse, SequentialThinkingRequest,
    SequentialThinkingResponse, SequentialThinkingService, StartChainRequest, StartChainResponse,
    ThinkRequest, ThinkResponse, WatchChainRequest, WatchChainResponse,
};

impl SequentialThinkingService for SequentialThinking {
    async fn start_chain(
        &self,
        context: &Context,
        request: StartChainRequest,
    ) -> Result<StartChainResponse, Error> {
        let new = grow::check_start(uid(context)?, request)?;
        let (moment, max_chains) = (self.moment(), self.config.max_chains);
        let begin = move |database: &Connection| {
            let (removed, _) = sweep::remove_old(database, moment, sweep::STEPS)?;
            let mut draft = Draft::begin(database, &new, max_chains, moment)?;
            let gained = draft.save()?;
            Ok((grow::started(&draft), gained + removed))
        };
        self.write(begin, |_| {}).await
    }

    async fn think(
        &self,
        context: &Context,
        request: ThinkRequest,
    ) -> Result<ThinkResponse, Error> {
        let (uid, chain_id) = (uid(context)?, request.chain_id.clone());
        let kind = grow::check_think(&request)?;
        let warnings = self.repetition(uid, &chain_id, &request.thought, None).await?;
        self.change(uid, &chain_id, move |draft| grow::think(draft, kind, request, warnings)).await
    }

    async fn revise(
        &self,
        context: &Context,
        request: ReviseRequest,
    ) -> Result<ReviseResponse, Error> {
        let (uid, chain_id) = (uid(context)?, request.chain_id.clone());
        grow::check_revise(&request)?;
        let revised = Some(request.step);
        let warnings = self.repetition(uid, &chain_id, &request.thought, revised).await?;
        self.change(uid, &chain_id, |draft| grow::revise(draft, request, warnings)).await
    }

    async fn branch(
        &self,
        context: &Context,
        request: BranchRequest,
    ) -> Result<BranchResponse, Error> {
        let (uid, chain_id) = (uid(context)?, request.chain_id.clone());
        grow::check_branch(&request)?;
        self.change(uid, &chain_id, |draft| grow::branch(draft, request)).await
    }

    async fn merge(
        &self,
        context: &Context,
        request: MergeRequest,
    ) -> Result<MergeResponse, Error> {
        let (uid, chain_id) = (uid(context)?, request.chain_id.clone());
        grow::check_merge(&request)?;
        let warnings = self.repetition(uid, &chain_id, &request.note, None).await?;
        self.change(uid, &chain_id, |draft| grow::merge(draft, request, warnings)).await
    }

    async fn resolve(
        &self,
        context: &Context,
        request: ResolveRequest,
    ) -> Result<ResolveResponse, Error> {
        let (uid, chain_id) = (uid(context)?, request.chain_id.clone());
        let resolution = settle::check_resolve(&request)?;
        self.change(uid, &chain_id, move |draft| settle::resolve(draft, &request, resolution)).await
    }

    async fn score(
        &self,
        context: &Context,
        request: ScoreRequest,
    ) -> Result<ScoreResponse, Error> {
        let (uid, chain_id) = (uid(context)?, request.chain_id.clone());
        settle::check_score(&request)?;
        self.change(uid, &chain_id, |draft| settle::score(draft, request)).await
    }

    async fn get_chain(
        &self,
        context: &Context,
        request: GetChainRequest,
    ) -> Result<GetChainResponse, Error> {
        let (uid, get) = (uid(context)?, Get::check(request)?);
        let moment = self.moment();
        self.store.scan(move |database| get.apply(database, uid, moment)).await
    }

    async fn list_chains(
        &self,
        context: &Context,
        request: ListChainsRequest,
    ) -> Result<ListChainsResponse, Error> {
        let (uid, list) = (uid(context)?, List::check(request)?);
        let moment = self.moment();
        self.store.scan(move |database| list.apply(database, uid, moment)).await
    }

    async fn search(
        &self,
        context: &Context,
        request: SearchRequest,
    ) -> Result<SearchResponse, Error> {
        let (uid, search) = (uid(context)?, Search::check(request)?);
        let moment = self.moment();
        self.store.scan(move |database| search.apply(database, uid, moment)).await
    }

    async fn check(
        &self,
        context: &Context,
        request: CheckRequest,
    ) -> Result<CheckResponse, Error> {
        let uid = uid(context)?;
        let moment = self.moment();
        let load =
            move |database: &Connection| Review::load(database, uid, &request.chain_id, moment);
        let review = self.store.scan(load).await?;
        aside(move || review.findings()).await
    }

    async fn conclude(
        &self,
        context: &Context,
        request: ConcludeRequest,
    ) -> Result<ConcludeResponse, Error> {
        let (uid, chain_id) = (uid(context)?, request.chain_id.clone());
        settle::check_conclude(&request)?;
        self.change(uid, &chain_id, |draft| settle::conclude(draft, request)).await
    }

    async fn watch_chain(
        &self,
        context: &Context,
        request: WatchChainRequest,
        replies: Replies<WatchChainResponse>,
    ) -> Result<(), Error> {
        self.follow(uid(context)?, &request, replies).await
    }

    async fn export(
        &self,
        context: &Context,
        request: ExportRequest,
        replies: Replies<ExportResponse>,
    ) -> Result<(), Error> {
        let (uid, moment, export) = (uid(context)?, self.moment(), Export::check(request)?);
        let load = move |database: &Connection| {
            let whole = export.load(database, uid, moment)?;
            Ok((export, whole))
        };
        let (export, whole) = self.store.scan(load).await?;
        let mut media_type = export.media_type().to_owned();
        let mut outgoing = Outgoing::default();
        outgoing.push(&aside(move || export.write(&whole)).await?);
        while let Some(data) = outgoing.next_piece() {
            let media_type = std::mem::take(&mut media_type);
            replies.send(ExportResponse { data, media_type, is_final: false }).await?;
        }
        let data = outgoing.last_piece();
        replies.send(ExportResponse { data, media_type, is_final: true }).await
    }

    async fn import(
        &self,
        context: &Context,
        mut requests: Requests<ImportRequest>,
    ) -> Result<ImportResponse, Error> {
        let uid = uid(context)?;
        let first = requests.next().await?.unwrap_or_default();
        let mut incoming = self.intake.begin(uid, first.size_bytes)?;
        incoming.add(context, &first.data)?;
        while let Some(piece) = requests.next().await? {
            if piece.size_bytes.is_some() {
                return Err(Error::invalid("size_bytes", "is only for the first piece"));
            }
            incoming.add(context, &piece.data)?;
        }
        let (moment, max_chains) = (self.moment(), self.config.max_chains);
        let read = move || {
            let (json, place) = incoming.finish()?;
            Ok::<_, Error>((Imported::check(uid, &json, moment.now)?, place))
        };
        let (imported, _place) = aside(read).await??;
        self.write(move |database| imported.apply(database, max_chains, moment), |_| {}).await
    }

    async fn delete_chain(
        &self,
        context: &Context,
        request: DeleteChainRequest,
    ) -> Result<DeleteChainResponse, Error> {
        let uid = uid(context)?;
        let (moment, watchers) = (self.moment(), self.watchers.clone());
        let deleted = request.chain_id.clone();
        let delete = move |database: &Connection| {
            let chain = Chain::find(database, uid, &request.chain_id, moment)?;
            chain.end(database)?;
            let (removed, _) = sweep::remove_old(database, moment, sweep::STEPS)?;
            Ok((DeleteChainResponse { steps: chain.steps }, removed))
        };
        self.write(delete, move |_| watchers.wake(&deleted)).await
    }

    async fn sequential_thinking(
        &self,
        context: &Context,
        request: SequentialThinkingRequest,
    ) -> Result<SequentialThinkingResponse, Error> {
        let uid = uid(context)?;
        numbered::check(&request)?;
        let (moment, max_chains) = (self.moment(), self.config.max_chains);
        let request = Arc::new(request);
        let looked_at = Arc::clone(&request);
        let warnings = self
            .store
            .scan(move |database| {
                let Some(chain) = numbered::find(database, uid, &looked_at, moment)? else {
                    return Ok(Vec::new());
                };
                let revised = numbered::revised(database, &chain, &looked_at)?;
                let warning = review::repetition(database, &chain, &looked_at.thought, revised)?;
                Ok(warning.into_iter().collect())
            })
            .await?;
        let watchers = self.watchers.clone();
        let think = move |database: &Connection| {
            let mut draft = match numbered::find(database, uid, &request, moment)? {
                Some(chain) => Draft::of(database, chain, moment)?,
                None => {
                    let new = numbered::new_chain(uid, &request);
                    Draft::begin(database, &new, max_chains, moment)?
                }
            };
            let answer = numbered::apply(&mut draft, &request, warnings)?;
            Ok((answer, draft.save()?))
        };
        let after = move |answer: &SequentialThinkingResponse| watchers.wake(&answer.chain_id);
        self.write(think, after).await
    }
}

fn uid(context: &Context) -> Result<u32, Error> {
    context.caller.uid().ok_or_else(|| {
        Error::new(ErrorKind::Unauthenticated, "the chains of nobody cannot be reached")
    })
}

/// Runs what may take longer than a thread for calls should be held.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal(format!("work on a chain broke off: {error}")))
}
