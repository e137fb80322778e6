//! `op-dbusctl approvals`: the calls that wait for somebody's approval, and what is decided on them.

use serde_json::json;

use super::Outcome;
use super::args::{Approvals, ApprovalsCommand, ListApprovals};
use super::describe::plain;
use super::output::{Output, clean};
use super::problem::Problem;
use super::rows::{self, Pages};
use super::table::Table;
use super::times::{age, moment};
use crate::client::{AgentClient, CallOptions};
use crate::proto::opdbus::v1::{Approval, ApprovalState};

/// How much of a preview the table shows, in characters.
const SHOWN: usize = 60;

pub(super) async fn run(
    client: &AgentClient,
    approvals: &Approvals,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    match &approvals.command {
        None => list(client, &approvals.list, options, output).await,
        Some(ApprovalsCommand::List(wanted)) => list(client, wanted, options, output).await,
        Some(ApprovalsCommand::Show { id }) => show(client, id, options, output).await,
        Some(ApprovalsCommand::Approve { ids }) => decide(client, ids, None, options, output).await,
        Some(ApprovalsCommand::Reject { ids, reason }) => {
            decide(client, ids, Some(reason.as_str()), options, output).await
        }
    }
}

async fn list(
    client: &AgentClient,
    wanted: &ListApprovals,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let mut pages = Pages::of(wanted.rows, 200);
    let mut approvals = Vec::new();
    while let Some(page) = pages.next() {
        let answer = client.list_approvals(page, options).await?;
        let message = answer.message;
        pages.add(&answer.json, "approvals", message.approvals.len(), message.next_page_token);
        approvals.extend(message.approvals);
    }
    if output.json() {
        output.line(&json!({ "approvals": pages.into_rows() }).to_string())?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&["ID", "STATE", ">UID", "OPERATION", ">ASKED", "PREVIEW"]);
    for approval in &approvals {
        table.row([
            &approval.id,
            &state(approval),
            &approval.requested_by_uid.to_string(),
            &operation(approval),
            &age(approval.requested_at),
            &short(&approval.preview),
        ]);
    }
    rows::write(&table, approvals.len(), ("nothing waits for approval", pages.has_more()), output)
}

async fn show(
    client: &AgentClient,
    id: &str,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let answer = client.approval(id, options).await?;
    if output.json() {
        output.raw_json(&answer.json)?;
    } else {
        write(&answer.message.approval.unwrap_or_default(), output)?;
    }
    Ok(Outcome::Done)
}

fn write(approval: &Approval, output: &mut Output) -> Result<(), Problem> {
    let paint = output.paint();
    output.line(&paint.bold(&clean(&operation(approval))))?;
    output.fact("id", &approval.id)?;
    output.fact("state", &state(approval))?;
    output.fact("asked by uid", &approval.requested_by_uid.to_string())?;
    if let Some(uid) = approval.decided_by_uid {
        output.fact("decided by uid", &uid.to_string())?;
    }
    if !approval.reason.is_empty() {
        output.fact("because", &approval.reason)?;
    }
    for (name, time) in [("asked", approval.requested_at), ("expires", approval.expires_at)] {
        if let Some(time) = time {
            output.fact(name, &moment(time))?;
        }
    }
    output.fact("SHA-256", &approval.request_sha256)?;
    output.line("")?;
    for line in approval.preview.lines() {
        output.line(&clean(line))?;
    }
    if approval.preview_truncated {
        output.line(&paint.yellow("the preview goes on; only its beginning is kept"))?;
    }
    output.line("")?;
    let id = clean(&approval.id);
    let hint = match approval.state() {
        ApprovalState::Pending => format!("op-dbusctl approvals approve {id} lets it through"),
        ApprovalState::Approved => {
            format!("op-dbusctl call --approval-id {id} …, by its caller, makes the call")
        }
        ApprovalState::Unspecified
        | ApprovalState::Rejected
        | ApprovalState::Used
        | ApprovalState::Expired => return Ok(()),
    };
    output.line(&paint.dim(&hint))?;
    Ok(())
}

/// Approves, or rejects for a reason.
async fn decide(
    client: &AgentClient,
    ids: &[String],
    rejected: Option<&str>,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let mut outcome = Outcome::Done;
    for id in ids {
        let answer = match rejected {
            None => client.approve(id, options).await.map(|answer| answer.json),
            Some(reason) => client.reject(id, reason, options).await.map(|answer| answer.json),
        };
        let done = if rejected.is_some() { "rejected" } else { "approved" };
        match answer {
            Ok(json) if output.json() => output.raw_json(&json)?,
            Ok(_) => output.line(&clean(&format!("{id} is {done}")))?,
            Err(error) => outcome = rows::failed(error, output)?,
        }
    }
    Ok(outcome)
}

fn operation(approval: &Approval) -> String {
    format!("{}.{}", approval.agent, approval.operation)
}

fn state(approval: &Approval) -> String {
    plain(approval.state().as_str_name(), "APPROVAL_STATE_")
}

fn short(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let mut short: String = line.chars().take(SHOWN).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
