//! `op-dbusctl migration differences`: what was compared, and where both ways did not agree.

use crate::client::{AgentClient, CallOptions};
use crate::ctl::Outcome;
use crate::ctl::output::{Output, clean};
use crate::ctl::problem::Problem;
use crate::ctl::rows;
use crate::ctl::table::Table;
use crate::ctl::times::age;

pub(super) async fn run(
    client: &AgentClient,
    operation: Option<&str>,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let answer = client.list_differences(operation, options).await?;
    if output.json() {
        output.raw_json(&answer.json)?;
        return Ok(Outcome::Done);
    }
    let comparisons = answer.message.comparisons;
    let mut table = Table::new(&["OPERATION", ">COMPARED", ">DIFFERED"]);
    for found in &comparisons {
        let (compared, differed) = (found.compared.to_string(), found.differed.to_string());
        table.row([&found.operation, &compared, &differed]);
    }
    rows::write(&table, comparisons.len(), ("nothing was compared", false), output)?;
    for found in comparisons.iter().filter(|found| !found.samples.is_empty()) {
        output.line("")?;
        let title = output.paint().bold(&clean(&found.operation));
        output.line(&title)?;
        let mut table = Table::new(&[">AGO", "FIELD", "D-BUS", "GRPC"]);
        for sample in &found.samples {
            let field = if sample.field.is_empty() { "(all of it)" } else { &sample.field };
            table.row([&age(sample.seen), field, &sample.dbus, &sample.grpc]);
        }
        table.write(2, output)?;
    }
    Ok(Outcome::Done)
}
