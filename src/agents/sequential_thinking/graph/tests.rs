//! The graph's rules under any sequence of changes.

use proptest::prelude::*;

use super::{Added, Graph, Place, View};
use crate::proto::opdbus::agent::sequential_thinking::v1::{Resolution, StepKind, StepStatus};

/// A change that may or may not be possible.
#[derive(Clone, Debug)]
enum Change {
    Think { kind: i32, parent: Option<u32>, branch: Option<u8> },
    Revise(u32),
    Branch { from: u32, name: u8 },
    Merge { branches: Vec<u8>, into: u8 },
    Resolve { step: u32, how: i32, by: Option<u32> },
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let step = 0_u32..12;
    let branch = 0_u8..4;
    let change = prop_oneof![
        4 => (1..8_i32, prop::option::of(step.clone()), prop::option::of(branch.clone()))
            .prop_map(|(kind, parent, branch)| Change::Think { kind, parent, branch }),
        2 => step.clone().prop_map(Change::Revise),
        1 => (step.clone(), branch.clone()).prop_map(|(from, name)| Change::Branch { from, name }),
        1 => (prop::collection::vec(branch.clone(), 0..3), branch)
            .prop_map(|(branches, into)| Change::Merge { branches, into }),
        3 => (step.clone(), 0..6_i32, prop::option::of(step))
            .prop_map(|(step, how, by)| Change::Resolve { step, how, by }),
    ];
    prop::collection::vec(change, 0..40)
}

fn name(branch: u8) -> String {
    if branch == 0 { "main".to_owned() } else { format!("b{branch}") }
}

fn added(kind: StepKind, now: i64) -> Added {
    Added { kind, confidence: None, cites: Vec::new(), now }
}

/// Makes a change; true if it was possible.
fn apply(graph: &mut Graph, change: Change, now: i64) -> bool {
    match change {
        Change::Think { kind, parent, branch } => {
            let kind = StepKind::try_from(kind).unwrap();
            let place = Place { parent, branch: branch.map(name), number: None };
            graph.think(&added(kind, now), place).is_ok()
        }
        Change::Revise(step) => {
            graph.revise(&added(StepKind::Unspecified, now), step, None).is_ok()
        }
        Change::Branch { from, name: new } => {
            graph.open_branch("from_step", from, name(new)).is_ok()
        }
        Change::Merge { branches, into } => {
            let branches: Vec<String> = branches.into_iter().map(name).collect();
            graph.merge(&added(StepKind::Synthesis, now), &branches, &name(into)).is_ok()
        }
        Change::Resolve { step, how, by } => {
            graph.resolve(step, Resolution::try_from(how).unwrap(), by, now).is_ok()
        }
    }
}

/// What holds of every graph.
fn assert_sound(graph: &Graph) {
    assert_eq!(graph.sound(), Ok(()));
    for branch in &graph.branches {
        assert!(graph.line(branch.head).len() <= graph.nodes.len());
    }
    let mut tree: Vec<u32> = graph.view(View::Tree).iter().map(|placed| placed.id).collect();
    tree.sort_unstable();
    assert_eq!(tree, (1..=graph.len()).collect::<Vec<_>>());
    let found = graph.check();
    let open = found.open_questions.len();
    let unverified = found.unverified_hypotheses.iter();
    let open_hypotheses =
        unverified.filter(|id| graph.get(**id).unwrap().status == StepStatus::Open).count();
    assert_eq!(open + open_hypotheses, graph.open_steps().len());
    assert!(graph.support().iter().all(|id| graph.get(*id).is_some()));
}

proptest! {
    #[test]
    fn whatever_is_done_the_graph_is_sound_and_a_refusal_changes_nothing(changes in changes()) {
        let mut graph = Graph::empty();
        for (now, change) in (0_i64..).zip(changes) {
            let before = format!("{graph:?}");
            if !apply(&mut graph, change, now) {
                prop_assert_eq!(&before, &format!("{graph:?}"));
            }
            assert_sound(&graph);
        }
    }
}

