//! Who may call what: the one place where that is decided. The rules are laid out for each operation
//! when they come in force, so that a call asks only those that are about it.

mod groups;
mod rule;
mod service;

use std::collections::HashMap;
use std::sync::Arc;

use nix::unistd::Group;

use super::routes::Routes;
use crate::contract::Operation;
use crate::error::Error;
use crate::proto::opdbus::v1::Risk;

pub use rule::{ADMIN_GROUP, Approver, Decision, Named, Risks, Rule, Who, risk_name, risk_named};
pub use service::PolicyInForce;

use groups::Groups;

/// The operations that decide on approvals; the first stands for both.
const APPROVE: &str = "/opdbus.v1.ApprovalsService/Approve";
const REJECT: &str = "/opdbus.v1.ApprovalsService/Reject";

/// Rules of the configuration, and those of the build after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    rules: Vec<Rule>,
    /// How many of them are the configuration's.
    own: usize,
}

impl Policy {
    /// `own` rules before those of the build. Asks the system for the group of administrators, which may
    /// block.
    #[must_use]
    pub fn new(own: Vec<Rule>) -> Self {
        let count = own.len();
        let mut rules = own;
        rules.extend(built_in());
        Self { rules, own: count }
    }

    /// All rules, in their order.
    #[must_use]
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// Which of the configuration's rules are about no operation of `routes`.
    pub(super) fn about_nothing<'a>(
        &'a self,
        routes: &'a Routes,
    ) -> impl Iterator<Item = &'a Rule> {
        self.rules.iter().take(self.own).filter(|rule| {
            let mut operations = routes.services().flat_map(|served| &served.service.operations);
            !operations.any(|operation| rule.is_about(operation))
        })
    }
}

/// The rules in force, laid out.
pub(super) struct Access {
    rules: Vec<Rule>,
    /// By gRPC path.
    operations: HashMap<String, Steps>,
    /// Who may approve where no rule says so: whom the rules about `Approve` itself allow it.
    approve: Vec<Step<Decision>>,
    groups: Groups,
}

/// The rules about one operation, in their order.
#[derive(Default)]
struct Steps {
    decisions: Vec<Step<Decision>>,
    approvers: Vec<Step<Approver>>,
}

/// A rule, by its index, and what it says.
type Step<T> = (usize, T);

/// What comes of asking some rules.
enum Asked<T> {
    Says(Step<T>),
    Nothing,
    /// The caller's groups must be known first.
    NeedsGroups,
}

/// What the policy says to a call, and the rule that says so, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) decision: Decision,
    pub(super) rule: usize,
}

impl Access {
    /// Lays out the rules for the operations of `routes`.
    pub(super) fn new(policy: &Policy, routes: &Routes) -> Self {
        let rules = policy.rules.clone();
        let operations = routes.services().flat_map(|served| &served.service.operations);
        let operations: HashMap<String, Steps> = operations
            .map(|operation| (operation.grpc_path.clone(), steps(&rules, operation)))
            .collect();
        let approve = operations.get(APPROVE).map(|steps| steps.decisions.clone());
        let mut access =
            Self { approve: approve.unwrap_or_default(), rules, operations, groups: Groups::new() };
        // Whom a rule lets approve something, it lets through to where that is looked at.
        for path in [APPROVE, REJECT] {
            if let Some(steps) = access.operations.get_mut(path) {
                // Who may approve is a matter of these rules alone: polkit would be asked in vain.
                for (_, decision) in &mut steps.decisions {
                    if *decision == Decision::Auth {
                        *decision = Decision::Deny;
                    }
                }
                steps.decisions = with_approvers(&access.rules, &steps.decisions);
            }
        }
        access
    }

    /// What the policy says to a call of `operation` by the user, if his groups are known or nothing
    /// asks for them. `attested`: those that the transport vouches for; else they are the system's.
    pub(super) fn decide_at_once(
        &self,
        uid: u32,
        attested: Option<&[u32]>,
        operation: &Operation,
    ) -> Option<Verdict> {
        let steps = self.decisions(operation);
        match self.ask(steps, uid, attested) {
            Asked::Says((rule, decision)) => Some(Verdict { decision, rule }),
            Asked::Nothing => Some(self.refusal()),
            Asked::NeedsGroups => {
                let groups = self.groups.known(uid)?;
                Some(self.verdict(steps, uid, &groups))
            }
        }
    }

    /// As [`Access::decide_at_once`], but asks the system if it must.
    ///
    /// # Errors
    /// `Unavailable` if the user's groups are asked for and cannot be told.
    pub(super) async fn decide(
        &self,
        uid: u32,
        attested: Option<&[u32]>,
        operation: &Operation,
    ) -> Result<Verdict, Error> {
        match self.decide_at_once(uid, attested, operation) {
            Some(verdict) => Ok(verdict),
            None => {
                let groups = self.groups.of(uid).await?;
                Ok(self.verdict(self.decisions(operation), uid, &groups))
            }
        }
    }

