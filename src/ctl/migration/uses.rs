//! `op-dbusctl migration uses`: the ledger, the last seen first.

use std::time::Duration;

use serde_json::json;

use super::{named, stage, uid, way};
use crate::client::{AgentClient, CallOptions, UseFilter};
use crate::ctl::Outcome;
use crate::ctl::args::WantedUses;
use crate::ctl::output::Output;
use crate::ctl::ping;
use crate::ctl::problem::Problem;
use crate::ctl::rows::{self, Pages};
use crate::ctl::table::Table;
use crate::ctl::times::age;

pub(super) async fn run(
    client: &AgentClient,
    wanted: &WantedUses,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let filter = UseFilter {
        way: wanted.way.map(Into::into),
        agent: wanted.agent.clone(),
        client: wanted.client.clone(),
        since: wanted.since,
    };
    let mut pages = Pages::new(wanted.rows);
    let mut uses = Vec::new();
    while let Some(page) = pages.next() {
        let answer = client.list_uses(&filter, page, options).await?;
        let message = answer.message;
        pages.add(&answer.json, "uses", message.uses.len(), message.next_page_token);
        uses.extend(message.uses);
    }
    if output.json() {
        output.line(&json!({ "uses": pages.into_rows() }).to_string())?;
        return Ok(Outcome::Done);
    }
    let mut table = Table::new(&[
        "OPERATION",
        "WAY",
        "STAGE",
        ">CALLS",
        ">ERRORS",
        ">LOST",
        ">P50",
        ">P99",
        ">FIRST",
        ">LAST",
        ">UID",
        "CLIENT",
    ]);
    for one in &uses {
        table.row([
            &one.operation,
            &way(one.way()),
            &stage(one.stage()),
            &one.calls.to_string(),
            &one.errors.to_string(),
            &one.lost.to_string(),
            &time(one.p50),
            &time(one.p99),
            &age(one.first_seen),
            &age(one.last_seen),
            &uid(one.client.as_ref()),
            &named(one.client.as_ref()),
        ]);
    }
    rows::write(&table, uses.len(), ("nothing was called", pages.has_more()), output)
}

fn time(time: Option<prost_types::Duration>) -> String {
    let time = time.and_then(|time| Duration::try_from(time).ok());
    time.map_or_else(String::new, ping::shown)
}
