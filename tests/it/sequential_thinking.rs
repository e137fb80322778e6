//! What the sequential thinking agent promises, through the executor and on a real database.

use std::collections::BTreeMap;

use op_dbus::call::{Caller, Context, Identity, Transport};
use op_dbus::error::{Error, ErrorKind};
use op_dbus::executor::Config;
use op_dbus::proto::opdbus::agent::sequential_thinking::v1::evidence::Source;
use op_dbus::proto::opdbus::agent::sequential_thinking::v1::{
    BranchRequest, BranchResponse, ChainStatus, ChainView, CheckRequest, CheckResponse,
    ConcludeRequest, ConcludeResponse, DeleteChainRequest, DeleteChainResponse, Evidence,
    ExportFormat, ExportRequest, ExportResponse, GetChainRequest, GetChainResponse,
    ListChainsRequest, ListChainsResponse, MergeRequest, MergeResponse, Resolution, ResolveRequest,
    ResolveResponse, ReviseRequest, ReviseResponse, ScoreRequest, ScoreResponse, SearchRequest,
    SearchResponse, SequentialThinkingRequest, SequentialThinkingResponse, StartChainRequest,
    StartChainResponse, StepKind, StepStatus, ThinkRequest, ThinkResponse,
};
use prost::Message;

use crate::fixture::Service;

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
    export "Export" ExportRequest => ExportResponse;
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
        let identity = Identity::User { uid: self.uid, gid: Some(self.uid) };
        let caller = Caller { identity, pid: None, address: "test".into() };
        let context = Context::new(caller.into(), Transport::Grpc);
        let route = self.service.executor.find("sequential_thinking", operation)?;
        let request = request.encode_to_vec().into();
        let response = self.service.executor.call(&route, context, request).await?;
        Ok(T::decode(response).unwrap())
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

#[tokio::test]
async fn a_chain_goes_from_its_problem_to_its_conclusion() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let started = alice
        .start(StartChainRequest {
            problem: "The build takes nine minutes".into(),
            context: "It took three last month".into(),
            max_steps: 4,
            goals: vec!["Below four minutes".into()],
            tags: vec!["build".into(), "ci".into(), "build".into()],
        })
        .await
        .unwrap();
    let chain = started.chain_id;
    assert_eq!(started.max_steps, 4);
    let hypothesis = alice.add(&chain, StepKind::Hypothesis, "The linker is the slow part").await;
    let question = alice.add(&chain, StepKind::Question, "Which linker does it use?").await;
    let proof = alice
        .think(ThinkRequest {
            confidence: Some(0.9),
            evidence: vec![
                Evidence { source: Some(Source::TaskId("t-17".into())) },
                Evidence { source: Some(Source::Step(hypothesis)) },
            ],
            ..thought_of(&chain, StepKind::Evidence, "A trace shows five minutes in bfd")
        })
        .await
        .unwrap();
    assert_eq!((proof.step, proof.total_steps, proof.remaining_steps), (3, 3, 1));
    assert_eq!(proof.open_steps, [hypothesis, question]);
    assert!(proof.warnings.is_empty(), "{:?}", proof.warnings);

    let request = ConcludeRequest { chain_id: chain.clone(), ..Default::default() };
    let refused = alice.conclude(request.clone()).await;
    assert_eq!(refused.as_ref().unwrap_err().fact("open_steps"), Some("1,2"));
    assert_error(refused, ErrorKind::Conflict, "steps 1, 2");

    alice.settle(&chain, hypothesis, Resolution::Confirmed, proof.step).await;
    alice.settle(&chain, question, Resolution::Answered, proof.step).await;
    let decision = alice.add(&chain, StepKind::Decision, "Use mold as the linker").await;
    assert!(alice.checked(&chain).await.clean);
    let concluded = alice.conclude(request.clone()).await.unwrap();
    assert_eq!(concluded.conclusion, "Use mold as the linker");
    assert_eq!(concluded.support, [hypothesis, question, proof.step, decision]);
    assert!(concluded.open_items.is_empty());
    let stats = concluded.stats.unwrap();
    assert_eq!((stats.total_steps, stats.confirmed, stats.answered), (4, 1, 1));
    assert_eq!(stats.mean_confidence, Some(0.9));

    let whole = alice.whole(&chain).await;
    let info = whole.chain.unwrap();
    assert_eq!(info.status(), ChainStatus::Concluded);
    assert_eq!(info.tags, ["build", "ci"]);
    assert_eq!(whole.conclusion, "Use mold as the linker");
    assert_eq!(whole.goals, ["Below four minutes"]);
    assert_eq!(whole.steps[2].evidence.len(), 2);
    assert_eq!(whole.steps[2].parents, [2]);
    assert_eq!(whole.steps[0].status(), StepStatus::Confirmed);

    assert_error(alice.conclude(request).await, ErrorKind::Conflict, "concluded");
    let more = thought_of(&chain, StepKind::Risk, "mold may not know the linker script");
    assert_error(alice.think(more.clone()).await, ErrorKind::Conflict, "reopen");
    let reopened = alice.think(ThinkRequest { reopen: true, ..more }).await.unwrap();
    assert_eq!(reopened.warnings, ["the chain has 5 steps, more than the 4 planned"]);
    let whole = alice.whole(&chain).await;
    assert_eq!(whole.chain.unwrap().status(), ChainStatus::Open);
    assert_eq!(whole.conclusion, "");
}

