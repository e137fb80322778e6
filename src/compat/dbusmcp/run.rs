//! Runs a task: the operation that it means, and what the older agent did besides. Every call passes the
//! executor like any other; the signals and the reply are not made here.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use uuid::Uuid;

use super::super::names::Arguments;
use super::outcome::{Asked, Done, data, text};
use super::{OlderAgent, Outcome, Task, commands};
use crate::call::Context;
use crate::error::{Error, ErrorKind};
use crate::executor::Executor;

/// How many keys or contexts are looked at whose contents are shown with them.
const MAX_SHOWN: usize = 100;

/// How many bytes of contents are shown in a list.
const MAX_SHOWN_BYTES: usize = 256 * 1024;

/// Why a task is not done and has no result.
#[derive(Debug)]
pub enum Refusal {
    /// The agent has no such operation; it has these.
    Operation(Vec<&'static str>),
    /// The call failed, not what it asked for.
    Call(Error),
}

/// Does a task for the caller of `context`.
///
/// # Errors
/// Why there is no result. A failed operation is one.
///
/// # Cancel safety
/// The operation is cancelled like any other call.
pub async fn perform(
    executor: &Arc<Executor>,
    agent: &OlderAgent,
    task: &Task,
    context: Context,
) -> Result<Outcome, Refusal> {
    let word = agent.word(&task.operation).ok_or_else(|| Refusal::Operation(agent.operations()))?;
    let mut calls = Calls { executor, agent: agent.agent, context };
    let mut arguments = Arguments::new();
    let given = task.arguments(word).and_then(|given| {
        arguments = given;
        if agent.agent == "commands" && calls.context.timeout.is_none() {
            calls.context.timeout = Some(Duration::from_secs(commands::time(&arguments)?));
        }
        Ok(())
    });
    let (does, translated) = (word.means)(&mut arguments);
    let asked = Asked { agent, word, operation: &task.operation, does, arguments: &arguments };
    let outcome = match given.and(translated) {
        Ok(()) => calls.run(&asked).await,
        Err(error) => Err(calls.unread(does, error).await),
    };
    match outcome {
        Err(error) if is_of_the_call(&error) => Err(Refusal::Call(error)),
        outcome => Ok(Outcome::new(Uuid::new_v4().to_string(), &asked, outcome)),
    }
}

/// Ends a task of which `error` says why what stands beside its arguments cannot be read. Gives what its
/// caller is told: that, or why the call is not let in.
///
/// # Cancel safety
/// It counts as a call that its client gave up.
pub async fn unread(
    executor: &Arc<Executor>,
    agent: &OlderAgent,
    task: &Task,
    context: Context,
    error: Error,
) -> Refusal {
    let Some(word) = agent.word(&task.operation) else {
        return Refusal::Operation(agent.operations());
    };
    let (does, _) = (word.means)(&mut task.config.clone());
    Refusal::Call(Calls { executor, agent: agent.agent, context }.unread(does, error).await)
}

/// True if the failure is of the call and not of what it asked for.
fn is_of_the_call(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Cancelled
            | ErrorKind::Migrated
            | ErrorKind::Unauthenticated
            | ErrorKind::Unavailable
            | ErrorKind::UnknownAgent
    )
}

/// The calls of one task.
struct Calls<'a> {
    executor: &'a Arc<Executor>,
    agent: &'static str,
    context: Context,
}