    /// Which calls of `operation` the user may approve; `None`: none.
    ///
    /// # Errors
    /// As [`Access::decide`].
    pub(super) async fn may_approve(
        &self,
        uid: u32,
        operation: &Operation,
    ) -> Result<Option<Approver>, Error> {
        let groups = self.groups.of(uid).await?;
        let steps = self.operations.get(&operation.grpc_path);
        let approvers = steps.map_or(&[] as &[_], |steps| &steps.approvers);
        if let Asked::Says((_, approver)) = self.ask(approvers, uid, Some(&groups)) {
            return Ok(Some(approver));
        }
        let verdict = self.verdict(&self.approve, uid, &groups);
        Ok((verdict.decision == Decision::Allow).then_some(Approver::Others))
    }

    /// The rules, in their order.
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The groups of a user that a decision on `operation` looked at; none if it looked at none.
    pub(super) fn groups_asked(&self, uid: u32, operation: &Operation) -> Arc<[u32]> {
        match self.ask(self.decisions(operation), uid, None) {
            Asked::NeedsGroups => self.groups.known(uid).unwrap_or_default(),
            Asked::Says(_) | Asked::Nothing => Arc::default(),
        }
    }

    /// What stands in a log about a rule.
    pub(super) fn describe(&self, rule: usize) -> String {
        match self.rules.get(rule) {
            Some(found) => format!("rule {} ({}), {found}", rule + 1, found.origin),
            None => "no rule".to_owned(),
        }
    }

    fn decisions(&self, operation: &Operation) -> &[Step<Decision>] {
        self.operations.get(&operation.grpc_path).map_or(&[], |steps| &steps.decisions)
    }

    fn verdict(&self, steps: &[Step<Decision>], uid: u32, groups: &[u32]) -> Verdict {
        match self.ask(steps, uid, Some(groups)) {
            Asked::Says((rule, decision)) => Verdict { decision, rule },
            Asked::Nothing | Asked::NeedsGroups => self.refusal(),
        }
    }

    /// What is said to a call that no rule is about: the last rule refuses all.
    fn refusal(&self) -> Verdict {
        Verdict { decision: Decision::Deny, rule: self.rules.len().saturating_sub(1) }
    }

    fn ask<T: Copy>(&self, steps: &[Step<T>], uid: u32, groups: Option<&[u32]>) -> Asked<T> {
        for (rule, says) in steps {
            match self.rules[*rule].who.covers(uid, groups) {
                Some(true) => return Asked::Says((*rule, *says)),
                Some(false) => {}
                None => return Asked::NeedsGroups,
            }
        }
        Asked::Nothing
    }
}

fn steps(rules: &[Rule], operation: &Operation) -> Steps {
    let mut steps = Steps::default();
    for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.is_about(operation)) {
        let decided = steps.decisions.last().is_some_and(|(last, _)| is_final(&rules[*last]));
        if let Some(decision) = rule.decision
            && !decided
        {
            steps.decisions.push((index, decision));
        }
        if let Some(approver) = rule.may_approve {
            steps.approvers.push((index, approver));
        }
    }
    steps
}

/// The rules about `Approve` or `Reject`, with those that let somebody approve calls of whatever
/// operation.
fn with_approvers(rules: &[Rule], decisions: &[Step<Decision>]) -> Vec<Step<Decision>> {
    let mut steps: Vec<Step<Decision>> = decisions.to_vec();
    let approving = rules.iter().enumerate().filter(|(_, rule)| rule.may_approve.is_some());
    let own = |index: usize| decisions.iter().any(|(rule, _)| *rule == index);
    steps.extend(
        approving.filter(|(index, _)| !own(*index)).map(|(index, _)| (index, Decision::Allow)),
    );
    steps.sort_by_key(|(index, _)| *index);
    steps
}

/// True if no rule after this one is ever asked.
fn is_final(rule: &Rule) -> bool {
    rule.who == Who::Everybody
}

/// What holds where the configuration says nothing.
fn built_in() -> Vec<Rule> {
    let as_himself = Risks::Exactly(vec![Risk::Read, Risk::Write, Risk::Execute]);
    let root = Named { name: "root".to_owned(), id: 0 };
    let groups = match Group::from_name(ADMIN_GROUP) {
        Ok(group) => group
            .map(|group| Named { name: ADMIN_GROUP.to_owned(), id: group.gid.as_raw() })
            .into_iter()
            .collect(),
        Err(error) => {
            tracing::warn!(%error, "the system does not say who is in the group {ADMIN_GROUP}");
            Vec::new()
        }
    };
    vec![
        Rule::built_in(Who::Everybody, as_himself, Decision::Allow),
        Rule::built_in(Who::These { users: vec![root], groups }, Risks::Any, Decision::Allow),
        Rule::built_in(Who::Everybody, Risks::AtLeast(Risk::Deploy), Decision::Auth),
        Rule::built_in(Who::Everybody, Risks::Any, Decision::Deny),
    ]
}
