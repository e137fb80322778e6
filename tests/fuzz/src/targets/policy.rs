//! Any rules, any caller, any operation: what the executor decides is what the first rule says that is about
//! them, and what it explains is what it decides.

use std::sync::Arc;

use op_dbus::call::{Attested, Caller, Context, Identity, LoginSession, Transport};
use op_dbus::config;
use op_dbus::contract::{Contract, Operation, same_name};
use op_dbus::error::ErrorKind;
use op_dbus::executor::{Config, Decision, Executor, PolicyInForce, Risks, Rule, Who};
use op_dbus::proto::opdbus::v1::{
    ExplainRequest, PolicyDecision, PolicyExplanation, PolicyService as _,
};

use super::Target;
use super::parts::byte;
use super::service::Service;

/// Users and groups that inputs choose from: root, one that no system has, and others.
const IDS: [u32; 8] = [0, 1, 2, 100, 1000, 65_534, 4_000_000_000, u32::MAX];

/// Where rules for approvers count as rules for callers, which the order of the rules alone does not tell.
const APPROVALS: &str = "approvals";

/// What was decided on a call, and the number of the rule that decided.
type Verdict = (Decision, usize);

/// The first byte chooses the user, the second his groups, the next two the operation; the rest is the text
/// of the rules.
pub(super) fn target() -> Target {
    let service = Service::start();
    let contract = Contract::built_in().expect("the contract is built in");
    let operations = contract.services.iter().flat_map(|service| &service.operations);
    let served = |operation: &&Arc<Operation>| {
        service.executor.find(&operation.agent, &operation.name).is_ok()
    };
    let operations: Vec<_> = operations.filter(served).cloned().collect();
    assert!(operations.len() > 50, "only {} operations are served", operations.len());
    Box::new(move |mut input: &[u8]| {
        let uid = IDS[usize::from(byte(&mut input)) % IDS.len()];
        let chosen = byte(&mut input);
        let groups = IDS.into_iter().enumerate().filter(|(bit, _)| (chosen >> bit) & 1 == 1);
        let groups = groups.map(|(_, group)| group).collect();
        let operation = u16::from_le_bytes([byte(&mut input), byte(&mut input)]);
        let operation = &operations[usize::from(operation) % operations.len()];
        let Ok(text) = std::str::from_utf8(input) else { return };
        let Ok(loaded) = config::from_text(text) else { return };
        let policy = loaded.settings.executor.policy;
        let rules = policy.rules().to_vec();
        // Whole, or else the folder were not kept.
        let Service { executor, runtime, .. } = &service;
        executor.reconfigure(Config { policy, ..super::service::config() });
        runtime.block_on(check(executor, operation, &rules, uid, groups));
    })
}

async fn check(
    executor: &Arc<Executor>,
    operation: &Operation,
    rules: &[Rule],
    uid: u32,
    groups: Vec<u32>,
) {
    let caller = |groups| {
        let identity = Identity::User { uid, gid: None };
        let caller = Caller::new(identity, Attested::Kernel, "unix:1").with_groups(groups);
        Context::new(Arc::new(caller), Transport::Grpc)
    };
    let attested = decide(executor, operation, &caller(Some(groups.clone()))).await;
    if operation.agent != APPROVALS {
        assert_same(attested, first(rules, operation, uid, &groups), "the rules say");
    }
    // The policy is explained by what the system knows of the user, as for a caller whose groups nobody
    // attests.
    let decided = decide(executor, operation, &caller(None)).await;
    let explained = explain(executor, operation, &caller(None)).await;
    assert_same(decided, verdict(&explained), "the explanation says");
    if operation.agent != APPROVALS {
        let first = first(rules, operation, uid, &explained.gids);
        assert_eq!(
            verdict(&explained),
            first,
            "not what the rules say to the groups {:?}",
            explained.gids
        );
    }
}

/// What the executor decides: let through, refused, or left to somebody; and by which rule, where it says so.
async fn decide(
    executor: &Executor,
    operation: &Operation,
    context: &Context,
) -> (ErrorKind, Option<usize>) {
    match executor.permit(&operation.agent, &operation.name, context).await {
        Ok(trail) => {
            trail.end(None).await;
            // Stands for no error.
            (ErrorKind::Internal, None)
        }
        Err(error) => {
            let rule = error.refusal().and_then(|text| text.strip_prefix("rule "));
            let number =
                rule.and_then(|text| text.split(' ').next()).and_then(|text| text.parse().ok());
            assert!(number.is_some(), "no rule is named: {error}");
            (error.kind(), number)
        }
    }
}

fn assert_same((kind, by): (ErrorKind, Option<usize>), (decision, rule): Verdict, who: &str) {
    let expected = match decision {
        Decision::Allow => ErrorKind::Internal,
        Decision::Ask => ErrorKind::ApprovalRequired,
        // There is no authority that could say yes.
        Decision::Deny | Decision::Auth => ErrorKind::AccessDenied,
    };
    assert_eq!(kind, expected, "{who} {decision:?} by rule {rule}");
    assert!(by.is_none_or(|by| by == rule), "rule {by:?} decided, but {who} rule {rule}");
}

async fn explain(
    executor: &Arc<Executor>,
    operation: &Operation,
    context: &Context,
) -> PolicyExplanation {
    let request =
        ExplainRequest { agent: operation.agent.clone(), operation: operation.name.clone() };
    let explained = PolicyInForce::new(executor).explain(context, request).await;
    let explained = explained.unwrap_or_else(|error| panic!("nothing is explained: {error}"));
    explained.explanation.expect("there is an explanation")
}

fn verdict(explanation: &PolicyExplanation) -> Verdict {
    let decision = match explanation.decision() {
        PolicyDecision::Allow => Decision::Allow,
        PolicyDecision::Deny => Decision::Deny,
        PolicyDecision::Ask => Decision::Ask,
        PolicyDecision::Auth => Decision::Auth,
        PolicyDecision::Unspecified => panic!("the explanation says nothing: {explanation:?}"),
    };
    let rule = explanation.rule.as_ref().expect("the explanation names a rule");
    (decision, usize::try_from(rule.number).expect("a small number"))
}

/// What the first rule says that is about the call.
fn first(rules: &[Rule], operation: &Operation, uid: u32, groups: &[u32]) -> Verdict {
    let decisions = rules.iter().enumerate().filter(|(_, rule)| {
        let Who { users, groups: wanted, tokens, certificates, login_sessions } = &rule.who;
        let is_named = users.iter().any(|user| user.id == uid)
            || wanted.iter().any(|group| groups.contains(&group.id));
        let names_somebody = !(users.is_empty() && wanted.is_empty());
        // He has neither token nor certificate, and no process by which he could be in a session.
        let names_others = !(tokens.is_empty() && certificates.is_empty());
        let session = login_sessions.is_empty() || login_sessions.contains(&LoginSession::Unknown);
        let who = session && (is_named || !(names_somebody || names_others));
        let agent = rule.agents.is_empty() || rule.agents.contains(&operation.agent);
        let name = |name: &String| same_name(name, &operation.name);
        let name = rule.operations.is_empty() || rule.operations.iter().any(name);
        let risk = match &rule.risks {
            Risks::Any => true,
            Risks::AtLeast(least) => operation.risk >= *least,
            Risks::Exactly(risks) => risks.contains(&operation.risk),
        };
        who && agent && name && risk
    });
    let mut decisions = decisions.filter_map(|(index, rule)| Some((rule.decision?, index + 1)));
    decisions.next().expect("the last rule is about everything")
}