impl Calls<'_> {
    async fn run(&self, asked: &Asked<'_>) -> Result<Done, Error> {
        let arguments = asked.arguments;
        match (self.agent, asked.does) {
            ("context_manager", "delete") if !arguments.contains_key("name") => {
                match asked.word.name {
                    "clear" => self.clear_contexts().await,
                    _ => self.plain(asked).await,
                }
            }
            ("context_manager", "list") => self.list_contexts(arguments).await,
            ("context_manager", "load") => {
                let mut arguments = arguments.clone();
                arguments.insert("as_text".to_owned(), json!(true));
                self.plain(&Asked { arguments: &arguments, ..*asked }).await
            }
            ("context_manager", "save")
                if !["content", "items"].iter().any(|name| arguments.contains_key(*name)) =>
            {
                Err(self.unread(asked.does, Error::invalid("content", "is missing")).await)
            }
            ("memory", "recall") => match self.plain(asked).await {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    self.recall_matches(arguments, error).await
                }
                outcome => outcome,
            },
            _ => self.plain(asked).await,
        }
    }

    /// One call, whose response is the result.
    async fn plain(&self, asked: &Asked<'_>) -> Result<Done, Error> {
        let response = self.call(self.context.clone(), asked.does, asked.arguments).await?;
        Ok(Done { data: data(asked, &response), response })
    }

    async fn call(
        &self,
        context: Context,
        operation: &str,
        arguments: &Arguments,
    ) -> Result<Value, Error> {
        let arguments = Value::Object(arguments.clone()).to_string();
        let json = self.executor.call_json(self.agent, operation, &arguments, context).await?;
        serde_json::from_str(&json)
            .map_err(|error| Error::internal(format!("a response is no JSON: {error}")))
    }

    /// The end of a call of `operation` whose arguments cannot be read, as `error` says.
    async fn unread(&self, operation: &str, error: Error) -> Error {
        match self.executor.find(self.agent, operation) {
            Ok(route) => self.executor.unread(&route, self.context.clone(), error).await,
            Err(unknown) => unknown,
        }
    }

    /// A call beside the one that the client asked for: its request id is not for this one.
    async fn further(&self, operation: &str, arguments: Value) -> Result<Value, Error> {
        let Value::Object(arguments) = arguments else {
            return Err(Error::internal("the arguments of a call are no object"));
        };
        let context = Context { request_id: None, approval_id: None, ..self.context.clone() };
        self.call(context, operation, &arguments).await
    }

    /// What is remembered under keys that contain the text, as no key is the text.
    async fn recall_matches(&self, arguments: &Arguments, none: Error) -> Result<Done, Error> {
        let part = arguments.get("key").and_then(Value::as_str).unwrap_or_default();
        let mut list = json!({ "pattern": containing(part), "page_size": MAX_SHOWN });
        let mut recall = arguments.clone();
        for name in ["namespace", "scope"] {
            if let Some(value) = arguments.get(name) {
                list[name] = value.clone();
            }
        }
        let list = self.further("list", list).await?;
        let (mut data, mut found) = ("Recalled (matches):".to_owned(), Vec::new());
        let keys = list["keys"].as_array().map(Vec::as_slice).unwrap_or_default();
        let mut left_out = !text(&list["next_page_token"]).is_empty();
        for info in keys {
            recall.insert("key".to_owned(), info["key"].clone());
            match self.further("recall", recall.clone().into()).await {
                Ok(entry) => {
                    let line = format!("\n{} = {}", text(&info["key"]), text(&entry["value"]));
                    if data.len() + line.len() > MAX_SHOWN_BYTES {
                        left_out = true;
                        break;
                    }
                    data.push_str(&line);
                    found.push(json!({ "key": info["key"], "entry": entry }));
                }
                // It went meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if found.is_empty() && !left_out {
            return Err(none);
        }
        if left_out {
            data.push_str("\n(there are more)");
        }
        Ok(Done { data, response: json!({ "matches": found, "more": left_out }) })
    }

    /// The contexts with their contents, as far as these are small.
    async fn list_contexts(&self, arguments: &Arguments) -> Result<Done, Error> {
        let mut request = arguments.clone();
        request.entry("page_size").or_insert(json!(MAX_SHOWN));
        let response = self.call(self.context.clone(), "list", &request).await?;
        let contexts = response["contexts"].as_array().map(Vec::as_slice).unwrap_or_default();
        if contexts.is_empty() {
            return Ok(Done { data: "No context stored".to_owned(), response });
        }
        let mut data = "Stored context:".to_owned();
        for (index, info) in contexts.iter().enumerate() {
            let name = text(&info["name"]);
            let size: usize = text(&info["size_bytes"]).parse().unwrap_or(usize::MAX);
            if index >= MAX_SHOWN || size > MAX_SHOWN_BYTES.saturating_sub(data.len()) {
                data.push_str(&format!("\n  {name} ({size} bytes, which load gives)"));
                continue;
            }
            let mut load = json!({ "name": name, "as_text": true });
            if let Some(scope) = arguments.get("scope") {
                load["scope"] = scope.clone();
            }
            match self.further("load", load).await {
                Ok(loaded) => {
                    data.push_str(&format!("\n  {name} = {}", text(&loaded["content"])));
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if !text(&response["next_page_token"]).is_empty() {
            data.push_str("\n  (there are more)");
        }
        Ok(Done { data, response })
    }

    /// Deletes every context of the caller alone, one after the other.
    async fn clear_contexts(&self) -> Result<Done, Error> {
        let (mut deleted, mut page_token) = (0_u64, String::new());
        loop {
            let list = json!({ "page_size": 1000, "page_token": page_token });
            let page = self.further("list", list).await?;
            for info in page["contexts"].as_array().map(Vec::as_slice).unwrap_or_default() {
                match self.further("delete", json!({ "name": info["name"] })).await {
                    Ok(_) => deleted += 1,
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) if deleted == 0 => return Err(error),
                    Err(error) => {
                        return Err(error.with_fact("deleted_before", deleted.to_string()));
                    }
                }
            }
            page_token = text(&page["next_page_token"]);
            if page_token.is_empty() {
                let data = "Context cleared".to_owned();
                return Ok(Done { data, response: json!({ "deleted": deleted }) });
            }
        }
    }
}

/// The pattern of keys that contain `part`.
fn containing(part: &str) -> String {
    let mut pattern = String::from("*");
    for letter in part.chars() {
        match letter {
            '*' | '?' | '[' => pattern.extend(['[', letter, ']']),
            other => pattern.push(other),
        }
    }
    pattern.push('*');
    pattern
}
