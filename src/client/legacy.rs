//! Calls over the older interface on D-Bus, `org.dbusmcp.Agent`, for the operations that have an older
//! name: a request becomes a task in JSON and its result the response. It chooses nothing.

use futures_util::FutureExt as _;
use prost_reflect::MessageDescriptor;
use serde_json::{Map, Value};

use super::address::Target;
use super::call::{Call, CallOptions, Payload, Rpc, StreamCall};
use super::carrier::{Carrier, Pending};
use super::dbus::{BusConnection, Object, failed};
use super::error::{Error, Failure};
use super::json::{from_json, to_json};
use super::known;
use super::settings::Settings;
use super::stream::Messages;
use super::way::Way;
use crate::contract::{Operation, same_name};
use crate::error::ErrorKind;

/// The interface of every older agent.
const INTERFACE: &str = "org.dbusmcp.Agent";

/// The agents that have an older name, with that name and the operations that it knows by the words and
/// with the arguments of today.
const AGENTS: [(&str, &str, &[&str]); 3] = [
    ("context_manager", "ContextManager", &["Delete", "List", "Load", "Save"]),
    ("memory", "Memory", &["Forget", "List", "Recall", "Remember", "Search"]),
    ("sequential_thinking", "SequentialThinking", &["Conclude", "GetChain", "StartChain", "Think"]),
];

/// The older names on a bus and the connection to that, which is made when it is first needed.
#[derive(Debug)]
pub(super) struct Legacy {
    bus: BusConnection,
}

impl Legacy {
    pub(super) fn new(settings: &Settings) -> Self {
        Self { bus: BusConnection::new(settings) }
    }

    async fn answer(&self, call: Call) -> Result<Payload, Error> {
        let older = older_name(&call.rpc)?;
        let known = known::at(&call.rpc.path)?.ok_or_else(|| no_older_name(&call.rpc))?;
        let operation = known.operation;
        let arguments = match &call.request {
            Payload::Message(request) => to_json(&operation.input, request)?,
            Payload::Json(arguments) => arguments.clone(),
        };
        let task = task(operation, &arguments, &call.options)?;
        let name = format!("{INTERFACE}.{older}");
        let path = format!("/{}", name.replace('.', "/"));
        let target = format!("{name} on {}", self.bus.bus());
        let connection = self.bus.connection(&target).await?;
        let object = Object { name: &name, path: &path, interface: INTERFACE };
        let reply = connection.call(object, "Execute", &task).await;
        let reply = reply.map_err(|error| with_reason(failed(&error, &target)))?;
        let result: String = reply.body().deserialize().map_err(|error| unreadable(&error))?;
        let response = response(&result)?;
        Ok(match call.request {
            Payload::Message(_) => Payload::Message(message(&operation.output, &response)?.into()),
            Payload::Json(_) => Payload::Json(response),
        })
    }
}

/// The older name of the agent of an operation.
fn older_name(rpc: &Rpc) -> Result<&'static str, Failure> {
    let found = AGENTS.into_iter().find(|(agent, _, _)| *agent == rpc.agent);
    let known = found
        .filter(|(_, _, operations)| operations.iter().any(|name| same_name(name, &rpc.operation)));
    known.map(|(_, name, _)| name).ok_or_else(|| no_older_name(rpc))
}

fn no_older_name(rpc: &Rpc) -> Failure {
    let problem = format!(
        "{rpc} has no older name on D-Bus; OP_DBUS_VIA=dbus takes the interfaces of today, \
         OP_DBUS_VIA=grpc takes gRPC"
    );
    Failure::new(ErrorKind::UnknownOperation, problem)
}