#[tokio::test]
async fn a_forced_conclusion_lists_what_is_open() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.begin("Why is it slow?").await;
    alice.add(&chain, StepKind::Hypothesis, "The disk").await;
    let concluded = alice
        .conclude(ConcludeRequest { chain_id: chain, conclusion: "Unknown".into(), force: true })
        .await
        .unwrap();
    assert_eq!(concluded.open_items, [1]);
    assert_eq!(concluded.conclusion, "Unknown");
}

#[tokio::test]
async fn a_revision_supersedes_and_says_what_it_affects() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.begin("Which database?").await;
    for thought in ["We need transactions", "So a relational one", "Postgres is at hand"] {
        alice.add(&chain, StepKind::Analysis, thought).await;
    }
    let request = ReviseRequest {
        chain_id: chain.clone(),
        step: 2,
        thought: "An embedded one would do".into(),
        reason: "There is one process".into(),
        confidence: Some(0.7),
        evidence: Vec::new(),
    };
    let revised = alice.revise(request.clone()).await.unwrap();
    assert_eq!((revised.step, revised.affected_steps.as_slice()), (4, [3].as_slice()));

    let again = alice.revise(request).await;
    assert_eq!(again.as_ref().unwrap_err().fact("current_step"), Some("4"));
    assert_error(again, ErrorKind::Conflict, "step 4");

    let view = |view: ChainView, since| GetChainRequest {
        chain_id: chain.clone(),
        view: view.into(),
        since,
        ..Default::default()
    };
    let active = alice.get(view(ChainView::Active, 0)).await.unwrap();
    let ids: Vec<u32> = active.steps.iter().map(|step| step.step).collect();
    assert_eq!(ids, [1, 3, 4]);
    assert_eq!(active.steps[2].reason, "There is one process");
    assert_eq!((active.steps[2].revises, active.steps[2].number), (2, 2));

    // The line goes on from its head.
    let next = alice.add(&chain, StepKind::Decision, "SQLite").await;
    let since = alice.get(view(ChainView::Full, active.revision)).await.unwrap();
    let ids: Vec<u32> = since.steps.iter().map(|step| step.step).collect();
    assert_eq!(ids, [next]);
    assert_eq!(since.steps[0].parents, [3]);
    let future = alice.get(view(ChainView::Full, 99)).await;
    assert_error(future, ErrorKind::InvalidArgument, "since");
}

