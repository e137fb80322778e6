//! `op-dbusctl call`: any operation, with arguments typed by what it takes or with JSON. How its
//! messages travel is `follow.rs` and `stream.rs`.

use std::io::Read as _;

use serde_json::Value;

use super::Outcome;
use super::args::{Call, Global};
use super::arguments::{self, Schema};
use super::connect::describer;
use super::follow::{self, Interrupts};
use super::messages::Messages;
use super::notes::Notes;
use super::output::{Output, clean};
use super::problem::Problem;
use super::stream::{self, Input};
use crate::client::{AgentClient, CallOptions, NewTask, Way};
use crate::contract::Operation;
use crate::proto::opdbus::v1::{OnDisconnect, OperationDescription};

/// What a word of the command line stands for standard input.
const STDIN: &str = "-";

pub(super) async fn run(
    client: &AgentClient,
    call: &Call,
    global: &Global,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let options = global.call_options();
    let operation = described(&describer(global, client)?, call, &options).await?;
    let options = CallOptions {
        request_id: call.request_id.clone(),
        approval_id: call.approval_id.clone(),
        interactive: call.interactive,
        ..options
    };
    if !operation.client_streaming && !operation.server_streaming && !call.detach {
        let request = request(call, &operation)?;
        let mut messages = messages(call, &operation, output)?;
        let result = client.call_json(&call.agent, &call.operation, &request, &options).await?;
        messages.show(&result)?;
        return Ok(Outcome::Done);
    }
    if client.way() == Way::Legacy {
        let problem = match call.detach {
            true => "the older interface on D-Bus has no tasks".to_owned(),
            false => {
                let name = format!("{}.{}", call.agent, operation.name);
                format!("{name} is a stream, which the older interface on D-Bus does not have")
            }
        };
        return Err(Problem::usage(problem, "--via grpc takes another way"));
    }
    let known = stream::known(&operation.grpc_path)?;
    let is_task = known.as_ref().is_none_or(|known| known.is_agents);
    if operation.client_streaming || (operation.server_streaming && !is_task) {
        return exchange(client, call, (&operation, known.as_deref()), global, output).await;
    }
    let request = request(call, &operation)?;
    let task = NewTask {
        agent: &call.agent,
        operation: &call.operation,
        arguments: &request,
        runtime: global.timeout,
        on_disconnect: match call.detach {
            true => OnDisconnect::Unspecified,
            false => OnDisconnect::Cancel,
        },
    };
    if call.detach {
        return detach(client, &task, &options, output).await;
    }
    let mut messages = messages(call, &operation, output)?;
    let mut interrupts = Interrupts::new()?;
    let started = client.start_call(&task, &options).await?;
    let id = started.message.task.unwrap_or_default().id;
    follow::attend(client, &id, &mut messages, &mut interrupts, &options).await
}

/// What the service itself, which alone knows the agents of the moment, says of the operation.
async fn described(
    client: &AgentClient,
    call: &Call,
    options: &CallOptions,
) -> Result<OperationDescription, Problem> {
    let answer = client.describe_agent(&call.agent, Some(&call.operation), options).await?;
    answer.message.operations.into_iter().next().ok_or_else(|| {
        Problem::Local(format!("the service did not describe {}.{}", call.agent, call.operation))
    })
}

fn messages<'a>(
    call: &Call,
    operation: &OperationDescription,
    output: &'a mut Output,
) -> Result<Messages<'a>, Problem> {
    if call.raw { Messages::raw(operation, output) } else { Ok(Messages::json(output)) }
}

/// Starts a task and leaves it.
async fn detach(
    client: &AgentClient,
    task: &NewTask<'_>,
    options: &CallOptions,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let answer = client.start_call(task, options).await?;
    if output.json() {
        output.raw_json(&answer.json)?;
        return Ok(Outcome::Done);
    }
    let id = clean(&answer.message.task.unwrap_or_default().id);
    // Only the id stands on standard output, for `$(…)`.
    output.line(&id)?;
    Notes::new().say(&format!(
        "its messages: op-dbusctl tasks watch {id}\nto stop it:   op-dbusctl tasks cancel {id}"
    ));
    Ok(Outcome::Done)
}

/// Makes a call that is a stream on the wire.
async fn exchange(
    client: &AgentClient,
    call: &Call,
    (operation, known): (&OperationDescription, Option<&Operation>),
    global: &Global,
    output: &mut Output,
) -> Result<Outcome, Problem> {
    let name = format!("{}.{}", call.agent, operation.name);
    let what = match operation.client_streaming {
        true => "takes a stream of requests",
        false => "is a stream of op-dbus itself",
    };
    if call.detach {
        let hint = "without --detach it runs for as long as op-dbusctl does";
        return Err(Problem::usage(format!("{name} {what}, so that it needs its client"), hint));
    }
    if call.request_id.is_some() {
        let problem = format!("{name} {what}, which --request-id cannot repeat");
        return Err(Problem::usage(problem, "leave --request-id away"));
    }
    stream::require_grpc(client, &name, what)?;
    let Some(known) = known else {
        let problem = format!("{name} {what}, and this op-dbusctl does not know its messages");
        return Err(Problem::Local(format!("{problem}; use the op-dbusctl of the service")));
    };
    let input = match (operation.client_streaming, call.data.as_deref()) {
        (true, Some(STDIN)) => Input::Lines,
        (true, None) if call.arguments.is_empty() => {
            let hint = "--data - reads them from standard input, one JSON object on each line";
            return Err(Problem::usage(format!("{name} {what}, and there is none"), hint));
        }
        _ => Input::One(request(call, operation)?),
    };
    let mut messages = messages(call, operation, output)?;
    let mut interrupts = Interrupts::new()?;
    let interactive = call.interactive;
    let options = CallOptions { timeout: global.timeout, interactive, ..CallOptions::default() };
    stream::run(client, known, input, &mut messages, &mut interrupts, options).await
}

/// The request as JSON.
fn request(call: &Call, operation: &OperationDescription) -> Result<String, Problem> {
    if let Some(data) = &call.data {
        if data != STDIN {
            return Ok(data.clone());
        }
        let mut text = String::new();
        std::io::stdin().lock().read_to_string(&mut text)?;
        return Ok(text);
    }
    if let [json] = call.arguments.as_slice()
        && json.trim_start().starts_with('{')
    {
        return Ok(json.clone());
    }
    let schema: Value = serde_json::from_str(&operation.request_schema).map_err(|_| {
        Problem::Local(format!(
            "the service did not say what {}.{} takes; give the request with --data",
            call.agent, call.operation
        ))
    })?;
    Ok(arguments::build(&Schema::new(&schema), &call.arguments)?.to_string())
}
