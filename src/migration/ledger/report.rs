//! How the move stands: who is still on D-Bus, and what keeps rules from the last stage. The next step of
//! each rule is not chosen here; what it is chosen by is given beside the report.

use std::sync::Arc;

use rusqlite::{Connection, params};

use super::row::{Seen, seen_since};
use super::schema::DAY;
use super::{Ledger, Rules, micros};
use crate::call::NAME_OF_COMPARISON;
use crate::error::Error;
use crate::proto::opdbus::v1::{Blocker, ClientIdentity, GetReportResponse, Stage, Use, Way};
use crate::storage::{Failure, time};

/// How far back the report looks unless it is said.
const PERIOD: i64 = 7 * DAY;

/// True for op-dbusctl where it compares both ways: it keeps nothing back. Whoever else says so hides
/// himself only.
fn compares(client: &ClientIdentity) -> bool {
    client.name == NAME_OF_COMPARISON
}

/// The most clients still on D-Bus, and the most blockers, that are told.
const TOLD: usize = 1000;

/// The report, and what the next steps are chosen by.
#[derive(Debug)]
pub struct Report {
    /// The report without the plan.
    pub response: GetReportResponse,
    /// What was found about each rule, by its position.
    pub found: Vec<Found>,
}

/// What was found about the calls of one rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Calls over D-Bus.
    pub dbus_calls: u64,
    /// Calls over the older interface.
    pub legacy_calls: u64,
    /// Calls over gRPC.
    pub grpc_calls: u64,
    /// Of these with an error.
    pub grpc_errors: u64,
    /// Calls over gRPC that got no answer, as clients told.
    pub lost: u64,
    /// Calls that were compared over both ways.
    pub compared: u64,
    /// Of these that differed.
    pub differed: u64,
    /// How much keeps it from the last stage.
    pub blockers: usize,
}

/// Something that is told up to a bound, the last seen first.
struct Told<T>(Vec<(i64, T)>);

impl<T> Told<T> {
    fn add(&mut self, seen: i64, it: T) {
        self.0.push((seen, it));
        if self.0.len() >= 2 * TOLD {
            self.cut();
        }
    }

    fn cut(&mut self) {
        self.0.sort_by_key(|(seen, _)| std::cmp::Reverse(*seen));
        self.0.truncate(TOLD);
    }
}

/// The report while it is made.
struct Making {
    rules: Arc<dyn Rules>,
    now: i64,
    response: GetReportResponse,
    found: Vec<Found>,
    on_dbus: Told<Use>,
    blockers: Told<(usize, Blocker)>,
}

impl Ledger {
    /// How the move stands by what was seen since `since`; `None`: for the last seven days.
    ///
    /// # Errors
    /// `InvalidArgument` naming `since`; the store's, and that of [`Ledger::flush`].
    ///
    /// # Cancel safety
    /// As [`Ledger::visit`].
    pub async fn report(
        &self,
        since: Option<prost_types::Timestamp>,
        rules: Arc<dyn Rules>,
    ) -> Result<Report, Error> {
        let now = time::now();
        let since = since.map_or(Ok(now - PERIOD), |time| micros("since", time))?;
        self.flush().await?;
        let query = move |database: &Connection| {
            let mut making = Making::new(rules, now);
            seen_since(database, since, |seen| making.seen(seen))?;
            compared_since(database, since, &mut making)?;
            Ok(making.end())
        };
        self.store.scan(query).await
    }
}

impl Making {
    fn new(rules: Arc<dyn Rules>, now: i64) -> Self {
        Self {
            found: vec![Found::default(); rules.count()],
            rules,
            now,
            response: GetReportResponse::default(),
            on_dbus: Told(Vec::new()),
            blockers: Told(Vec::new()),
        }
    }

