//! `op-dbusctl migration simulate`: what other rules would do to the calls of the last day.

use std::fs;
use std::io::Read as _;
use std::path::Path;

use super::{named, stage, uid};
use crate::client::{AgentClient, CallOptions};
use crate::ctl::Outcome;
use crate::ctl::output::Output;
use crate::ctl::problem::Problem;
use crate::ctl::table::Table;

/// The most that is read: more than the service takes, so that it is the one to refuse it.
const MAX_BYTES: u64 = 1024 * 1024;

pub(super) async fn run(
    client: &AgentClient,
    file: &Path,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let rules = read(file).map_err(|error| {
        Problem::usage(format!("{} cannot be read: {error}", file.display()), "")
    })?;
    let answer = client.simulate(&rules, options).await?;
    if output.json() {
        output.raw_json(&answer.json)?;
        return Ok(Outcome::Done);
    }
    let response = answer.message;
    let mut table =
        Table::new(&["CLIENT", ">UID", "OPERATION", ">CALLS", ">MOVED", "STAGE NOW", "STAGE THEN"]);
    for change in &response.changes {
        table.row([
            &named(change.client.as_ref()),
            &uid(change.client.as_ref()),
            &change.operation,
            &change.calls.to_string(),
            &change.moved.to_string(),
            &stage(change.stage_before()),
            &stage(change.stage_after()),
        ]);
    }
    if response.changes.is_empty() {
        output.line("nothing would change for the calls of the last day")?;
    } else {
        table.write(0, output)?;
    }
    let (grpc, dbus) = (response.grpc_calls, response.dbus_calls);
    output.line(&format!("{grpc} of {} calls would take gRPC", grpc + dbus))?;
    Ok(Outcome::Done)
}

fn read(file: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    if file == Path::new("-") {
        std::io::stdin().take(MAX_BYTES).read_to_string(&mut text)?;
    } else {
        fs::File::open(file)?.take(MAX_BYTES).read_to_string(&mut text)?;
    }
    Ok(text)
}
