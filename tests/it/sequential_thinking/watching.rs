//! WatchChain: every step once, as it is added, until the chain is concluded.

use std::sync::Arc;
use std::time::Duration;

use op_dbus::contract::RawRequests;
use op_dbus::error::ErrorKind;
use op_dbus::executor::{Config, Input};
use op_dbus::proto::opdbus::agent::sequential_thinking::v1::watch_chain_response::Event as Told;
use op_dbus::proto::opdbus::agent::sequential_thinking::v1::{
    ConcludeRequest, DeleteChainRequest, ReviseRequest, StepKind, WatchChainRequest,
    WatchChainResponse,
};
use op_dbus::task::{Event, Reading, Subscription, Task};
use prost::Message as _;

use super::{User, assert_error, numbered, thought_of};
use crate::fixture::Service;
use crate::process::PATIENCE;

/// Somebody who watches a chain.
struct Watcher {
    task: Arc<Task>,
    reader: Subscription,
}

impl Watcher {
    async fn start(user: &User<'_>, chain_id: &str, since_step: u32) -> Self {
        let request = WatchChainRequest { chain_id: chain_id.into(), since_step };
        let route = user.service.executor.find("sequential_thinking", "WatchChain").unwrap();
        let input = Input::Many(RawRequests::one(request.encode_to_vec().into()));
        let task = user.service.executor.start(&route, user.context(), input).await.unwrap();
        let reader = task.read(Reading { is_client: true, ..Reading::default() }).unwrap();
        Self { task, reader }
    }

    /// What comes next, or how it ended.
    async fn next(&mut self) -> Result<Told, Option<ErrorKind>> {
        let event = tokio::time::timeout(PATIENCE, self.reader.next()).await;
        match event.expect("something happens").expect("a task says how it ended") {
            Event::Message(message) => {
                Ok(WatchChainResponse::decode(message.payload).unwrap().event.unwrap())
            }
            Event::Ended(outcome) => Err(outcome.err().map(|error| error.kind())),
            other @ (Event::Gap { .. } | Event::Changed) => panic!("{other:?}"),
        }
    }

    async fn step(&mut self) -> (u32, String) {
        match self.next().await {
            Ok(Told::Step(step)) => (step.step, step.thought),
            other => panic!("{other:?} is no step"),
        }
    }

    /// Checks that the next messages are the conclusion and the end.
    async fn concludes(&mut self, text: &str, steps: u32) {
        match self.next().await {
            Ok(Told::Conclusion(end)) => assert_eq!((end.text.as_str(), end.steps), (text, steps)),
            other => panic!("{other:?} is no conclusion"),
        }
        assert_eq!(self.next().await.unwrap_err(), None);
    }
}

fn conclude(chain_id: &str, conclusion: &str) -> ConcludeRequest {
    ConcludeRequest { chain_id: chain_id.into(), conclusion: conclusion.into(), force: true }
}

#[tokio::test]
async fn steps_are_given_from_the_one_after_until_the_end() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.begin("What is next?").await;
    alice.add(&chain, StepKind::Analysis, "one").await;
    alice.add(&chain, StepKind::Analysis, "two").await;
    let mut all = Watcher::start(&alice, &chain, 0).await;
    let mut late = Watcher::start(&alice, &chain, 2).await;
    assert_eq!(all.step().await, (1, "one".into()));
    assert_eq!(all.step().await, (2, "two".into()));
    alice.add(&chain, StepKind::Hypothesis, "three").await;
    let revision = ReviseRequest {
        chain_id: chain.clone(),
        step: 1,
        thought: "one, better".into(),
        ..Default::default()
    };
    alice.revise(revision).await.unwrap();
    for watcher in [&mut all, &mut late] {
        assert_eq!(watcher.step().await, (3, "three".into()));
        assert_eq!(watcher.step().await, (4, "one, better".into()));
    }
    alice.conclude(conclude(&chain, "done")).await.unwrap();
    all.concludes("done", 4).await;
    late.concludes("done", 4).await;
    // A chain that is concluded already is told at once.
    let mut after = Watcher::start(&alice, &chain, 3).await;
    assert_eq!(after.step().await.0, 4);
    after.concludes("done", 4).await;
}

#[tokio::test]
async fn no_step_is_lost_or_doubled_while_steps_are_added() {
    const STEPS: u32 = 200;
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.begin("How fast?").await;
    let add = async {
        for number in 1..=STEPS {
            alice.add(&chain, StepKind::Analysis, &format!("thought {number} of many")).await;
        }
        alice.conclude(conclude(&chain, "fast")).await.unwrap();
    };
    let watch = async {
        // Each begins somewhere in the middle of the adding.
        let mut watchers = Vec::new();
        for _ in 0..4 {
            watchers.push(Watcher::start(&alice, &chain, 0).await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for mut watcher in watchers {
            for number in 1..=STEPS {
                assert_eq!(watcher.step().await.0, number);
            }
            watcher.concludes("fast", STEPS).await;
        }
    };
    tokio::join!(add, watch);
}

#[tokio::test]
async fn the_numbered_form_and_a_reopened_chain_are_seen_too() {
    let service = Service::new(Config::default());
    let alice = User::alice(&service);
    let chain = alice.number(numbered("first", 1)).await.unwrap().chain_id;
    let mut watcher = Watcher::start(&alice, &chain, 1).await;
    alice.number(numbered("second", 2)).await.unwrap();
    assert_eq!(watcher.step().await, (2, "second".into()));
    alice.conclude(conclude(&chain, "done")).await.unwrap();
    watcher.concludes("done", 2).await;
    let mut more = thought_of(&chain, StepKind::Analysis, "third");
    more.reopen = true;
    alice.think(more).await.unwrap();
    let mut watcher = Watcher::start(&alice, &chain, 2).await;
    assert_eq!(watcher.step().await.0, 3);
    alice.conclude(conclude(&chain, "again")).await.unwrap();
    watcher.concludes("again", 3).await;
}

#[tokio::test]
async fn a_watch_that_cannot_go_on_ends_with_the_reason() {
    let service = Service::new(Config::default());
    let (alice, bob) = (User::alice(&service), User::bob(&service));
    let chain = alice.begin("Who sees this?").await;
    let mut foreign = Watcher::start(&bob, &chain, 0).await;
    assert_eq!(foreign.next().await.unwrap_err(), Some(ErrorKind::NotFound));
    let mut future = Watcher::start(&alice, &chain, 1).await;
    assert_eq!(future.next().await.unwrap_err(), Some(ErrorKind::InvalidArgument));

    let mut deleted = Watcher::start(&alice, &chain, 0).await;
    let mut cancelled = Watcher::start(&alice, &chain, 0).await;
    alice.add(&chain, StepKind::Analysis, "one").await;
    assert_eq!((deleted.step().await.0, cancelled.step().await.0), (1, 1));
    cancelled.task.cancel();
    assert_eq!(cancelled.next().await.unwrap_err(), Some(ErrorKind::Cancelled));
    alice.delete(DeleteChainRequest { chain_id: chain.clone() }).await.unwrap();
    assert_eq!(deleted.next().await.unwrap_err(), Some(ErrorKind::NotFound));
    let get = alice.export(super::ExportRequest { chain_id: chain, format: 0 }).await;
    assert_error(get, ErrorKind::NotFound, "chain_id");
}
