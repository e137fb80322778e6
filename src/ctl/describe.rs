//! `op-dbusctl describe`: an agent, or one operation with its arguments and calls to paste.

use serde_json::Value;

use super::Outcome;
use super::arguments::Schema;
use super::examples;
use super::output::{Output, clean};
use super::problem::Problem;
use super::table::{Table, wrap};
use crate::client::{AgentClient, CallOptions, Settings};
use crate::proto::opdbus::v1::{
    Activation, AgentState, AgentSummary, DescribeAgentResponse, Host, OperationDescription, Risk,
};

pub(super) async fn run(
    client: &AgentClient,
    (agent, operation): (&str, Option<&str>),
    settings: &Settings,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let answer = client.describe_agent(agent, operation, options).await?;
    if output.json() {
        output.raw_json(&answer.json)?;
        return Ok(Outcome::Done);
    }
    let summary = answer.message.agent.clone().unwrap_or_default();
    match (operation, answer.message.operations.as_slice()) {
        (Some(_), [operation]) => write_operation(&summary, operation, settings, output)?,
        _ => write_agent(&summary, &answer.message, output)?,
    }
    Ok(Outcome::Done)
}

fn write_agent(
    agent: &AgentSummary,
    description: &DescribeAgentResponse,
    output: &mut Output,
) -> Result<(), Problem> {
    output.line(&format!(
        "{} – {}",
        output.paint().bold(&clean(&agent.id)),
        clean(&agent.title)
    ))?;
    write_text(&description.documentation, output)?;
    output.line("")?;
    output.fact("starts", &activation(agent.activation()))?;
    let mut now = state(agent.state());
    if !agent.state_reason.is_empty() {
        now = format!("{now}: {}", agent.state_reason);
    }
    output.fact("state", &now)?;
    output.fact("runs in", &host(agent.host()))?;
    output.fact("gRPC", &agent.service)?;
    output.fact("D-Bus", &format!("{} on {}", agent.interface, agent.object_path))?;
    output.line("")?;
    let mut table = Table::new(&["OPERATION", "RISK", "D-BUS IN", "D-BUS OUT", "SUMMARY"]);
    for operation in &description.operations {
        table.row([
            &operation.name,
            &risk(operation.risk()),
            &operation.dbus_in,
            &operation.dbus_out,
            first_sentence(&operation.documentation),
        ]);
    }
    table.write(0, output)?;
    output.line("")?;
    let hint = format!("op-dbusctl describe {} OPERATION shows arguments and calls", agent.id);
    output.line(&output.paint().dim(&clean(&hint)))?;
    Ok(())
}

fn write_operation(
    agent: &AgentSummary,
    operation: &OperationDescription,
    settings: &Settings,
    output: &mut Output,
) -> Result<(), Problem> {
    let paint = output.paint();
    let name = clean(&format!("{}.{}", agent.id, operation.name));
    output.line(&paint.bold(&name))?;
    write_text(&operation.documentation, output)?;
    output.line("")?;
    output.fact("risk", &risk(operation.risk()))?;
    let repeat = if operation.idempotent { "has no further effect" } else { "may act again" };
    output.fact("calling again", repeat)?;
    match (operation.client_streaming, operation.server_streaming) {
        (false, false) => {}
        (true, false) => output.fact("stream", "of requests")?,
        (false, true) => output.fact("stream", "of responses")?,
        (true, true) => output.fact("stream", "of requests and of responses")?,
    }
    output.fact("gRPC", &operation.grpc_path)?;
    if !operation.dbus_in.is_empty() {
        let OperationDescription { name, dbus_in, dbus_out, .. } = operation;
        let AgentSummary { interface, object_path, .. } = agent;
        let method = format!("{interface}.{name}({dbus_in}) → ({dbus_out}) on {object_path}");
        output.fact("D-Bus", &method)?;
    }
    if !operation.backends.is_empty() {
        output.fact("needs", &operation.backends.join(", "))?;
    }
    if !operation.sandbox.is_empty() {
        output.fact("sandbox", &operation.sandbox)?;
    }
    let request = parsed(&operation.request_schema);
    let response = parsed(&operation.response_schema);
    let (request, response) = (Schema::new(&request), Schema::new(&response));
    write_fields("Arguments", &request, true, output)?;
    let arguments = request.definitions();
    for (name, message) in &arguments {
        write_fields(&format!("Each {name}"), message, true, output)?;
    }
    write_fields("Result", &response, false, output)?;
    for (name, message) in response.definitions() {
        if !arguments.iter().any(|(known, _)| *known == name) {
            write_fields(&format!("Each {name}"), &message, false, output)?;
        }
    }
    if !operation.examples.is_empty() {
        output.line("")?;
        output.line(&paint.bold("Asked for as"))?;
        for example in &operation.examples {
            output.line(&format!("  {}", clean(example)))?;
        }
    }
    output.line("")?;
    output.line(&paint.bold("Calls"))?;
    for call in examples::calls(agent, operation, &request, settings) {
        output.line(&format!("  {}", clean(&call)))?;
    }
    Ok(())
}

/// A schema as JSON; null, which has no fields, if it is none.
fn parsed(schema: &str) -> Value {
    serde_json::from_str(schema).unwrap_or_default()
}

fn write_fields(
    title: &str,
    schema: &Schema<'_>,
    request: bool,
    output: &mut Output,
) -> Result<(), Problem> {
    output.line("")?;
    output.line(&output.paint().bold(title))?;
    let mut fields = schema.fields();
    if fields.is_empty() {
        output.line("  none")?;
        return Ok(());
    }
    if !request {
        let mut table = Table::new(&["NAME", "TYPE", "MEANING"]);
        for field in &fields {
            table.row([field.name, &field.schema.type_name(), field.docs]);
        }
        table.write(2, output)?;
        return Ok(());
    }
    fields.sort_by_key(|field| !field.required);
    let mut table = Table::new(&["NAME", "TYPE", "REQUIRED", "WRITE", "MEANING"]);
    for field in &fields {
        table.row([
            field.name,
            &field.schema.type_name(),
            if field.required { "yes" } else { "" },
            &field.schema.kind().form(),
            field.docs,
        ]);
    }
    table.write(2, output)?;
    Ok(())
}

/// A text in paragraphs, wrapped to the terminal.
fn write_text(text: &str, output: &mut Output) -> Result<(), Problem> {
    for paragraph in clean(text).split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        output.line("")?;
        let lines = match output.width() {
            Some(width) => wrap(paragraph, Some(width.min(100))),
            None => paragraph.lines().map(str::to_owned).collect(),
        };
        for line in lines {
            output.line(&line)?;
        }
    }
    Ok(())
}

fn first_sentence(text: &str) -> &str {
    text.find(". ").or_else(|| text.find(".\n")).map_or(text, |end| &text[..=end])
}

/// When an agent starts, for people.
pub(super) fn activation(activation: Activation) -> String {
    plain(activation.as_str_name(), "ACTIVATION_")
}

/// What an agent does, for people.
pub(super) fn state(state: AgentState) -> String {
    plain(state.as_str_name(), "AGENT_STATE_")
}

/// Where an agent runs, for people.
pub(super) fn host(host: Host) -> String {
    plain(host.as_str_name(), "HOST_")
}

fn risk(risk: Risk) -> String {
    plain(risk.as_str_name(), "RISK_")
}

/// The name of a value of an enum, for people.
pub(super) fn plain(name: &str, prefix: &str) -> String {
    name.strip_prefix(prefix).unwrap_or(name).to_lowercase().replace('_', " ")
}
