//! Check: what the graph tells is missing or wrong, and what the texts tell. The comparison of the
//! texts needs no database, so that a long one holds up nobody's reads.

use rusqlite::Connection;

use super::chain::Chain;
use super::graph::{Contradiction, Graph};
use super::limits::MAX_STEPS;
use super::similarity::{self, Profile};
use super::steps;
use super::time::Moment;
use crate::proto::opdbus::agent::sequential_thinking::v1::{
    self as contract, CheckResponse, RepeatedThought, StepKind, StepStatus,
};
use crate::storage::Failure;

/// So many of the last thoughts are compared with a new one.
const LAST: u32 = 20;

/// A chain with its thoughts, to be looked at.
pub(super) struct Review {
    graph: Graph,
    max_steps: u32,
    /// The steps that were not superseded and their thoughts, by id.
    thoughts: Vec<(u32, String)>,
}

impl Review {
    pub(super) fn load(
        database: &Connection,
        uid: u32,
        chain_id: &str,
        moment: Moment,
    ) -> Result<Self, Failure> {
        let chain = Chain::find(database, uid, chain_id, moment)?;
        let mut thoughts = steps::last_thoughts(database, chain.row, MAX_STEPS)?;
        thoughts.reverse();
        let graph = steps::load(database, chain.row)?;
        Ok(Self { graph, max_steps: chain.max_steps, thoughts })
    }

    /// Takes as long as there is text: about a second for the longest chain.
    pub(super) fn findings(&self) -> CheckResponse {
        let profiles: Vec<(u32, Profile)> =
            self.thoughts.iter().map(|(id, thought)| (*id, Profile::new(thought))).collect();
        let mut findings = self.graph.check();
        findings.contradictions.extend(self.opposites(&profiles));
        let repeated = repeated(&profiles);
        let over_budget = self.graph.len().saturating_sub(self.max_steps);
        let clean = findings.open_questions.is_empty()
            && findings.unverified_hypotheses.is_empty()
            && findings.contradictions.is_empty()
            && findings.dead_branches.is_empty()
            && findings.unmerged_branches.is_empty()
            && findings.unused_evidence.is_empty()
            && repeated.is_empty()
            && over_budget == 0;
        CheckResponse {
            clean,
            open_questions: findings.open_questions,
            unverified_hypotheses: findings.unverified_hypotheses,
            contradictions: findings.contradictions.into_iter().map(contradiction).collect(),
            dead_branches: findings.dead_branches,
            unmerged_branches: findings.unmerged_branches,
            repeated_thoughts: repeated,
            unused_evidence: findings.unused_evidence,
            over_budget,
        }
    }

    /// Confirmed hypotheses that say nearly the same as a refuted one.
    fn opposites(&self, profiles: &[(u32, Profile)]) -> Vec<Contradiction> {
        let with = |status: StepStatus| {
            profiles.iter().filter(move |(id, _)| {
                self.graph
                    .get(*id)
                    .is_some_and(|node| node.kind == StepKind::Hypothesis && node.status == status)
            })
        };
        with(StepStatus::Confirmed)
            .filter_map(|(step, profile)| {
                let refuted = with(StepStatus::Refuted).map(|(id, profile)| (*id, profile));
                let (against, _) = similarity::closest(profile, refuted)?;
                Some(Contradiction {
                    step: *step,
                    against,
                    reason: format!(
                        "step {step} is confirmed and step {against}, which says nearly the same, \
                         is refuted"
                    ),
                })
            })
            .collect()
    }
}

/// Which of the last thoughts of a chain a new one repeats, as a warning. `except` is not compared.
pub(super) fn repetition(
    database: &Connection,
    chain: &Chain,
    thought: &str,
    except: Option<u32>,
) -> Result<Option<String>, Failure> {
    let profile = Profile::new(thought);
    let last: Vec<(u32, Profile)> = steps::last_thoughts(database, chain.row, LAST)?
        .into_iter()
        .filter(|(id, _)| Some(*id) != except)
        .map(|(id, thought)| (id, Profile::new(&thought)))
        .collect();
    let closest = similarity::closest(&profile, last.iter().map(|(id, profile)| (*id, profile)));
    Ok(closest.map(|(step, similarity)| {
        format!("the thought repeats step {step} (similarity {similarity:.2})")
    }))
}

fn repeated(profiles: &[(u32, Profile)]) -> Vec<RepeatedThought> {
    let mut found = Vec::new();
    for (position, (second, profile)) in profiles.iter().enumerate() {
        let earlier = profiles[..position].iter().map(|(id, profile)| (*id, profile));
        if let Some((first, similarity)) = similarity::closest(profile, earlier) {
            found.push(RepeatedThought { first, second: *second, similarity });
        }
    }
    found
}

fn contradiction(found: Contradiction) -> contract::Contradiction {
    let Contradiction { step, against, reason } = found;
    contract::Contradiction { step, against, reason }
}
