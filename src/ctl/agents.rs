//! `op-dbusctl agents`: the list of agents.

use super::output::Output;
use super::problem::Problem;
use super::table::Table;
use super::{Outcome, describe};
use crate::client::{CallOptions, Client};

pub(super) async fn run(
    client: &Client,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let answer = client.list_agents(options).await?;
    if output.json() {
        output.raw_json(&answer.json)?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&["ID", "TITLE", "ACTIVATION", "HOST", ">OPERATIONS", "SUMMARY"]);
    for agent in &answer.message.agents {
        table.row([
            &agent.id,
            &agent.title,
            &describe::activation(agent.activation()),
            &describe::host(agent.host()),
            &agent.operations.len().to_string(),
            &agent.summary,
        ]);
    }
    table.write(0, output)?;
    Ok(Outcome::Done)
}
