//! How a chain grows and is settled, from its problem to its conclusion.

use super::{User, assert_error, resolution, thought_of};
use crate::fixture::Service;
use op_dbus::error::ErrorKind;
use op_dbus::executor::Config;
use op_dbus::proto::opdbus::agent::sequential_thinking::v1::evidence::Source;
use op_dbus::proto::opdbus::agent::sequential_thinking::v1::{
    BranchRequest, ChainStatus, ChainView, ConcludeRequest, Evidence, GetChainRequest,
    MergeRequest, Resolution, ReviseRequest, ScoreRequest, StartChainRequest, StepKind, StepStatus,
    ThinkRequest,
};
use std::collections::BTreeMap;

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
    let signing = alice.add(&chain, StepKind::Analysis, "Both need signing").await;
    let merge = |branches: &[&str]| MergeRequest {
        chain_id: chain.clone(),
        branches: branches.iter().map(ToString::to_string).collect(),
        note: "Packages are enough".into(),
        ..Default::default()
    };
    let empty = alice.merge(merge(&["images"])).await;
    assert_error(empty, ErrorKind::Conflict, "no steps of its own");
    let main = alice.merge(merge(&["main"])).await;
    assert_error(main, ErrorKind::InvalidArgument, "main goes on");
    let itself = MergeRequest { into: "packages".into(), ..merge(&["packages"]) };
    assert_error(alice.merge(itself).await, ErrorKind::InvalidArgument, "into itself");
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
    assert_eq!(step.parents, [signing, packages.step]);
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
