//! `op-dbusctl migration advance`, `rollback`, `hold`, `release` and `set`: a rule is moved.

use super::position;
use crate::client::{AgentClient, CallOptions};
use crate::ctl::Outcome;
use crate::ctl::args::{Move, Set};
use crate::ctl::output::{Output, clean};
use crate::ctl::problem::Problem;
use crate::proto::opdbus::v1::{SetStageRequest, Stage, StageChange};

/// Changes a rule by a change that has a name.
pub(super) async fn change(
    client: &AgentClient,
    wanted: &Move,
    change: StageChange,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let request = SetStageRequest { change: change.into(), ..request(wanted) };
    send(client, &request, options, output).await
}

/// Takes a rule to a stage.
pub(super) async fn set(
    client: &AgentClient,
    wanted: &Set,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    // The command line takes no others.
    let name = format!("STAGE_{}", wanted.stage.to_ascii_uppercase());
    let stage = Stage::from_str_name(&name).unwrap_or_default();
    let request = SetStageRequest {
        stage: stage.into(),
        share_per_10000: wanted.percent.unwrap_or_default(),
        ..request(&wanted.to_move)
    };
    send(client, &request, options, output).await
}

fn request(wanted: &Move) -> SetStageRequest {
    SetStageRequest {
        rule: wanted.rule.clone(),
        reason: wanted.reason.clone(),
        force: wanted.force,
        ..SetStageRequest::default()
    }
}

async fn send(
    client: &AgentClient,
    request: &SetStageRequest,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let answer = client.set_stage(request, options).await?;
    if output.json() {
        output.raw_json(&answer.json)?;
    } else {
        let rule = answer.message.rule.unwrap_or_default();
        let position = rule.route.as_ref().map(position).unwrap_or_default();
        let held = if rule.held { ", and held there" } else { "" };
        output.line(&clean(&format!("rule {} is at {position}{held}", rule.name)))?;
    }
    Ok(Outcome::Done)
}