#[test]
fn the_line_of_a_branch_goes_through_the_newest_revisions() {
    let mut graph = Graph::empty();
    for _ in 0..3 {
        graph.think(&added(StepKind::Analysis, 0), Place::default()).unwrap();
    }
    let second = graph.revise(&added(StepKind::Analysis, 0), 2, None).unwrap();
    let third = graph.revise(&added(StepKind::Analysis, 0), second, None).unwrap();
    assert_eq!(graph.line(graph.branches[0].head), [3, third, 1]);
    assert_eq!(graph.newest(2), third);
    // The head of a branch moves with its revision.
    let head = graph.revise(&added(StepKind::Analysis, 0), 3, None).unwrap();
    assert_eq!(graph.branches[0].head, Some(head));
}

#[test]
fn a_decision_that_took_the_refutation_into_account_is_no_contradiction() {
    let mut graph = Graph::empty();
    let think =
        |graph: &mut Graph, kind, now| graph.think(&added(kind, now), Place::default()).unwrap();
    let hypothesis = think(&mut graph, StepKind::Hypothesis, 1);
    let rash = think(&mut graph, StepKind::Decision, 2);
    let proof = think(&mut graph, StepKind::Evidence, 3);
    graph.resolve(hypothesis, Resolution::Refuted, Some(proof), 4).unwrap();
    think(&mut graph, StepKind::Decision, 5);
    let found = graph.check().contradictions;
    let pairs: Vec<(u32, u32)> = found.iter().map(|found| (found.step, found.against)).collect();
    assert_eq!(pairs, [(rash, hypothesis)]);
}

/// A sound graph with a revision, a merged branch and a refuted hypothesis.
fn sample() -> Graph {
    let mut graph = Graph::empty();
    let mut think = |kind, branch: &str| {
        let place = Place { branch: Some(branch.to_owned()), ..Place::default() };
        graph.think(&added(kind, 1), place).unwrap()
    };
    think(StepKind::Hypothesis, "main");
    think(StepKind::Evidence, "main");
    graph.open_branch("from_step", 1, "side".to_owned()).unwrap();
    let place = Place { branch: Some("side".to_owned()), ..Place::default() };
    graph.think(&added(StepKind::Question, 1), place).unwrap();
    graph.revise(&added(StepKind::Unspecified, 1), 3, None).unwrap();
    graph.merge(&added(StepKind::Synthesis, 1), &["side".to_owned()], "main").unwrap();
    graph.resolve(1, Resolution::Refuted, Some(2), 2).unwrap();
    graph
}

#[test]
fn a_graph_that_does_not_hang_together_is_found_out() {
    assert_eq!(sample().sound(), Ok(()));
    type Break = fn(&mut Graph);
    let cases: [(Break, &str); 16] = [
        (|g| g.nodes[1].id = 3, "steps[1].step"),
        (|g| g.nodes[1].parents = vec![2], "steps[1].parents"),
        (|g| g.nodes[4].parents = vec![2, 2], "steps[4].parents"),
        (|g| g.nodes[1].branch = 2, "steps[1].branch"),
        (|g| g.nodes[1].number = 0, "steps[1].number"),
        (|g| g.nodes[1].cites = vec![6], "steps[1].evidence"),
        (|g| g.nodes[1].status = StepStatus::Open, "steps[1].status"),
        (|g| g.nodes[3].status = StepStatus::Confirmed, "steps[3].status"),
        (|g| g.nodes[2].superseded_by = None, "steps[2].superseded_by"),
        (|g| g.nodes[2].superseded_by = Some(5), "steps[2].superseded_by"),
        (|g| g.nodes[3].parents = vec![2], "steps[3].revises"),
        (|g| g.nodes[0].resolved_by = Some(1), "steps[0].resolved_by leads back"),
        (|g| g.nodes[3].resolved_at = Some(1), "steps[3].resolved_by"),
        (|g| g.branches[1].head = Some(3), "branches[1].head"),
        (|g| g.branches[1].name = "main".to_owned(), "branches[1].name"),
        (|g| g.branches[1].merged_by = Some(2), "branches[1].merged_by"),
    ];
    for (index, (damage, says)) in cases.into_iter().enumerate() {
        let mut graph = sample();
        damage(&mut graph);
        let problem = graph.sound().unwrap_err();
        assert!(problem.starts_with(says), "case {index}: {problem}");
    }
}
