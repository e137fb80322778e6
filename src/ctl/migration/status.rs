//! `op-dbusctl migration status`: the rules, the share of each way, and the clients still on D-Bus.

use std::collections::BTreeMap;
use std::time::SystemTime;

use prost_types::Timestamp;
use serde_json::{Value, json};

use super::{named, share, stage, uid};
use crate::client::{AgentClient, CallOptions};
use crate::ctl::Outcome;
use crate::ctl::output::Output;
use crate::ctl::problem::Problem;
use crate::ctl::table::Table;
use crate::ctl::times::age;
use crate::proto::opdbus::v1::{GetReportResponse, RuleState, Stage, Use};

pub(super) async fn run(
    client: &AgentClient,
    since: Option<SystemTime>,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let stages = client.list_stages(options).await?;
    let report = client.report(since, options).await?;
    if output.json() {
        let read = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let (rules, mut report) = (read(&stages.json), read(&report.json));
        let mut status = json!({ "rules": rules.get("rules").cloned().unwrap_or_default() });
        for name in ["dbus_calls", "legacy_calls", "grpc_calls", "on_dbus"] {
            status[name] = report[name].take();
        }
        output.line(&status.to_string())?;
        return Ok(Outcome::Done);
    }
    write_rules(&stages.message.rules, output)?;
    output.line("")?;
    write_ways(&report.message, output)?;
    output.line("")?;
    write_clients(&report.message.on_dbus, output)?;
    let blockers = report.message.blockers.len();
    let text = match blockers {
        0 => output.paint().green("nothing keeps a rule from stage final"),
        _ => output.paint().dim("what keeps rules from stage final: op-dbusctl migration report"),
    };
    output.line(&text)?;
    Ok(Outcome::Done)
}

fn write_rules(rules: &[RuleState], output: &mut Output) -> Result<(), Problem> {
    let mut table =
        Table::new(&["RULE", "STAGE", ">SHARE", ">CHANGED", "BY", "HELD", "WHO", "WHAT"]);
    for rule in rules {
        let route = rule.route.clone().unwrap_or_default();
        let of = match route.stage() {
            Stage::Canary => share(route.share_per_10000),
            Stage::Unspecified | Stage::Dbus | Stage::Shadow | Stage::Grpc | Stage::Final => {
                String::new()
            }
        };
        table.row([
            &rule.name,
            &stage(route.stage()),
            &of,
            &age(route.changed),
            &route.changed_by,
            if rule.held { "yes" } else { "" },
            &rule.who,
            &rule.what,
        ]);
    }
    table.write(0, output)?;
    Ok(())
}

/// How many calls took each way, and which part of all that is.
pub(super) fn write_ways(report: &GetReportResponse, output: &mut Output) -> Result<(), Problem> {
    let ways = [
        ("D-Bus", report.dbus_calls),
        ("older D-Bus", report.legacy_calls),
        ("gRPC", report.grpc_calls),
    ];
    let all: u64 = ways.iter().map(|(_, calls)| calls).sum();
    for (name, calls) in ways {
        let part = calls.saturating_mul(10_000).checked_div(all).unwrap_or_default();
        let part = share(u32::try_from(part).unwrap_or_default());
        output.fact(name, &format!("{calls} calls ({part})"))?;
    }
    Ok(())
}

/// What one client still does over D-Bus.
#[derive(Default)]
struct Still {
    operations: usize,
    calls: u64,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
}

/// The clients still on D-Bus, each with all that it does there.
pub(super) fn write_clients(uses: &[Use], output: &mut Output) -> Result<(), Problem> {
    let mut clients: BTreeMap<(String, String), Still> = BTreeMap::new();
    for one in uses {
        let key = (named(one.client.as_ref()), uid(one.client.as_ref()));
        let still = clients.entry(key).or_default();
        still.operations += 1;
        still.calls += one.calls;
        let seconds = |time: &Timestamp| time.seconds;
        still.first = still.first.into_iter().chain(one.first_seen).min_by_key(seconds);
        still.last = still.last.into_iter().chain(one.last_seen).max_by_key(seconds);
    }
    if clients.is_empty() {
        output.line("no client is on D-Bus")?;
        return Ok(());
    }
    let mut table =
        Table::new(&[">UID", ">OPERATIONS", ">CALLS", ">SINCE", ">LAST", "CLIENT ON D-BUS"]);
    for ((client, uid), still) in &clients {
        table.row([
            uid,
            &still.operations.to_string(),
            &still.calls.to_string(),
            &age(still.first),
            &age(still.last),
            client,
        ]);
    }
    table.write(0, output)?;
    Ok(())
}