#[tokio::test]
async fn branches_are_thought_apart_and_merged() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.begin("How to deploy?").await;
    let root = alice.add(&chain, StepKind::Analysis, "There are two ways").await;
    for name in ["packages", "images"] {
        alice.open_branch(&chain, root, name).await;
    }
    let on = |branch: &str, thought: &str| ThinkRequest {
        branch: branch.into(),
        ..thought_of(&chain, StepKind::Analysis, thought)
    };
    let packages = alice.think(on("packages", "A package for each distribution")).await.unwrap();
    let main = alice.add(&chain, StepKind::Analysis, "Both need signing").await;
    let merge = |branches: &[&str]| MergeRequest {
        chain_id: chain.clone(),
        branches: branches.iter().map(ToString::to_string).collect(),
        note: "Packages are enough".into(),
        ..Default::default()
    };
    let empty = alice.merge(merge(&["images"])).await;
    assert_error(empty, ErrorKind::Conflict, "no steps of its own");
    let itself = alice.merge(merge(&["main"])).await;
    assert_error(itself, ErrorKind::InvalidArgument, "into itself");
    let twice = alice.merge(merge(&["packages", "packages"])).await;
    assert_error(twice, ErrorKind::InvalidArgument, "branches[1]");
    assert_error(alice.merge(merge(&[])).await, ErrorKind::InvalidArgument, "branches");
    let unknown = alice.merge(merge(&["pacakges"])).await;
    assert_error(unknown, ErrorKind::NotFound, "main, packages, images");

    let found = alice.checked(&chain).await;
    assert_eq!(found.dead_branches, ["images"]);
    assert_eq!(found.unmerged_branches, ["packages"]);

    let merged = alice.merge(merge(&["packages"])).await.unwrap();
    let whole = alice.whole(&chain).await;
    let step = whole.steps.iter().find(|step| step.step == merged.step).unwrap();
    assert_eq!(step.parents, [main, packages.step]);
    assert_eq!((step.kind(), step.branch.as_str()), (StepKind::Synthesis, "main"));
    assert_eq!(whole.branches[1].merged_by, merged.step);
    let closed = alice.think(on("packages", "One more")).await;
    assert_error(closed, ErrorKind::Conflict, "merged by step");

    let strange = ThinkRequest { parent: packages.step, ..on("images", "No") };
    assert_error(alice.think(strange).await, ErrorKind::InvalidArgument, "parent");
    let taken = BranchRequest { chain_id: chain.clone(), from_step: 1, name: "images".into() };
    assert_error(alice.branch(taken).await, ErrorKind::AlreadyExists, "images");
}

#[tokio::test]
async fn a_resolution_fits_its_step_and_its_grounds() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.begin("What broke?").await;
    let a = alice.add(&chain, StepKind::Hypothesis, "The cable").await;
    let b = alice.add(&chain, StepKind::Hypothesis, "The switch").await;
    let c = alice.add(&chain, StepKind::Question, "Since when?").await;
    let case = async |step, how, by_step, kind, says: &str| {
        let outcome = alice.resolve(resolution(&chain, step, how, by_step)).await;
        assert_error(outcome, kind, says);
    };
    let invalid = ErrorKind::InvalidArgument;
    case(c, Resolution::Confirmed, 0, invalid, "answered or dropped").await;
    case(a, Resolution::Answered, 0, invalid, "confirmed, refuted or dropped").await;
    case(a, Resolution::Unspecified, 0, invalid, "resolution").await;
    case(a, Resolution::Confirmed, a, invalid, "itself").await;
    case(a, Resolution::Confirmed, 99, ErrorKind::NotFound, "by_step").await;
    case(99, Resolution::Dropped, 0, ErrorKind::NotFound, "steps 1 to 3").await;
    alice.settle(&chain, a, Resolution::Confirmed, b).await;
    case(b, Resolution::Confirmed, a, invalid, "rests on").await;
    case(a, Resolution::Refuted, 0, ErrorKind::Conflict, "confirmed by step 2 already").await;

    // The same again is no change.
    let revision = alice.whole(&chain).await.revision;
    alice.settle(&chain, a, Resolution::Confirmed, b).await;
    assert_eq!(alice.whole(&chain).await.revision, revision);

    alice.settle(&chain, a, Resolution::Reopened, 0).await;
    alice.settle(&chain, a, Resolution::Refuted, 0).await;
    case(c, Resolution::Answered, a, ErrorKind::Conflict, "settles nothing").await;
    assert_eq!(alice.whole(&chain).await.steps[0].status(), StepStatus::Refuted);
}

