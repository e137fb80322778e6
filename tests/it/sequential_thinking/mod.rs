//! What the sequential thinking agent promises, through the executor and on a real database.

mod growing;
mod importing;
mod numbered;
mod reading;
mod refusals;
mod watching;

use crate::fixture::Service;
use op_dbus::call::Attested;
use op_dbus::call::Caller;
use op_dbus::call::Context;
use op_dbus::call::Identity;
use op_dbus::call::Transport;
use op_dbus::error::Error;
use op_dbus::error::ErrorKind;
use op_dbus::proto::opdbus::agent::sequential_thinking::v1::{
    BranchRequest, BranchResponse, ChainView, CheckRequest, CheckResponse, ConcludeRequest,
    ConcludeResponse, DeleteChainRequest, DeleteChainResponse, ExportRequest, ExportResponse,
    GetChainRequest, GetChainResponse, ImportRequest, ImportResponse, ListChainsRequest,
    ListChainsResponse, MergeRequest, MergeResponse, Resolution, ResolveRequest, ResolveResponse,
    ReviseRequest, ReviseResponse, ScoreRequest, ScoreResponse, SearchRequest, SearchResponse,
    SequentialThinkingRequest, SequentialThinkingResponse, StartChainRequest, StartChainResponse,
    StepKind, ThinkRequest, ThinkResponse,
};
use prost::Message;

const ALICE: u32 = 1000;
const BOB: u32 = 1001;

/// A user who thinks.
struct User<'a> {
    service: &'a Service,
    uid: u32,
}

/// Gives each operation a method of its name.
macro_rules! operations {
    ($($method:ident $name:literal $request:ty => $response:ty;)*) => {
        impl User<'_> {
            $(async fn $method(&self, request: $request) -> Result<$response, Error> {
                self.call($name, &request).await
            })*
        }
    };
}

operations! {
    start "StartChain" StartChainRequest => StartChainResponse;
    think "Think" ThinkRequest => ThinkResponse;
    revise "Revise" ReviseRequest => ReviseResponse;
    branch "Branch" BranchRequest => BranchResponse;
    merge "Merge" MergeRequest => MergeResponse;
    resolve "Resolve" ResolveRequest => ResolveResponse;
    score "Score" ScoreRequest => ScoreResponse;
    get "GetChain" GetChainRequest => GetChainResponse;
    list "ListChains" ListChainsRequest => ListChainsResponse;
    search "Search" SearchRequest => SearchResponse;
    check "Check" CheckRequest => CheckResponse;
    conclude "Conclude" ConcludeRequest => ConcludeResponse;
    delete "DeleteChain" DeleteChainRequest => DeleteChainResponse;
    number "sequentialthinking" SequentialThinkingRequest => SequentialThinkingResponse;
}

impl<'a> User<'a> {
    fn alice(service: &'a Service) -> Self {
        Self { service, uid: ALICE }
    }

    fn bob(service: &'a Service) -> Self {
        Self { service, uid: BOB }
    }

    async fn call<T: Message + Default>(
        &self,
        operation: &str,
        request: &impl Message,
    ) -> Result<T, Error> {
        let context = self.context();
        let route = self.service.executor.find("sequential_thinking", operation)?;
        let request = request.encode_to_vec().into();
        let response = self.service.executor.call(&route, context, request).await?;
        Ok(T::decode(response).unwrap())
    }

    fn context(&self) -> Context {
        let identity = Identity::User { uid: self.uid, gid: Some(self.uid) };
        let caller = Caller::new(identity, Attested::Kernel, "test");
        Context::new(caller.into(), Transport::Grpc)
    }

    /// Exports; the text and its media type.
    async fn export(&self, request: ExportRequest) -> Result<(String, String), Error> {
        let operation = ("sequential_thinking", "Export");
        let pieces: Vec<ExportResponse> =
            self.service.stream(operation, self.context(), [Ok(request)]).await?;
        let (last, others) = pieces.split_last().expect("there is a last piece");
        assert!(last.is_final && others.iter().all(|piece| !piece.is_final));
        assert!(pieces.iter().all(|piece| piece.data.len() <= 64 * 1024));
        let text: Vec<u8> = pieces.iter().flat_map(|piece| piece.data.to_vec()).collect();
        Ok((String::from_utf8(text).unwrap(), pieces[0].media_type.clone()))
    }

    /// Imports a text in pieces.
    async fn import(&self, text: &str) -> Result<ImportResponse, Error> {
        let pieces = text.as_bytes().chunks(30_001);
        self.import_pieces(pieces.map(|piece| Ok(piece.to_vec()))).await
    }

    async fn import_pieces(
        &self,
        pieces: impl Iterator<Item = Result<Vec<u8>, Error>>,
    ) -> Result<ImportResponse, Error> {
        let operation = ("sequential_thinking", "Import");
        let pieces = pieces
            .map(|piece| piece.map(|data| ImportRequest { data: data.into(), size_bytes: None }));
        let mut replies = self.service.stream(operation, self.context(), pieces).await?;
        Ok(replies.remove(0))
    }

    async fn begin(&self, problem: &str) -> String {
        let request = StartChainRequest { problem: problem.into(), ..Default::default() };
        self.start(request).await.unwrap().chain_id
    }

    async fn add(&self, chain_id: &str, kind: StepKind, thought: &str) -> u32 {
        let request = thought_of(chain_id, kind, thought);
        self.think(request).await.unwrap().step
    }

    async fn settle(&self, chain_id: &str, step: u32, how: Resolution, by_step: u32) {
        let request = resolution(chain_id, step, how, by_step);
        self.resolve(request).await.unwrap();
    }

    async fn whole(&self, chain_id: &str) -> GetChainResponse {
        let chain_id = chain_id.to_owned();
        let view = ChainView::Full.into();
        self.get(GetChainRequest { chain_id, view, ..Default::default() }).await.unwrap()
    }

    async fn checked(&self, chain_id: &str) -> CheckResponse {
        self.check(CheckRequest { chain_id: chain_id.into() }).await.unwrap()
    }

    async fn open_branch(&self, chain_id: &str, from_step: u32, name: &str) {
        let request = BranchRequest { chain_id: chain_id.into(), from_step, name: name.into() };
        self.branch(request).await.unwrap();
    }
}

fn thought_of(chain_id: &str, kind: StepKind, thought: &str) -> ThinkRequest {
    ThinkRequest {
        chain_id: chain_id.into(),
        thought: thought.into(),
        kind: kind.into(),
        ..Default::default()
    }
}

fn resolution(chain_id: &str, step: u32, how: Resolution, by_step: u32) -> ResolveRequest {
    let chain_id = chain_id.into();
    ResolveRequest { chain_id, step, resolution: how.into(), by_step, note: String::new() }
}

fn numbered(thought: &str, thought_number: u32) -> SequentialThinkingRequest {
    SequentialThinkingRequest {
        thought: thought.into(),
        thought_number,
        total_thoughts: 5,
        next_thought_needed: true,
        ..Default::default()
    }
}

/// Checks the kind of an error and what its text says.
fn assert_error<T>(outcome: Result<T, Error>, kind: ErrorKind, says: &str) {
    let error = outcome.map(drop).unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.message().contains(says), "{error}");
}
