//! `op-dbusctl status`: how the service is doing. Problems are said and give another exit code;
//! warnings are only said.

use super::Outcome;
use super::output::{Output, clean};
use super::problem::Problem;
use super::table::Table;
use super::times::span;
use crate::client::{AgentClient, CallOptions};
use crate::proto::opdbus::v1::GetStatusResponse;

pub(super) async fn run(
    client: &AgentClient,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let answer = client.status(options).await?;
    let problems = problems(&answer.message);
    if output.json() {
        output.raw_json(&answer.json)?;
    } else {
        write(&answer.message, &problems, output)?;
    }
    Ok(if problems.is_empty() { Outcome::Done } else { Outcome::Degraded })
}

/// What keeps the service from being healthy.
fn problems(status: &GetStatusResponse) -> Vec<String> {
    let mut problems = Vec::new();
    if status.state != "running" {
        problems.push(format!("the service is {}", status.state));
    }
    for transport in &status.transports {
        let name = &transport.name;
        if !transport.problem.is_empty() {
            problems.push(format!("{name}: {}", transport.problem));
        } else if !transport.serving {
            problems.push(format!("{name}: clients cannot reach it"));
        }
    }
    if !status.config_error.is_empty() {
        problems.push(format!(
            "the last reload was refused and the old configuration stays: {}",
            status.config_error
        ));
    }
    problems
}

fn write(
    status: &GetStatusResponse,
    problems: &[String],
    output: &mut Output,
) -> Result<(), Problem> {
    let paint = output.paint();
    let uptime = status.uptime.map_or(0, |uptime| uptime.seconds);
    let health = if problems.is_empty() { paint.green("healthy") } else { paint.red("degraded") };
    output.line(&format!(
        "op-dbus {} is {} and {health} (pid {}, for {})",
        clean(&status.version),
        clean(&status.state),
        status.pid,
        span(uptime)
    ))?;
    output.line("")?;
    let mut table = Table::new(&["TRANSPORT", "SERVING", ">RECONNECTS", "ADDRESSES"]);
    for transport in &status.transports {
        table.row([
            &transport.name,
            if transport.serving { "yes" } else { "no" },
            &transport.reconnects.to_string(),
            &transport.addresses.join(", "),
        ]);
    }
    table.write(0, output)?;
    output.line("")?;
    output.line(&format!(
        "calls: {} in flight, {} queued",
        status.calls_in_flight, status.calls_queued
    ))?;
    // Empty from a service of another release.
    if !status.workers.is_empty() {
        output.line(&format!(
            "workers: {}; running: {}, going on in them between calls: {}",
            clean(&status.workers),
            status.workers_running,
            status.workers_going_on
        ))?;
    }
    let files = match status.config_files.as_slice() {
        [] => "built-in defaults".to_owned(),
        files => clean(&files.join(", ")),
    };
    output.line(&format!("configuration: {files}; reloaded {} times", status.config_reloads))?;
    for problem in problems {
        output.line(&format!("{} {}", paint.red("problem:"), clean(problem)))?;
    }
    for warning in &status.warnings {
        output.line(&format!("{} {}", paint.yellow("warning:"), clean(warning)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Transport;
    use crate::status::Status;

    #[test]
    fn what_is_wrong_makes_it_degraded_and_a_warning_does_not() {
        let status = Status::default();
        status.serving(Transport::Grpc, vec!["unix:/run/op-dbus/grpc.sock".into()]);
        status.warn("agent x is in the configuration but not in this build");
        assert_eq!(problems(&status.report()), Vec::<String>::new());
        status.not_serving(Transport::Dbus, "the bus is away");
        status.config_refused("line 3");
        status.draining();
        let problems = problems(&status.report());
        assert_eq!(problems.len(), 3, "{problems:?}");
        assert_eq!(problems[0], "the service is draining");
        assert_eq!(problems[1], "dbus: the bus is away");
        assert!(problems[2].ends_with("line 3"));
    }
}