#[tokio::test]
async fn check_finds_what_is_wrong() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let request = StartChainRequest { problem: "?".into(), max_steps: 5, ..Default::default() };
    let chain = alice.start(request).await.unwrap().chain_id;
    let text = "The tests fail because the clock of the machine is ahead of the server's clock";
    let refuted = alice.add(&chain, StepKind::Hypothesis, text).await;
    let decision = alice.add(&chain, StepKind::Decision, "Set the clock back").await;
    let evidence = alice.add(&chain, StepKind::Evidence, "NTP says both are right").await;
    alice.settle(&chain, refuted, Resolution::Refuted, evidence).await;
    let again = text.replace("the server's", "a server's");
    let warned = alice.think(thought_of(&chain, StepKind::Hypothesis, &again)).await.unwrap();
    assert!(warned.warnings[0].starts_with("the thought repeats step 1"), "{warned:?}");
    assert!(warned.warnings[0].contains("similarity 0.9"), "{warned:?}");
    alice.settle(&chain, warned.step, Resolution::Confirmed, 0).await;
    let unused = alice.add(&chain, StepKind::Evidence, "The log has no errors").await;
    let question = alice.add(&chain, StepKind::Question, "What else?").await;

    let found = alice.checked(&chain).await;
    assert!(!found.clean);
    assert_eq!(found.open_questions, [question]);
    assert_eq!(found.unverified_hypotheses, [warned.step]);
    assert_eq!(found.unused_evidence, [unused]);
    assert_eq!(found.over_budget, 1);
    let pairs: Vec<(u32, u32)> =
        found.contradictions.iter().map(|found| (found.step, found.against)).collect();
    assert_eq!(pairs, [(decision, refuted), (warned.step, refuted)]);
    let repeated = &found.repeated_thoughts;
    assert_eq!((repeated[0].first, repeated[0].second), (refuted, warned.step));
    assert_eq!(repeated.len(), 1);

    // A ground that is revised away carries nothing any more.
    let request = ReviseRequest {
        chain_id: chain.clone(),
        step: evidence,
        thought: "NTP was off".into(),
        ..Default::default()
    };
    alice.revise(request).await.unwrap();
    let found = alice.checked(&chain).await;
    assert!(
        found.contradictions.iter().any(|found| {
            (found.step, found.against) == (refuted, evidence)
                && found.reason == "step 1 is refuted by step 3, which is superseded"
        }),
        "{:?}",
        found.contradictions
    );
}

#[tokio::test]
async fn users_do_not_see_each_other() {
    let service = Service::new(Config::default());
    let (alice, bob) = (User::alice(&service), User::bob(&service));
    let chain = alice.begin("A secret of Alice").await;
    alice.add(&chain, StepKind::Analysis, "The treasure is under the oak").await;
    alice.number(numbered("Numbered by Alice", 1)).await.unwrap();

    let gone = ErrorKind::NotFound;
    let thought = thought_of(&chain, StepKind::Analysis, "Mine");
    assert_error(bob.think(thought).await, gone, "chain_id");
    let get = GetChainRequest { chain_id: chain.clone(), ..Default::default() };
    assert_error(bob.get(get).await, gone, "chain_id");
    assert_error(bob.check(CheckRequest { chain_id: chain.clone() }).await, gone, "chain_id");
    let export = ExportRequest { chain_id: chain.clone(), ..Default::default() };
    assert_error(bob.export(export).await, gone, "chain_id");
    let delete = DeleteChainRequest { chain_id: chain.clone() };
    assert_error(bob.delete(delete).await, gone, "chain_id");
    let search = SearchRequest { query: "treasure u1000".into(), any_word: true, ..<_>::default() };
    assert!(bob.search(search.clone()).await.unwrap().hits.is_empty());
    let within = SearchRequest { chain_id: chain.clone(), ..search.clone() };
    assert_error(bob.search(within).await, gone, "chain_id");
    assert!(bob.list(ListChainsRequest::default()).await.unwrap().chains.is_empty());
    assert_error(bob.number(numbered("Two", 2)).await, gone, "thought_number");

    assert_eq!(alice.search(search).await.unwrap().hits.len(), 1);
    let stranger = Context::new(
        Caller { identity: Identity::Unknown, pid: None, address: "test".into() }.into(),
        Transport::Grpc,
    );
    let route = service.executor.find("sequential_thinking", "ListChains").unwrap();
    let outcome = service.executor.call(&route, stranger, bytes::Bytes::new()).await;
    assert_error(outcome, ErrorKind::Unauthenticated, "");
}

