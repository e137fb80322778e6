//! One task for an older agent: from its message to the reply and the signal. What the task may do is the
//! executor's to decide.

use std::sync::Arc;

use serde_json::Value;
use tokio::time::Instant;
use zbus::message::{Header, Message};

use super::super::call::{Reply, Shared};
use super::super::encode::{self, MAX_MESSAGE_BYTES};
use super::super::error::{Failure, Standard};
use super::super::options::Options;
use super::super::standard::arguments;
use super::{Older, OlderMethod};
use crate::call::Interface;
use crate::compat::dbusmcp::{self, Outcome, Refusal, Task};
use crate::error::{Error, ErrorKind};
use crate::metrics::Rejection;
use crate::wire::dbus::beside::{Beside as _, Given};

/// Runs a task. Beside the reply there is `TaskCompleted` for the client whose task it was.
///
/// # Errors
/// Why there is no result: the older agents' own errors.
pub(in crate::transport::dbus) async fn run(
    shared: &Arc<Shared>,
    message: &Message,
    older: &Older,
    method: OlderMethod,
    received: Instant,
) -> Result<Reply, Failure> {
    let call = message.header();
    shared.check_size(&call, &message.body()).await.map_err(failed)?;
    let mut task = read(older, method, message).inspect_err(|_| {
        shared.executor.reject(Rejection::InvalidRequest);
    })?;
    let (options, problem) = match options(&mut task.config) {
        Ok(options) => (options, None),
        Err(problem) => (Options::default(), Some(problem)),
    };
    let mut context = shared.context(&call, received, options).await.map_err(failed)?;
    context.interface = Interface::Legacy;
    let (executor, agent) = (&shared.executor, older.agent());
    let refused = |refusal| match refusal {
        Refusal::Operation(supported) => {
            executor.reject(Rejection::UnknownOperation);
            let operation = &task.operation;
            invalid(format!("Unsupported operation '{operation}'. Supported: {supported:?}"))
        }
        Refusal::Call(error) if error.kind() == ErrorKind::InvalidArgument => {
            invalid(format!("Invalid task JSON: config: {error}"))
        }
        Refusal::Call(error) => failed(error),
    };
    if let Some(problem) = problem {
        return Err(refused(dbusmcp::unread(executor, agent, &task, context, problem).await));
    }
    let outcome = dbusmcp::perform(executor, agent, &task, context).await.map_err(refused)?;
    ended(older, method, &call, &outcome)
}

fn read(older: &Older, method: OlderMethod, message: &Message) -> Result<Task, Failure> {
    let body = message.body();
    if method == OlderMethod::RunOperation {
        let (operation, path, args): (&str, &str, &str) = arguments(&body, "sss")?;
        return Ok(Task::of_texts(operation, path, args));
    }
    let (json,): (&str,) = arguments(&body, "s")?;
    Task::parse(older.agent(), json)
        .map_err(|problem| invalid(format!("Invalid task JSON: {problem}")))
}

/// Takes the options of the call out of what is configured for a task. Their names have hyphens, which no
/// argument has.
fn options(config: &mut serde_json::Map<String, Value>) -> Result<Options, Error> {
    let mut options = Options::default();
    for name in ["approval-id", "deadline-ms", "request-id", "session-id", "traceparent"] {
        let Some((option, value)) = options.position(name).zip(config.remove(name)) else {
            continue;
        };
        let given = match &value {
            Value::String(text) => Given::Text(text),
            Value::Number(number) => match number.as_i64() {
                Some(number) => Given::Integer(number.into()),
                None => return Err(Error::invalid(name, "must be a whole number")),
            },
            Value::Bool(value) => Given::Bool(*value),
            Value::Null | Value::Array(_) | Value::Object(_) => {
                return Err(Error::invalid(name, "must be a text or a number"));
            }
        };
        options.take(option, given).map_err(|problem| Error::invalid(name, problem))?;
    }
    Ok(options)
}

fn ended(
    older: &Older,
    method: OlderMethod,
    call: &Header<'_>,
    outcome: &Outcome,
) -> Result<Reply, Failure> {
    let is_first = method == OlderMethod::FirstExecute;
    let json = if is_first { &outcome.first_json } else { &outcome.json };
    if json.len() > MAX_MESSAGE_BYTES - RESERVED_BYTES {
        let error = encode::too_large(json.len());
        return Err(Failure::Standard(Standard::Failed, format!("Serialization failed: {error}")));
    }
    let message = encode::built(Message::method_return(call).build(json))?;
    let mut reply = Reply::from(message);
    // Without a destination it would be for everybody.
    if let Some(sender) = call.sender() {
        let signal = Message::signal(older.path(), older.interface_of(method), "TaskCompleted");
        let signal = signal.destination(sender.as_str());
        let signal = match is_first {
            true => signal.build(json),
            false => signal.build(&(outcome.id.as_str(), outcome.success, json.as_str())),
        };
        reply.signal = Some(encode::built(signal)?);
    }
    Ok(reply)
}

/// What a message holds beside the result, generously.
const RESERVED_BYTES: usize = 4096;

fn invalid(text: String) -> Failure {
    Failure::Standard(Standard::InvalidArgs, text)
}

/// A call that failed, as older clients know it. Where to go instead is told by an error of its own.
fn failed(error: Error) -> Failure {
    if error.kind() == ErrorKind::Migrated {
        return Failure::Error(error);
    }
    let text = format!("Execution failed: {}: {error}", error.kind().reason());
    Failure::Standard(Standard::Failed, text)
}
