//! What is refused: bad input, other users, too much.

use super::{User, assert_error, numbered, thought_of};
use crate::fixture::Service;
use op_dbus::call::Attested;
use op_dbus::call::Caller;
use op_dbus::call::Context;
use op_dbus::call::Identity;
use op_dbus::call::Transport;
use op_dbus::error::ErrorKind;
use op_dbus::executor::Config;
use op_dbus::proto::opdbus::agent::sequential_thinking::v1::evidence::Source;
use op_dbus::proto::opdbus::agent::sequential_thinking::v1::{
    CheckRequest, ConcludeRequest, DeleteChainRequest, Evidence, ExportRequest, GetChainRequest,
    ListChainsRequest, SearchRequest, StartChainRequest, StepKind, ThinkRequest,
};

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
        Caller::new(Identity::Unknown, Attested::Nobody, "test").into(),
        Transport::Grpc,
    );
    let route = service.executor.find("sequential_thinking", "ListChains").unwrap();
    let outcome = service.executor.call(&route, stranger, bytes::Bytes::new()).await;
    assert_error(outcome, ErrorKind::Unauthenticated, "");
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