#[tokio::test]
async fn search_ranks_and_never_takes_a_query_as_syntax() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.begin("Search").await;
    let long = "The linker, among many other parts of this long thought about other things";
    alice.add(&chain, StepKind::Analysis, long).await;
    alice.add(&chain, StepKind::Hypothesis, "Linker! A slow linker.").await;
    let query = |query: &str| SearchRequest { query: query.into(), ..Default::default() };
    let hits = alice.search(query("LINKER")).await.unwrap().hits;
    let steps: Vec<u32> = hits.iter().map(|hit| hit.step).collect();
    assert_eq!(steps, [2, 1]);
    assert!(hits[0].snippet.contains("**Linker**"), "{}", hits[0].snippet);
    assert_eq!((hits[0].kind(), hits[0].status()), (StepKind::Hypothesis, StepStatus::Open));
    let limited = SearchRequest { limit: 1, ..query("linker") };
    assert!(alice.search(limited).await.unwrap().more);

    assert!(alice.search(query("slow long")).await.unwrap().hits.is_empty());
    let any = SearchRequest { any_word: true, ..query("slow long") };
    assert_eq!(alice.search(any).await.unwrap().hits.len(), 2);
    for text in ["linker\" OR scope : u1001", "NEAR(linker)", "thought : *", "a\"b", "linker^ -"] {
        alice.search(query(text)).await.unwrap();
    }
    assert_error(alice.search(query(" \" * ")).await, ErrorKind::InvalidArgument, "query");
    let many = "w ".repeat(65);
    assert_error(alice.search(query(&many)).await, ErrorKind::LimitExceeded, "query");

    alice.delete(DeleteChainRequest { chain_id: chain.clone() }).await.unwrap();
    assert!(alice.search(query("linker")).await.unwrap().hits.is_empty());
    let again = alice.delete(DeleteChainRequest { chain_id: chain }).await;
    assert_error(again, ErrorKind::NotFound, "chain_id");
}

#[tokio::test]
async fn lists_and_chains_come_in_pages() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    for number in 0..5 {
        let request = StartChainRequest {
            problem: format!("Problem {number}"),
            tags: if number % 2 == 0 { vec!["even".into()] } else { Vec::new() },
            ..Default::default()
        };
        alice.start(request).await.unwrap();
    }
    let mut request = ListChainsRequest { page_size: 2, ..Default::default() };
    let mut titles = Vec::new();
    loop {
        let page = alice.list(request.clone()).await.unwrap();
        titles.extend(page.chains.into_iter().map(|chain| chain.title));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(titles, ["Problem 4", "Problem 3", "Problem 2", "Problem 1", "Problem 0"]);
    let filtered = ListChainsRequest {
        tags: vec!["even".into()],
        query: "PROBLEM 2".into(),
        status: ChainStatus::Open.into(),
        ..Default::default()
    };
    let chains = alice.list(filtered.clone()).await.unwrap().chains;
    assert_eq!(chains.len(), 1);
    let none = ListChainsRequest { status: ChainStatus::Concluded.into(), ..filtered };
    assert!(alice.list(none).await.unwrap().chains.is_empty());
    let broken = ListChainsRequest { page_token: "x".into(), ..Default::default() };
    assert_error(alice.list(broken).await, ErrorKind::InvalidArgument, "page_token");
    let large = ListChainsRequest { page_size: 1001, ..Default::default() };
    assert_error(alice.list(large).await, ErrorKind::InvalidArgument, "page_size");

    let chain = &chains[0].chain_id;
    for number in 1..=7 {
        alice.add(chain, StepKind::Analysis, &format!("{number}\nsecond line")).await;
    }
    alice.open_branch(chain, 2, "side").await;
    let on_side = ThinkRequest {
        branch: "side".into(),
        ..thought_of(chain, StepKind::Analysis, "On the side")
    };
    alice.think(on_side).await.unwrap();
    let tree = ChainView::Tree.into();
    let mut request =
        GetChainRequest { chain_id: chain.clone(), view: tree, page_size: 3, ..Default::default() };
    let mut steps = Vec::new();
    loop {
        let page = alice.get(request.clone()).await.unwrap();
        assert!(page.steps.len() <= 3);
        steps.extend(page.steps);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let places: Vec<(u32, u32)> = steps.iter().map(|step| (step.step, step.depth)).collect();
    assert_eq!(places, [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5), (7, 6), (8, 2)]);
    assert_eq!((steps[0].thought.as_str(), steps[0].truncated), ("1…", true));
}

