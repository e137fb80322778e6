//! `op-dbusctl migration`: how far the move from D-Bus to gRPC is, who has not moved, and what comes
//! next. What is safe is said by the service.

mod differences;
mod report;
mod status;
mod uses;

use super::Outcome;
use super::args::{Migration, MigrationCommand};
use super::describe::plain;
use super::output::Output;
use super::problem::Problem;
use crate::client::{AgentClient, CallOptions};
use crate::proto::opdbus::v1::{ClientIdentity, Stage, Way};

pub(super) async fn run(
    client: &AgentClient,
    migration: &Migration,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    match &migration.command {
        MigrationCommand::Status { period } => {
            status::run(client, period.since, options, output).await
        }
        MigrationCommand::Uses(wanted) => uses::run(client, wanted, options, output).await,
        MigrationCommand::Report { period } => {
            report::run(client, period.since, options, output).await
        }
        MigrationCommand::Plan { period } => {
            report::plan(client, period.since, options, output).await
        }
        MigrationCommand::Differences { operation } => {
            differences::run(client, operation.as_deref(), options, output).await
        }
    }
}

/// A client in a few words.
fn named(client: Option<&ClientIdentity>) -> String {
    let Some(client) = client else { return String::new() };
    if client.others {
        return "(others)".to_owned();
    }
    let parts = [&client.name, &client.executable, &client.unit, &client.token];
    let known: Vec<&str> =
        parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
    match known.is_empty() {
        true => "(unknown)".to_owned(),
        false => known.join(" "),
    }
}

/// The user of a client.
fn uid(client: Option<&ClientIdentity>) -> String {
    match client {
        Some(client) if !client.unknown => client.uid.to_string(),
        Some(_) | None => String::new(),
    }
}

fn stage(stage: Stage) -> String {
    plain(stage.as_str_name(), "STAGE_")
}

fn way(way: Way) -> String {
    plain(way.as_str_name(), "WAY_")
}

/// A share of 10,000 in per cent.
fn share(per_10000: u32) -> String {
    let text = format!("{}.{:02}", per_10000 / 100, per_10000 % 100);
    format!("{} %", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_and_clients_are_short() {
        for (share_of, text) in [(0, "0 %"), (500, "5 %"), (1250, "12.5 %"), (10_000, "100 %")] {
            assert_eq!(share(share_of), text);
        }
        let mut client = ClientIdentity { uid: 7, name: "chat".into(), ..Default::default() };
        client.unit = "chat.service".into();
        assert_eq!(
            (named(Some(&client)), uid(Some(&client))),
            ("chat chat.service".into(), "7".into())
        );
        client = ClientIdentity { unknown: true, others: true, ..Default::default() };
        assert_eq!((named(Some(&client)), uid(Some(&client))), ("(others)".into(), String::new()));
    }
}