    fn seen(&mut self, seen: Seen) {
        // What is op-dbus's own is served on both for good.
        if !seen.is_agents {
            return;
        }
        let rule = self.rules.holding(&seen.client, &seen.agent, &seen.operation);
        let Some(found) = self.found.get_mut(rule) else { return };
        match seen.way {
            Way::Grpc => {
                self.response.grpc_calls += seen.calls;
                found.grpc_calls += seen.calls;
                found.grpc_errors += seen.errors;
                found.lost += seen.lost;
                if seen.lost > 0 {
                    let text =
                        format!("{} calls of {} over gRPC got no answer", seen.lost, seen.name());
                    self.block(rule, &text, seen.last, seen.client, &seen.agent, &seen.operation);
                }
            }
            Way::Dbus | Way::Legacy | Way::Unspecified => {
                match seen.way {
                    Way::Legacy => {
                        self.response.legacy_calls += seen.calls;
                        found.legacy_calls += seen.calls;
                    }
                    Way::Dbus | Way::Unspecified | Way::Grpc => {
                        self.response.dbus_calls += seen.calls;
                        found.dbus_calls += seen.calls;
                    }
                }
                let over = if seen.way == Way::Legacy { "the older interface" } else { "D-Bus" };
                let text = format!("{} calls of {} over {over}", seen.calls, seen.name());
                let client = seen.client.clone();
                if !compares(&client) {
                    self.block(rule, &text, seen.last, client, &seen.agent, &seen.operation);
                }
                let stage = self.rules.stage(rule);
                self.on_dbus.add(seen.last, seen.into_use(stage));
            }
        }
    }

    /// Notes that something keeps a rule from its last stage, unless it is there.
    fn block(
        &mut self,
        rule: usize,
        what: &str,
        last: i64,
        client: ClientIdentity,
        agent: &str,
        operation: &str,
    ) {
        if self.rules.stage(rule) == Stage::Final {
            return;
        }
        self.found[rule].blockers += 1;
        let problem = format!("{what} by {}, last {}", who(&client), ago(self.now - last));
        let blocker = Blocker {
            rule: self.rules.name(rule).to_owned(),
            problem,
            client: Some(client),
            operation: format!("{agent}.{operation}"),
        };
        self.blockers.add(last, (rule, blocker));
    }

    fn end(mut self) -> Report {
        self.on_dbus.cut();
        self.blockers.cut();
        let mut blockers = self.blockers.0;
        // The order of the rules, and within that the last seen first.
        blockers.sort_by_key(|(_, (rule, _))| *rule);
        let told = blockers.len();
        let mut response = self.response;
        response.on_dbus = self.on_dbus.0.into_iter().map(|(_, it)| it).collect();
        response.blockers = blockers.into_iter().map(|(_, (_, blocker))| blocker).collect();
        let all: usize = self.found.iter().map(|found| found.blockers).sum();
        if all > told {
            let problem = format!("and {} more", all - told);
            response.blockers.push(Blocker { problem, ..Blocker::default() });
        }
        Report { response, found: self.found }
    }
}

/// Adds what clients compared since `since`.
fn compared_since(database: &Connection, since: i64, making: &mut Making) -> Result<(), Failure> {
    let mut statement = database.prepare_cached(
        "SELECT c.uid, c.others, c.executable, c.unit, c.token, c.name, o.agent, o.name,
             max(f.last_seen), sum(f.compared), sum(f.differed)
         FROM comparison AS f
         JOIN client AS c ON c.id = f.client
         JOIN operation AS o ON o.id = f.operation
         WHERE f.start >= ?1 GROUP BY f.client, f.operation",
    )?;
    let mut rows = statement.query(params![since - since.rem_euclid(DAY)])?;
    while let Some(row) = rows.next()? {
        let client = super::schema::client(row, 0)?;
        let (agent, operation): (String, String) = (row.get(6)?, row.get(7)?);
        let (last, compared, differed): (i64, u64, u64) = (row.get(8)?, row.get(9)?, row.get(10)?);
        let rule = making.rules.holding(&client, &agent, &operation);
        let Some(found) = making.found.get_mut(rule) else { continue };
        found.compared += compared;
        found.differed += differed;
        if differed > 0 {
            let text = format!("{differed} of {compared} answers of {agent}.{operation} differed");
            making.block(rule, &text, last, client, &agent, &operation);
        }
    }
    Ok(())
}

/// A client in a few words: the most telling that is known of it.
fn who(client: &ClientIdentity) -> String {
    let user = match client.unknown {
        true => "an unknown user".to_owned(),
        false => format!("uid {}", client.uid),
    };
    if client.others {
        return format!("other clients of {user}");
    }
    let named = [&client.name, &client.executable, &client.unit, &client.token];
    match named.into_iter().find(|text| !text.is_empty()) {
        Some(text) => format!("{text} ({user})"),
        None => user,
    }
}

/// How long ago something was, by its largest unit.
fn ago(micros: i64) -> String {
    let minutes = micros / 60_000_000;
    let (count, unit) = match minutes {
        ..1 => return "just now".to_owned(),
        1..60 => (minutes, "minute"),
        60..1440 => (minutes / 60, "hour"),
        _ => (minutes / 1440, "day"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}