#[tokio::test]
async fn an_export_is_complete_and_comes_in_parts() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.begin("A # problem\nwith \"quotes\"").await;
    alice.add(&chain, StepKind::Hypothesis, "An \"odd\" <thought> [with] `signs`").await;
    let markdown = alice
        .export(ExportRequest { chain_id: chain.clone(), ..Default::default() })
        .await
        .unwrap();
    assert_eq!(markdown.media_type, "text/markdown");
    assert!(markdown.text.contains("\n> An \"odd\" <thought>"), "{}", markdown.text);
    assert!(markdown.text.contains("### Step 1: hypothesis (open)"), "{}", markdown.text);
    let form = |format: ExportFormat, token: &str| ExportRequest {
        chain_id: chain.clone(),
        format: format.into(),
        page_token: token.into(),
    };
    let mermaid = alice.export(form(ExportFormat::Mermaid, "")).await.unwrap();
    let line = r"    s1{{&quot;1. hypothesis: An #34;odd#34; #60;thought#62; #91;with#93; #96;signs#96;&quot;}}:::open";
    assert!(mermaid.text.contains(&line.replace("&quot;", "\"")), "{}", mermaid.text);

    let filler = "ö".repeat(8000);
    for number in 0..45 {
        alice.add(&chain, StepKind::Analysis, &format!("{number}{filler}")).await;
    }
    let (mut text, mut token, mut parts) = (String::new(), String::new(), 0);
    loop {
        let part = alice.export(form(ExportFormat::Json, &token)).await.unwrap();
        assert!(part.text.len() <= 512 * 1024);
        text.push_str(&part.text);
        parts += 1;
        token = part.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(parts, 2);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["steps"].as_array().unwrap().len(), 46);
    assert_eq!(json["steps"][0]["kind"], "hypothesis");

    let first = alice.export(form(ExportFormat::Json, "")).await.unwrap();
    alice.add(&chain, StepKind::Analysis, "A change").await;
    let stale = alice.export(form(ExportFormat::Json, &first.next_page_token)).await;
    assert_error(stale, ErrorKind::Conflict, "changed");
    let broken = alice.export(form(ExportFormat::Json, "nonsense")).await;
    assert_error(broken, ErrorKind::InvalidArgument, "page_token");
}

#[tokio::test]
async fn bad_input_names_the_field_and_changes_nothing() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.begin("Bad input").await;
    let good = thought_of(&chain, StepKind::Analysis, "Good");
    let invalid = ErrorKind::InvalidArgument;
    let with = |change: &dyn Fn(&mut ThinkRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let cite = |source| vec![Evidence { source }];
    let cases = [
        (with(&|r| r.thought = "  ".into()), invalid, "thought: must not be empty"),
        (with(&|r| r.thought = "a\0b".into()), invalid, "thought: must not contain U+0000"),
        (with(&|r| r.kind = 99), invalid, "kind"),
        (with(&|r| r.kind = StepKind::Synthesis.into()), invalid, "kind"),
        (with(&|r| r.confidence = Some(1.5)), invalid, "confidence"),
        (with(&|r| r.confidence = Some(f64::NAN)), invalid, "confidence"),
        (with(&|r| r.evidence = cite(None)), invalid, "evidence[0]"),
        (
            with(&|r| r.evidence = cite(Some(Source::Uri(String::new())))),
            invalid,
            "evidence[0].uri",
        ),
        (with(&|r| r.chain_id.clear()), invalid, "chain_id"),
        (with(&|r| r.chain_id = "none".into()), ErrorKind::NotFound, "chain_id"),
        (with(&|r| r.parent = 7), ErrorKind::NotFound, "parent: there is no step 7"),
        (with(&|r| r.branch = "b\0".into()), invalid, "branch"),
        (with(&|r| r.branch = "b".into()), ErrorKind::NotFound, "branch"),
        (with(&|r| r.if_step = 2), ErrorKind::Conflict, "the next step is 1"),
        (
            with(&|r| r.evidence = cite(Some(Source::Step(9)))),
            ErrorKind::NotFound,
            "evidence[0].step",
        ),
        (
            with(&|r| r.thought = "x".repeat(16 * 1024 + 1)),
            ErrorKind::LimitExceeded,
            "thought: has 16385 bytes, too many (sequential_thinking.max_thought_bytes is 16384)",
        ),
    ];
    for (request, kind, says) in cases {
        assert_error(alice.think(request).await, kind, says);
    }
    assert_eq!(alice.whole(&chain).await.revision, 2);
    let start = |change: &dyn Fn(&mut StartChainRequest)| {
        let mut request = StartChainRequest { problem: "P".into(), ..Default::default() };
        change(&mut request);
        request
    };
    let cases = [
        (start(&|r| r.problem.clear()), invalid, "problem"),
        (start(&|r| r.max_steps = 1001), invalid, "max_steps"),
        (start(&|r| r.goals = vec![String::new()]), invalid, "goals[0]"),
        (start(&|r| r.tags = vec!["t".repeat(65)]), ErrorKind::LimitExceeded, "tags[0]"),
        (start(&|r| r.tags = vec!["t".into(); 33]), ErrorKind::LimitExceeded, "tags"),
    ];
    for (request, kind, says) in cases {
        assert_error(alice.start(request).await, kind, says);
    }
    let nothing =
        alice.conclude(ConcludeRequest { chain_id: chain.clone(), ..Default::default() }).await;
    assert_error(nothing, invalid, "conclusion");
}