/// The task that the older agent is given.
fn task(operation: &Operation, arguments: &str, options: &CallOptions) -> Result<String, Failure> {
    let mut config: Map<String, Value> = match arguments.trim() {
        "" => Map::new(),
        text => serde_json::from_str(text).map_err(|error| {
            let problem = format!("arguments: {error}");
            Failure::new(ErrorKind::InvalidArgument, problem)
        })?,
    };
    if let Some(timeout) = options.timeout {
        let milliseconds = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1);
        config.insert("deadline-ms".to_owned(), milliseconds.into());
    }
    let texts = [
        ("request-id", &options.request_id),
        ("session-id", &options.session),
        ("approval-id", &options.approval_id),
        ("traceparent", &options.traceparent),
    ];
    for (name, value) in texts {
        if let Some(value) = value {
            config.insert(name.to_owned(), value.clone().into());
        }
    }
    let name = snake(&operation.name);
    // JSON has escapes for what a text on D-Bus cannot hold.
    Ok(serde_json::json!({ "type": operation.agent, "operation": name, "config": config })
        .to_string())
}

/// The older form of an operation's name: `GetChain` is `get_chain`.
fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len() + 2);
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !snake.is_empty() {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

/// The response in a task's result, as JSON.
fn response(result: &str) -> Result<String, Failure> {
    let result: Value = serde_json::from_str(result).map_err(|error| unreadable(&error))?;
    let metadata = &result["metadata"];
    if result["success"] == true {
        let response = &metadata["response"];
        return match response.is_null() {
            true => Err(unreadable(&"its metadata hold no response")),
            false => Ok(response.to_string()),
        };
    }
    let message = result["data"].as_str().unwrap_or_default();
    let reason = metadata["reason"].as_str().unwrap_or_default();
    let kind = ErrorKind::ALL.into_iter().find(|kind| kind.reason() == reason);
    let message =
        message.strip_prefix(reason).and_then(|rest| rest.strip_prefix(": ")).unwrap_or(message);
    let mut failure = Failure::new(kind.unwrap_or(ErrorKind::Internal), message);
    for (name, value) in metadata["facts"].as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        failure.facts.insert(name.clone(), value);
    }
    let delay = metadata["retry_after_ms"].as_str().and_then(|delay| delay.parse().ok());
    failure.retry_after = delay.map(std::time::Duration::from_millis);
    Err(failure)
}

/// A response in JSON as the message that it is.
fn message(descriptor: &MessageDescriptor, json: &str) -> Result<Vec<u8>, Failure> {
    from_json(descriptor, json).map_err(|problem| unreadable(&problem))
}

/// The error of a call that the older interface refused, with the reason that its text gives.
fn with_reason(error: Error) -> Error {
    let Error::Failed(mut failure) = error else { return error };
    if let Some(text) = failure.message.strip_prefix("Execution failed: ")
        && let Some((reason, text)) = text.split_once(": ")
        && let Some(kind) = ErrorKind::ALL.into_iter().find(|kind| kind.reason() == reason)
    {
        failure = Failure { message: text.to_owned(), kind, ..failure };
    } else if failure.message.starts_with("Unsupported operation ") {
        failure.kind = ErrorKind::UnknownOperation;
    }
    failure.into()
}

fn unreadable(problem: &dyn std::fmt::Display) -> Failure {
    Failure::internal(format!("the service's answer cannot be read: {problem}"))
}

impl Carrier for Legacy {
    fn way(&self) -> Way {
        Way::Legacy
    }

    fn target(&self) -> String {
        Target::Legacy { bus: self.bus.bus().clone() }.to_string()
    }

    fn ready(&self) -> Pending<'_, ()> {
        async { self.bus.connection(&self.target()).await.map(drop) }.boxed()
    }

    fn call(&self, call: Call) -> Pending<'_, Payload> {
        self.answer(call).boxed()
    }

    fn stream(&self, call: StreamCall) -> Pending<'_, Messages> {
        async move {
            let problem = format!(
                "{} is a stream, which the older interface on D-Bus does not have; OP_DBUS_VIA=grpc \
                 takes gRPC",
                call.rpc
            );
            Err(Failure::new(ErrorKind::UnknownOperation, problem).into())
        }
        .boxed()
    }
}
