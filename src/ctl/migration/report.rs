//! `op-dbusctl migration report` and `plan`: what keeps rules from the last stage, and the next steps.

use std::time::SystemTime;

use serde_json::{Value, json};

use super::{named, share, stage, status, uid};
use crate::client::{AgentClient, CallOptions};
use crate::ctl::Outcome;
use crate::ctl::output::Output;
use crate::ctl::problem::Problem;
use crate::ctl::table::Table;
use crate::proto::opdbus::v1::{Stage, Step};

/// Who is still on D-Bus and what blocks the end of it.
pub(super) async fn run(
    client: &AgentClient,
    since: Option<SystemTime>,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let answer = client.report(since, options).await?;
    let report = answer.message;
    let outcome = if report.blockers.is_empty() { Outcome::Done } else { Outcome::Blocked };
    if output.json() {
        output.raw_json(&answer.json)?;
        return Ok(outcome);
    }
    status::write_ways(&report, output)?;
    output.line("")?;
    status::write_clients(&report.on_dbus, output)?;
    output.line("")?;
    if report.blockers.is_empty() {
        let text = output.paint().green("nothing keeps a rule from stage final");
        output.line(&text)?;
        return Ok(outcome);
    }
    let mut table = Table::new(&["RULE", ">UID", "CLIENT", "WHAT KEEPS IT FROM STAGE FINAL"]);
    for blocker in &report.blockers {
        let by = blocker.client.as_ref();
        table.row([&blocker.rule, &uid(by), &named(by), &blocker.problem]);
    }
    table.write(0, output)?;
    Ok(outcome)
}

/// The next safe step of each rule.
pub(super) async fn plan(
    client: &AgentClient,
    since: Option<SystemTime>,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let answer = client.report(since, options).await?;
    if output.json() {
        let mut report: Value = serde_json::from_str(&answer.json).unwrap_or_default();
        output.line(&json!({ "plan": report["plan"].take() }).to_string())?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&["RULE", "STAGE", "NEXT", "WHY"]);
    for step in &answer.message.plan {
        table.row([&step.rule, &stage(step.stage()), &next(step), &step.reason]);
    }
    table.write(0, output)?;
    Ok(Outcome::Done)
}

fn next(step: &Step) -> String {
    let next = step.next();
    if next == Stage::Canary {
        return format!("canary {}", share(step.next_share_per_10000));
    }
    if next == step.stage() { "(stays)".to_owned() } else { stage(next) }
}
