//! `op-dbusctl migration`: how far the move from D-Bus to gRPC is, who has not moved, and what comes
//! next. What is safe is said by the service.

mod differences;
mod report;
mod routes;
mod simulate;
mod status;
mod step;
mod uses;

use super::Outcome;
use super::args::{Migration, MigrationCommand};
use super::describe::plain;
use super::output::Output;
use super::problem::Problem;
use crate::client::{AgentClient, CallOptions};
use crate::proto::opdbus::v1::{ClientIdentity, Route, Stage, StageChange, Way};

pub(super) async fn run(
    client: &AgentClient,
    migration: &Migration,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let moving =
        async |wanted, change, output| step::change(client, wanted, change, options, output).await;
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
        MigrationCommand::Advance(wanted) => moving(wanted, StageChange::Advance, output).await,
        MigrationCommand::Rollback(wanted) => moving(wanted, StageChange::Rollback, output).await,
        MigrationCommand::Hold(wanted) => moving(wanted, StageChange::Hold, output).await,
        MigrationCommand::Release(wanted) => moving(wanted, StageChange::Release, output).await,
        MigrationCommand::Set(wanted) => step::set(client, wanted, options, output).await,
        MigrationCommand::Simulate { file } => simulate::run(client, file, options, output).await,
        MigrationCommand::Routes { client: name } => {
            routes::run(client, name, options, output).await
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

/// The stage of a route, with the share at stage `canary`.
fn position(route: &Route) -> String {
    match route.stage() {
        Stage::Canary => format!("canary {}", share(route.share_per_10000)),
        other @ (Stage::Unspecified | Stage::Dbus | Stage::Shadow | Stage::Grpc | Stage::Final) => {
            stage(other)
        }
    }
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
