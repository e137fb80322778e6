//! What is missing or wrong in a graph, and what it amounts to. It changes nothing, and what only the
//! texts can tell is not looked at here.

use std::collections::BTreeSet;

use super::{Graph, Node};
use crate::agents::sequential_thinking::names;
use crate::proto::opdbus::agent::sequential_thinking::v1::{ChainStats, StepKind, StepStatus};

/// What is missing or wrong.
#[derive(Debug, Default)]
pub(in super::super) struct Findings {
    pub(in super::super) open_questions: Vec<u32>,
    pub(in super::super) unverified_hypotheses: Vec<u32>,
    pub(in super::super) contradictions: Vec<Contradiction>,
    pub(in super::super) dead_branches: Vec<String>,
    pub(in super::super) unmerged_branches: Vec<String>,
    pub(in super::super) unused_evidence: Vec<u32>,
}

/// Two steps that cannot stand together.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Contradiction {
    pub(in super::super) step: u32,
    pub(in super::super) against: u32,
    pub(in super::super) reason: String,
}

impl Graph {
    /// Everything that the structure tells.
    pub(in super::super) fn check(&self) -> Findings {
        let mut findings = Findings::default();
        for node in &self.nodes {
            match (node.kind, node.status) {
                (StepKind::Question, StepStatus::Open) => findings.open_questions.push(node.id),
                (StepKind::Hypothesis, StepStatus::Open) => {
                    findings.unverified_hypotheses.push(node.id);
                }
                (StepKind::Hypothesis, StepStatus::Confirmed) if node.resolved_by.is_none() => {
                    findings.unverified_hypotheses.push(node.id);
                }
                _ => {}
            }
        }
        findings.contradictions = self.lost_grounds();
        findings.contradictions.extend(self.built_on_sand());
        for (position, branch) in self.branches.iter().enumerate().skip(1) {
            if branch.merged_by.is_some() {
                continue;
            }
            let head = branch.head.and_then(|head| self.get(head));
            let alive = head.is_some_and(|head| head.branch == position && head.stands());
            let list =
                if alive { &mut findings.unmerged_branches } else { &mut findings.dead_branches };
            list.push(branch.name.clone());
        }
        findings.unused_evidence = self.unused_evidence();
        findings
    }

    /// The steps that carry a conclusion.
    pub(in super::super) fn support(&self) -> Vec<u32> {
        let mut support = BTreeSet::new();
        for node in self.nodes.iter().filter(|node| node.stands()) {
            let carries = node.kind == StepKind::Decision
                || matches!(node.status, StepStatus::Confirmed | StepStatus::Answered);
            if carries {
                support.insert(node.id);
                support.extend(node.resolved_by.map(|by| self.newest(by)));
            }
        }
        support.into_iter().collect()
    }

    /// The step whose thought is the conclusion when nobody gives one.
    pub(in super::super) fn last_word(&self) -> Option<u32> {
        let decisions = self.nodes.iter().rev();
        decisions
            .filter(|node| node.kind == StepKind::Decision && node.stands())
            .map(|node| node.id)
            .next()
            .or(self.branches[0].head)
    }

    /// What there is, in numbers.
    pub(in super::super) fn stats(&self) -> ChainStats {
        let count = |matches: &dyn Fn(&Node) -> bool| {
            u32::try_from(self.nodes.iter().filter(|node| matches(node)).count()).unwrap_or(0)
        };
        let with = |status: StepStatus| count(&|node: &Node| node.status == status);
        let sure: Vec<f64> = self
            .nodes
            .iter()
            .filter(|node| node.stands())
            .filter_map(|node| node.confidence)
            .collect();
        let merged = self.branches.iter().filter(|branch| branch.merged_by.is_some()).count();
        ChainStats {
            total_steps: self.len(),
            active_steps: count(&Node::stands),
            revisions: count(&|node: &Node| node.revises.is_some()),
            dropped: with(StepStatus::Dropped),
            confirmed: with(StepStatus::Confirmed),
            refuted: with(StepStatus::Refuted),
            answered: with(StepStatus::Answered),
            branches: u32::try_from(self.branches.len()).unwrap_or(0),
            merged_branches: u32::try_from(merged).unwrap_or(0),
            mean_confidence: mean(&sure),
        }
    }

    /// Steps that were settled by one that does not stand any more.
    fn lost_grounds(&self) -> Vec<Contradiction> {
        let mut found = Vec::new();
        for node in &self.nodes {
            let settled = matches!(
                node.status,
                StepStatus::Confirmed | StepStatus::Refuted | StepStatus::Answered
            );
            if settled
                && let Some(by) = node.resolved_by.and_then(|by| self.get(by))
                && !by.stands()
            {
                let (status, fate) = (names::status(node.status), names::status(by.status));
                found.push(Contradiction {
                    step: node.id,
                    against: by.id,
                    reason: format!(
                        "step {} is {status} by step {}, which is {fate}",
                        node.id, by.id
                    ),
                });
            }
        }
        found
    }

    /// Decisions and confirmed hypotheses that follow something refuted or dropped and are older than
    /// its fate, each with the last such step; what came later took the fate into account.
    fn built_on_sand(&self) -> Vec<Contradiction> {
        let firm = self.nodes.iter().filter(|node| {
            (node.kind == StepKind::Decision && node.stands())
                || node.status == StepStatus::Confirmed
        });
        firm.filter_map(|node| {
            let ancestor = self.ancestors(node).into_iter().rev().find(|ancestor| {
                matches!(ancestor.status, StepStatus::Refuted | StepStatus::Dropped)
                    && ancestor.resolved_at.is_some_and(|at| node.created_at <= at)
                    && ancestor.resolved_by != Some(node.id)
            })?;
            let (kind, fate) = (names::kind(node.kind), names::status(ancestor.status));
            Some(Contradiction {
                step: node.id,
                against: ancestor.id,
                reason: format!(
                    "the {kind} {} follows step {}, which is {fate} since",
                    node.id, ancestor.id
                ),
            })
        })
        .collect()
    }

    /// Everything that a step follows, directly or not, in the newest revisions, sorted.
    fn ancestors(&self, node: &Node) -> Vec<&Node> {
        let mut seen = BTreeSet::new();
        let mut next: Vec<u32> = node.parents.clone();
        while let Some(id) = next.pop() {
            let newest = self.newest(id);
            if newest != node.id
                && seen.insert(newest)
                && let Some(ancestor) = self.get(newest)
            {
                next.extend(&ancestor.parents);
            }
        }
        seen.into_iter().filter_map(|id| self.get(id)).collect()
    }

    fn unused_evidence(&self) -> Vec<u32> {
        let mut used: BTreeSet<u32> = BTreeSet::new();
        for node in &self.nodes {
            // What a superseded step used is used no more.
            if node.status != StepStatus::Superseded {
                used.extend(node.resolved_by.map(|by| self.newest(by)));
                used.extend(node.cites.iter().map(|cited| self.newest(*cited)));
            }
        }
        let evidence = self.nodes.iter().filter(|node| node.kind == StepKind::Evidence);
        evidence
            .filter(|node| node.stands() && !used.contains(&node.id))
            .map(|node| node.id)
            .collect()
    }
}

#[expect(clippy::cast_precision_loss, reason = "a chain has a thousand steps at most")]
pub(in super::super) fn mean(numbers: &[f64]) -> Option<f64> {
    (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
}
