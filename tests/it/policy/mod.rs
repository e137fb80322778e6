//! Who may call what: decisions, approvals and explanations, over the executor that every transport
//! calls. That the transports agree is in `parity/rights.rs`.

mod approvals;
mod asking;
mod command;
mod decisions;
mod explain;
mod logins;
mod watching;

use std::sync::Arc;

use op_dbus::call::{Attested, Caller, Context, Identity, Transport};
use op_dbus::contract::json_to_message;
use op_dbus::error::Error;
use op_dbus::executor::{Config, Decision, Named, Policy, Rule, Who};
use serde_json::{Value, json};

use crate::fixture::Service;

/// Nobody on any machine.
const ALICE: u32 = 4_200_001;
const BOB: u32 = 4_200_002;
const ROOT: u32 = 0;

fn context(uid: u32) -> Context {
    let identity = Identity::User { uid, gid: None };
    Context::new(Arc::new(Caller::new(identity, Attested::Kernel, "test")), Transport::Grpc)
}

/// A context that bears an approval.
fn with(uid: u32, approval: &str) -> Context {
    Context { approval_id: Some(approval.into()), ..context(uid) }
}

/// A call as its client makes it.
async fn call(
    service: &Service,
    context: Context,
    (agent, operation): (&str, &str),
    arguments: Value,
) -> Result<Value, Error> {
    let route = service.executor.find(agent, operation)?;
    let request = json_to_message(&route.operation.input, &arguments.to_string())?;
    let response = service.executor.call(&route, context, request.into()).await?;
    let json = op_dbus::contract::message_to_json(&route.operation.output, &response)?;
    Ok(serde_json::from_str(&json).unwrap())
}

const GUARDED: (&str, &str) = ("probe", "Guarded");

/// The call that its agent wants approved.
async fn guarded(service: &Service, context: Context, text: &str) -> Result<Value, Error> {
    call(service, context, GUARDED, json!({"text": text})).await
}

/// The id of the approval that a call must have.
fn asked(outcome: Result<Value, Error>) -> String {
    let error = outcome.unwrap_err();
    assert_eq!(error.kind(), op_dbus::error::ErrorKind::ApprovalRequired, "{error}");
    error.fact("approval_id").unwrap().to_owned()
}

async fn approve(service: &Service, uid: u32, id: &str) -> Result<Value, Error> {
    call(service, context(uid), ("approvals", "Approve"), json!({"id": id})).await
}

fn user(id: u32) -> Who {
    Who { users: vec![Named { name: id.to_string(), id }], ..Who::default() }
}

/// The defaults with these rules.
fn ruled(policy: Vec<Rule>) -> Service {
    Service::new(Config { policy: Policy::new(policy), ..Config::default() })
}

/// A rule about one operation of the probe.
fn about(operation: &str, who: Who, decision: Decision) -> Rule {
    let mut rule = Rule::for_all(who, decision);
    rule.agents = vec!["probe".to_owned()];
    rule.operations = vec![operation.to_owned()];
    rule
}
