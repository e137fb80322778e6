//! `op-dbusctl parity`: makes the calls that change nothing over D-Bus and over gRPC, and shows where the
//! answers differ. What a difference is, the client library says.

use bytes::Bytes;
use serde_json::{Value, json};

use super::Outcome;
use super::args::Global;
use super::connect;
use super::output::Output;
use super::problem::Problem;
use super::table::Table;
use crate::client::parity::{Parity, compare};
use crate::client::{AgentClient, CallOptions, Error, MANAGER, Via};
use crate::contract::{Contract, Idempotency, Operation, json_to_message};
use crate::error::ErrorKind;

/// Texts for requests that must name something: nothing has this name.
const NAME: &str = "op-dbusctl.parity";

pub(super) async fn run(
    agent: Option<&str>,
    global: &Global,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let dbus = connect::connect_by(global, Via::Dbus).await?;
    let grpc = connect::connect_by(global, Via::Grpc).await?;
    let contract = Contract::built_in().map_err(|error| Problem::usage(error.to_string(), ""))?;
    let served = served(&grpc, options).await?;
    let services = contract.services.iter().filter(|service| !service.gateway);
    let wanted = services.filter(|service| match agent {
        Some(agent) => service.id == agent,
        None => service.manager || served.iter().any(|id| *id == service.id),
    });
    let (mut rows, mut compared, mut differing) = (Vec::new(), 0_usize, 0_usize);
    for operation in wanted.flat_map(|service| &service.operations).filter(|it| is_read(it)) {
        for request in requests(operation) {
            let outcome = compare(&dbus, &grpc, operation, request, options).await;
            let row = Row::new(operation, outcome);
            compared += usize::from(row.parity.is_ok());
            differing += usize::from(row.differs());
            rows.push(row);
        }
    }
    if let Some(agent) = agent
        && rows.is_empty()
    {
        let text = format!("{agent} is no agent that this build knows and that can be read");
        return Err(Problem::usage(text, "op-dbusctl agents lists the agents"));
    }
    if output.json() {
        output.raw_json(&Value::Array(rows.iter().map(Row::json).collect()).to_string())?;
    } else {
        write(&rows, output)?;
        output.line("")?;
        let dim = output.paint();
        let summary = format!(
            "{compared} calls compared between {} and {}; {differing} differ",
            dbus.target(),
            grpc.target()
        );
        output.line(&dim.dim(&summary))?;
    }
    // Nothing that was compared with nothing is the same.
    Ok(if differing == 0 && compared > 0 { Outcome::Done } else { Outcome::Refused })
}

/// The ids of the agents that the service has.
async fn served(client: &AgentClient, options: &CallOptions) -> Result<Vec<String>, Problem> {
    let answer = client.list_agents(options).await?;
    Ok(answer.message.agents.into_iter().map(|agent| agent.id).collect())
}

/// Operations that answer at once and change nothing. CallJson is another way for all of them.
fn is_read(operation: &Operation) -> bool {
    let is_call_json = operation.agent == MANAGER && operation.name == "CallJson";
    operation.idempotency == Idempotency::NoSideEffects
        && !(operation.is_streaming() || operation.waits || is_call_json)
}

/// An empty request, and one in which every text is a name.
fn requests(operation: &Operation) -> Vec<Bytes> {
    let texts = operation.input.fields().filter(|field| {
        !field.is_list() && !field.is_map() && field.kind() == prost_reflect::Kind::String
    });
    let named: serde_json::Map<String, Value> =
        texts.map(|field| (field.name().to_owned(), json!(NAME))).collect();
    let mut requests = vec![Bytes::new()];
    if !named.is_empty()
        && let Ok(request) = json_to_message(&operation.input, &Value::Object(named).to_string())
    {
        requests.push(request.into());
    }
    requests
}

struct Row {
    operation: String,
    parity: Result<Parity, Error>,
}

impl Row {
    fn new(operation: &Operation, parity: Result<Parity, Error>) -> Self {
        Self { operation: format!("{}.{}", operation.agent, operation.name), parity }
    }

    fn differs(&self) -> bool {
        self.parity.as_ref().is_ok_and(|parity| !parity.differences.is_empty())
    }

    /// What was found, and about it.
    fn told(&self) -> (&'static str, String) {
        match &self.parity {
            Err(error) => ("not compared", error.to_string()),
            Ok(parity) if !parity.differences.is_empty() => {
                let places = parity.differences.iter().map(|place| {
                    format!("{}: {} over D-Bus, {} over gRPC", place.field, place.one, place.other)
                });
                ("differs", places.collect::<Vec<_>>().join("; "))
            }
            Ok(Parity { error: Some(kind), .. }) => ("same", format!("{} on both", kind.reason())),
            Ok(Parity { volatile: 0, .. }) => ("same", String::new()),
            Ok(Parity { volatile, .. }) => {
                ("same", format!("{volatile} places change from call to call"))
            }
        }
    }

    fn json(&self) -> Value {
        let (result, about) = self.told();
        let mut row = json!({"operation": self.operation, "result": result});
        match &self.parity {
            Err(_) => row["reason"] = json!(about),
            Ok(parity) => {
                row["error"] = json!(parity.error.map(ErrorKind::reason));
                row["volatile"] = json!(parity.volatile);
                let differences = parity.differences.iter().map(
                    |place| json!({"field": place.field, "dbus": place.one, "grpc": place.other}),
                );
                row["differences"] = differences.collect();
            }
        }
        row
    }
}

fn write(rows: &[Row], output: &mut Output) -> Result<(), Problem> {
    let mut table = Table::new(&["OPERATION", "RESULT", "ABOUT IT"]);
    for row in rows {
        let (result, about) = row.told();
        table.row([&row.operation, result, &about]);
    }
    table.write(0, output)?;
    Ok(())
}