#[tokio::test]
async fn a_step_is_rated() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.begin("Rate").await;
    alice.add(&chain, StepKind::Decision, "Do it").await;
    let score = |name: &str, rating: f64| ScoreRequest {
        chain_id: chain.clone(),
        step: 1,
        criteria: BTreeMap::from([(name.to_owned(), rating)]),
    };
    alice.score(score("cost", 0.2)).await.unwrap();
    let rated = alice.score(score("value", 0.8)).await.unwrap();
    assert_eq!(rated.scores.len(), 2);
    assert!((rated.mean - 0.5).abs() < 1e-9);
    assert_eq!(alice.whole(&chain).await.steps[0].scores, rated.scores);
    let bad = alice.score(score("cost", -0.1)).await;
    assert_error(bad, ErrorKind::InvalidArgument, "criteria[cost]");
}

#[tokio::test]
async fn a_chain_takes_a_thousand_steps_and_no_more() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.begin("Limits").await;
    for number in 1..=1000 {
        alice.add(&chain, StepKind::Analysis, &format!("{number}")).await;
    }
    let over = alice.think(thought_of(&chain, StepKind::Analysis, "1001")).await;
    assert_error(over, ErrorKind::LimitExceeded, "sequential_thinking.max_chain_steps is 1000");
    assert_eq!(alice.whole(&chain).await.chain.unwrap().steps, 1000);
}

#[tokio::test]
async fn thoughts_at_the_same_time_all_get_their_place() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.begin("Together").await;
    let thoughts = (0..50).map(|number| {
        alice.think(thought_of(&chain, StepKind::Analysis, &format!("Thought {number}")))
    });
    let mut ids: Vec<u32> = futures_util::future::join_all(thoughts)
        .await
        .into_iter()
        .map(|outcome| outcome.unwrap().step)
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=50).collect::<Vec<_>>());
    // One of two that name the same place gets it.
    let claim = |thought: &str| ThinkRequest {
        if_step: 51,
        ..thought_of(&chain, StepKind::Analysis, thought)
    };
    let (a, b) = tokio::join!(alice.think(claim("First")), alice.think(claim("Second")));
    assert_ne!(a.is_ok(), b.is_ok());
    let loser = a.and(b);
    assert_eq!(loser.as_ref().unwrap_err().fact("next_step"), Some("52"));
}

