//! `op-dbusctl migration routes`: which way the calls of this user take.

use crate::client::{AgentClient, CallOptions};
use crate::ctl::Outcome;
use crate::ctl::output::Output;
use crate::ctl::problem::Problem;
use crate::ctl::table::Table;
use crate::ctl::times::age;
use crate::proto::opdbus::v1::Route;

pub(super) async fn run(
    client: &AgentClient,
    name: &str,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let answer = client.routes(name, options).await?;
    if output.json() {
        output.raw_json(&answer.json)?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&["OPERATIONS", "STAGE", "SINCE", "BY", "RULE"]);
    for route in &answer.message.routes {
        table.row([
            &what(route),
            &super::position(route),
            &age(route.changed),
            &route.changed_by,
            &route.rule,
        ]);
    }
    table.write(0, output)?;
    Ok(Outcome::Done)
}

fn what(route: &Route) -> String {
    match (route.operations.is_empty(), route.agents.is_empty()) {
        (false, _) => route.operations.join(", "),
        (true, false) => format!("all of {}", route.agents.join(", ")),
        (true, true) => "all others".to_owned(),
    }
}
