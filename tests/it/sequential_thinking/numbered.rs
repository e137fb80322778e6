//! The form with nine fields.

use super::{User, assert_error, numbered};
use crate::fixture::Service;
use op_dbus::error::ErrorKind;
use op_dbus::executor::Config;
use op_dbus::proto::opdbus::agent::sequential_thinking::v1::{
    ChainStatus, SequentialThinkingRequest, StepKind,
};

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
