//! Who may call what: the one place where that is decided. The rules are laid out for each operation
//! when they come in force, so that a call asks only those that are about it.

mod groups;
mod rule;
mod service;
mod who;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use nix::unistd::Group;

use super::routes::Routes;
use crate::call::{LoginSession, LoginSources};
use crate::contract::Operation;
use crate::error::Error;
use crate::proto::opdbus::v1::Risk;

pub use rule::{ADMIN_GROUP, Approver, Decision, Risks, Rule, risk_name, risk_named};
pub use service::PolicyInForce;
pub use who::{Named, Who};

pub(super) use who::Subject;

use groups::Groups;
use who::Missing;

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
    logins: LoginSources,
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
    /// This must be known of the caller first.
    Needs(Missing),
}

/// What the policy says to a call, and the rule that says so, by its index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) decision: Decision,
    pub(super) rule: usize,
}

impl Access {
    /// Lays out the rules for the operations of `routes`.
    pub(super) fn new(policy: &Policy, logins: LoginSources, routes: &Routes) -> Self {
        let rules = policy.rules.clone();
        let operations = routes.services().flat_map(|served| &served.service.operations);
        let operations: HashMap<String, Steps> = operations
            .map(|operation| (operation.grpc_path.clone(), steps(&rules, operation)))
            .collect();
        let approve = operations.get(APPROVE).map(|steps| steps.decisions.clone());
        let approve = approve.unwrap_or_default();
        let mut access = Self { approve, rules, operations, groups: Groups::new(), logins };
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

    /// What the policy says to a call of `operation`, if enough is known of the caller.
    pub(super) fn decide_at_once(
        &self,
        subject: &Subject<'_>,
        operation: &Operation,
    ) -> Option<Verdict> {
        match self.ask(self.decisions(operation), subject) {
            Asked::Says((rule, decision)) => Some(Verdict { decision, rule }),
            Asked::Nothing => Some(self.refusal()),
            Asked::Needs(_) => None,
        }
    }

    /// As [`Access::decide_at_once`], but asks the system for what rules want to know of the caller.
    ///
    /// # Errors
    /// `Unavailable` if the user's groups are asked for and cannot be told.
    pub(super) async fn decide(
        &self,
        subject: &mut Subject<'_>,
        operation: &Operation,
    ) -> Result<Verdict, Error> {
        let said = self.find_out(self.decisions(operation), subject).await?;
        Ok(said.map_or_else(|| self.refusal(), |(rule, decision)| Verdict { decision, rule }))
    }

    /// Which calls of `operation` the caller may approve; `None`: none.
    ///
    /// # Errors
    /// As [`Access::decide`].
    pub(super) async fn may_approve(
        &self,
        subject: &mut Subject<'_>,
        operation: &Operation,
    ) -> Result<Option<Approver>, Error> {
        let steps = self.operations.get(&operation.grpc_path);
        let approvers = steps.map_or(&[] as &[_], |steps| &steps.approvers);
        if let Some((_, approver)) = self.find_out(approvers, subject).await? {
            return Ok(Some(approver));
        }
        let said = self.find_out(&self.approve, subject).await?;
        let may = said.is_some_and(|(_, decision)| decision == Decision::Allow);
        Ok(may.then_some(Approver::Others))
    }

    /// The rules, in their order.
    pub(super) fn rules(&self) -> &[Rule] {
        &self.rules
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

    /// What is said to a call that no rule is about: the last rule refuses all.
    fn refusal(&self) -> Verdict {
        Verdict { decision: Decision::Deny, rule: self.rules.len().saturating_sub(1) }
    }

    /// What the first of some rules says that is about the caller.
    async fn find_out<T: Copy>(
        &self,
        steps: &[Step<T>],
        subject: &mut Subject<'_>,
    ) -> Result<Option<Step<T>>, Error> {
        loop {
            match self.ask(steps, subject) {
                Asked::Says(step) => return Ok(Some(step)),
                Asked::Nothing => return Ok(None),
                // Each is missing once.
                Asked::Needs(Missing::Groups) => {
                    subject.groups = Some(match subject.caller.groups.as_deref() {
                        Some(attested) => Cow::Borrowed(attested),
                        None => Cow::Owned(self.groups.of(subject.uid).await?.to_vec()),
                    });
                }
                Asked::Needs(Missing::Session) => {
                    subject.session = Some(self.login_session(subject).await?);
                }
            }
        }
    }

    fn ask<T: Copy>(&self, steps: &[Step<T>], subject: &Subject<'_>) -> Asked<T> {
        for (rule, says) in steps {
            match self.rules[*rule].who.covers(subject) {
                Ok(true) => return Asked::Says((*rule, *says)),
                Ok(false) => {}
                Err(missing) => return Asked::Needs(missing),
            }
        }
        Asked::Nothing
    }

    /// The login session of a caller. Nobody but a process of this machine has one: who bears a token or
    /// a certificate is not the process that passes it on.
    async fn login_session(&self, subject: &Subject<'_>) -> Result<LoginSession, Error> {
        if let Some(session) = subject.supposed {
            return Ok(session);
        }
        let process = subject.caller.process.as_ref();
        let Some(process) = process.filter(|_| subject.caller.attested.is_local()) else {
            return Ok(LoginSession::Unknown);
        };
        let (process, uid, logins) = (Arc::clone(process), subject.uid, self.logins.clone());
        let found = tokio::task::spawn_blocking(move || process.login(uid, &logins)).await;
        found.map_err(|_| Error::internal("the question about a login session panicked"))
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
    rule.who.is_everybody()
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
        Rule::built_in(Who::everybody(), as_himself, Decision::Allow),
        Rule::built_in(
            Who { users: vec![root], groups, ..Who::default() },
            Risks::Any,
            Decision::Allow,
        ),
        Rule::built_in(Who::everybody(), Risks::AtLeast(Risk::Deploy), Decision::Auth),
        Rule::built_in(Who::everybody(), Risks::Any, Decision::Deny),
    ]
}
