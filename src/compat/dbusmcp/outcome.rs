//! What came of a task, in the words of the older agents. How it came is not known here.

use serde_json::{Value, json};

use super::super::names::{Arguments, Word};
use super::{OlderAgent, commands};
use crate::error::{Error, ErrorKind};

/// What came of a task.
#[derive(Debug)]
pub struct Outcome {
    /// The task's id, by which `metadata` and the signal name it.
    pub id: String,
    /// False if what was asked for was not done.
    pub success: bool,
    /// The result as JSON: `success`, `operation`, `data`, `metadata`.
    pub json: String,
    /// The result as the first generation of the agent gives it.
    pub first_json: String,
}

/// What an operation gave.
pub(super) struct Done {
    pub(super) data: String,
    pub(super) response: Value,
}

/// Which operation it was, as its client and its agent call it.
pub(super) struct Asked<'a> {
    pub(super) agent: &'a OlderAgent,
    pub(super) word: &'a Word,
    /// As the client wrote it.
    pub(super) operation: &'a str,
    /// What it is called here.
    pub(super) does: &'static str,
    pub(super) arguments: &'a Arguments,
}

impl Outcome {
    pub(super) fn new(id: String, asked: &Asked<'_>, outcome: Result<Done, Error>) -> Self {
        let is_program = asked.agent.agent == "commands";
        let mut metadata = json!({
            "task_id": id, "agent": asked.agent.agent, "agent_operation": asked.does
        });
        let (success, data, first) = match outcome {
            Ok(Done { data, response }) => {
                let first = is_program.then(|| commands::ended(&response));
                metadata["response"] = response;
                (first.as_ref().is_none_or(|first| first["success"] == true), data, first)
            }
            Err(error) => {
                let data = failure(asked, &error);
                metadata["reason"] = json!(error.kind().reason());
                metadata["facts"] = error
                    .facts()
                    .iter()
                    .map(|(name, value)| (name.to_string(), json!(value)))
                    .collect::<serde_json::Map<_, _>>()
                    .into();
                if let Some(delay) = error.retry_after() {
                    metadata["retry_after_ms"] = json!(delay.as_millis().to_string());
                }
                let first = is_program.then(|| commands::refused(&data));
                (false, data, first)
            }
        };
        let operation = asked.operation;
        let result = json!({
            "success": success, "operation": operation, "data": data, "metadata": metadata
        });
        let json = result.to_string();
        let first_json = first.map_or_else(|| json.clone(), |first| first.to_string());
        Self { id, success, json, first_json }
    }
}

/// The text for an operation that was done.
pub(super) fn data(asked: &Asked<'_>, response: &Value) -> String {
    let given = |name: &str| given(asked.arguments, name);
    match (asked.agent.agent, asked.does) {
        ("commands", "exec") => {
            let [out, err] = ["stdout", "stderr"].map(|name| text(&response[name]["text"]));
            out + &err
        }
        ("context_manager", "load") => {
            format!("Context restored: {} = {}", given("name"), text(&response["content"]))
        }
        ("context_manager", "save") if asked.arguments.contains_key("content") => {
            format!("Context saved: {} = {}", given("name"), given("content"))
        }
        ("memory", "forget") if asked.word.name != "clear" => {
            format!("Forgotten: {}", given("key"))
        }
        ("memory", "recall") => {
            format!("Recalled (exact): {} = {}", given("key"), text(&response["value"]))
        }
        ("memory", "remember") => format!("Remembered: {}", given("key")),
        _ => response.to_string(),
    }
}

/// The text for an operation that failed: the older agents' own where they had one, else the reason for
/// programs and the words for people.
fn failure(asked: &Asked<'_>, error: &Error) -> String {
    let arguments = asked.arguments;
    let given = |name: &str| given(arguments, name);
    let is_about = |argument: &str| {
        error.kind() == ErrorKind::InvalidArgument
            && error.fact("field") == Some(argument)
            && !arguments.contains_key(argument)
    };
    match (asked.agent.agent, asked.does) {
        ("context_manager" | "memory", _) if is_about(asked.word.path) => "Key required".to_owned(),
        ("context_manager" | "memory", _) if is_about(asked.word.args) => {
            "Value required".to_owned()
        }
        ("context_manager", "load") if error.kind() == ErrorKind::NotFound => {
            format!("Context key not found: {}", given("name"))
        }
        ("memory", "recall") if error.kind() == ErrorKind::NotFound => {
            format!("Nothing found for '{}'", given("key"))
        }
        _ => format!("{}: {error}", error.kind().reason()),
    }
}

/// An argument as the older agents show it; empty if there is none.
fn given(arguments: &Arguments, name: &str) -> String {
    arguments.get(name).map(text).unwrap_or_default()
}

/// A value as the older agents show it: a text as it is.
pub(super) fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
