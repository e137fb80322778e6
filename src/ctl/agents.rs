//! `op-dbusctl agents`: the list of agents, and why one of them does not run.

use super::output::{Output, clean};
use super::problem::Problem;
use super::table::Table;
use super::{Outcome, describe};
use crate::client::{AgentClient, CallOptions};

pub(super) async fn run(
    client: &AgentClient,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let answer = client.list_agents(options).await?;
    if output.json() {
        output.raw_json(&answer.json)?;
        return Ok(Outcome::Done);
    }
    let mut table =
        Table::new(&["ID", "TITLE", "STATE", "ACTIVATION", "HOST", ">OPERATIONS", "SUMMARY"]);
    for agent in &answer.message.agents {
        table.row([
            &agent.id,
            &agent.title,
            &describe::state(agent.state()),
            &describe::activation(agent.activation()),
            &describe::host(agent.host()),
            &agent.operations.len().to_string(),
            &agent.summary,
        ]);
    }
    table.write(0, output)?;
    for agent in answer.message.agents.iter().filter(|agent| !agent.state_reason.is_empty()) {
        let problem = output.paint().red("problem:");
        output.line(&format!("{problem} {}: {}", clean(&agent.id), clean(&agent.state_reason)))?;
    }
    Ok(Outcome::Done)
}