#[tokio::test]
async fn the_form_with_nine_fields_builds_the_same_graph() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let first = alice.number(numbered("Why does it leak?", 1)).await.unwrap();
    assert_eq!((first.thought_number, first.total_thoughts), (1, 5));
    alice.number(numbered("Perhaps the cache", 2)).await.unwrap();
    alice.number(numbered("It grows by one entry a second", 3)).await.unwrap();

    let revision = SequentialThinkingRequest {
        is_revision: true,
        revises_thought: 2,
        ..numbered("It is the session table", 4)
    };
    let revised = alice.number(revision).await.unwrap();
    let side = SequentialThinkingRequest {
        branch_from_thought: 3,
        branch_id: "side".into(),
        ..numbered("What if it is the log?", 5)
    };
    let branched = alice.number(side.clone()).await.unwrap();
    assert_eq!(branched.branches, ["side"]);
    let repeated =
        SequentialThinkingRequest { thought_number: 6, thought: "It is not".into(), ..side };
    alice.number(repeated).await.unwrap();
    // Numbers belong to lines: main has no 5 yet.
    let main = alice.number(numbered("Sessions are never ended", 5)).await.unwrap();
    assert_eq!((main.thought_history_length, main.chain_id.as_str()), (7, &*first.chain_id));

    let whole = alice.whole(&first.chain_id).await;
    let steps: Vec<_> = whole
        .steps
        .iter()
        .map(|step| (step.number, step.branch.as_str(), step.parents.as_slice(), step.revises))
        .collect();
    assert_eq!(
        steps,
        [
            (1, "main", [].as_slice(), 0),
            (2, "main", &[1], 0),
            (3, "main", &[2], 0),
            (4, "main", &[1], 2),
            (5, "side", &[3], 0),
            (6, "side", &[5], 0),
            (5, "main", &[3], 0),
        ]
    );
    assert_eq!(revised.step, 4);
    assert_eq!(whole.problem, "Why does it leak?");

    let last = SequentialThinkingRequest {
        next_thought_needed: false,
        total_thoughts: 6,
        ..numbered("End sessions after an hour", 6)
    };
    let last = alice.number(last).await.unwrap();
    assert_eq!((last.status(), last.total_thoughts), (ChainStatus::Concluded, 6));
    assert_eq!(alice.whole(&first.chain_id).await.conclusion, "End sessions after an hour");
    let more = numbered("But which hour?", 9);
    assert_error(alice.number(more.clone()).await, ErrorKind::Conflict, "needs_more_thoughts");
    let more = SequentialThinkingRequest { needs_more_thoughts: true, ..more };
    let more = alice.number(more).await.unwrap();
    assert_eq!((more.status(), more.total_thoughts), (ChainStatus::Open, 9));
    assert_eq!(more.warnings, ["thoughts 7 to 8 are missing"]);

    let other = alice.number(numbered("Another matter", 1)).await.unwrap();
    assert_ne!(other.chain_id, first.chain_id);
}

#[tokio::test]
async fn the_form_with_nine_fields_refuses_what_does_not_fit() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let begun = alice.number(numbered("One", 1)).await.unwrap();
    let with = |change: &dyn Fn(&mut SequentialThinkingRequest)| {
        let mut request = numbered("Two", 2);
        change(&mut request);
        request
    };
    let invalid = ErrorKind::InvalidArgument;
    let cases = [
        (with(&|r| r.thought_number = 0), invalid, "thought_number"),
        (with(&|r| r.total_thoughts = 1001), invalid, "total_thoughts"),
        (with(&|r| r.is_revision = true), invalid, "revises_thought"),
        (with(&|r| r.revises_thought = 1), invalid, "revises_thought"),
        (with(&|r| r.branch_from_thought = 1), invalid, "branch_id"),
        (with(&|r| r.branch_id = "b".into()), ErrorKind::NotFound, "branch_id"),
        (
            with(&|r| (r.is_revision, r.revises_thought) = (true, 7)),
            ErrorKind::NotFound,
            "revises_thought: there is no thought 7",
        ),
        (
            with(&|r| (r.branch_id, r.branch_from_thought) = ("b".into(), 7)),
            ErrorKind::NotFound,
            "branch_from_thought: there is no thought 7",
        ),
        (
            with(&|r| (r.next_thought_needed, r.needs_more_thoughts) = (false, true)),
            invalid,
            "needs_more_thoughts",
        ),
        (
            with(&|r| (r.chain_id, r.thought_number) = (begun.chain_id.clone(), 1)),
            ErrorKind::Conflict,
            "the next one is 2",
        ),
    ];
    for (request, kind, says) in cases {
        assert_error(alice.number(request).await, kind, says);
    }
    let whole = alice.whole(&begun.chain_id).await;
    assert_eq!((whole.steps.len(), whole.branches.len()), (1, 1));

    // An open question of the same chain keeps it open.
    alice.add(&begun.chain_id, StepKind::Question, "Really?").await;
    let last = SequentialThinkingRequest { next_thought_needed: false, ..numbered("Yes", 3) };
    let last = alice.number(last).await.unwrap();
    assert_eq!((last.status(), last.open_steps.as_slice()), (ChainStatus::Open, [2].as_slice()));
    assert_eq!(last.warnings, ["the chain is not concluded, because steps of it are open"]);
}
