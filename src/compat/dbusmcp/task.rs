//! A task as older clients write it, in either generation's JSON. It runs nothing.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::names::{Arguments, Word};
use super::OlderAgent;
use crate::error::Error;

/// What a client wants done.
#[derive(Debug)]
pub struct Task {
    /// The operation, as the client calls it.
    pub operation: String,
    /// Further arguments by their names. The transport may take out what is meant for itself.
    pub config: Map<String, Value>,
    path: Option<String>,
    args: Option<String>,
}

/// The JSON of a task. As with the older agents, fields that it does not name are left aside.
#[derive(Deserialize)]
struct AgentTask {
    #[serde(rename = "type")]
    kind: String,
    operation: String,
    path: Option<String>,
    args: Option<String>,
    config: Option<Map<String, Value>>,
}

/// The JSON of a task of the first generation's Executor.
#[derive(Deserialize)]
struct Command {
    #[serde(rename = "type")]
    kind: String,
    command: String,
    args: Option<Vec<String>>,
    timeout: Option<u64>,
    working_dir: Option<String>,
}

impl Task {
    /// The task that `json` describes, sent to `agent`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(agent: &OlderAgent, json: &str) -> Result<Self, String> {
        let value: Value = serde_json::from_str(json).map_err(|error| error.to_string())?;
        if agent.agent == "commands" && value.get("command").is_some() {
            let task: Command = serde_json::from_value(value).map_err(|error| error.to_string())?;
            return Ok(task.into());
        }
        let task: AgentTask = serde_json::from_value(value).map_err(|error| error.to_string())?;
        // Any other type is what the client calls the task; nobody looked at it.
        if let Some(other) = OlderAgent::named(&task.kind)
            && other != agent
        {
            return Err(format!(
                "type: the task is for {}, and this is {}",
                other.kind, agent.kind
            ));
        }
        Ok(Self {
            operation: task.operation,
            config: task.config.unwrap_or_default(),
            path: task.path,
            args: task.args,
        })
    }

    /// The task whose parts stand apart; an empty text is none.
    #[must_use]
    pub fn of_texts(operation: &str, path: &str, args: &str) -> Self {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Self {
            operation: operation.to_owned(),
            config: Map::new(),
            path: text(path),
            args: text(args),
        }
    }

    /// The arguments of the operation that `word` is for, in the words of the client.
    ///
    /// # Errors
    /// `InvalidArgument` if one is given twice, or has no place.
    pub(super) fn arguments(&self, word: &Word) -> Result<Arguments, Error> {
        let mut arguments = self.config.clone();
        let (mut path, mut args) = (self.path.as_deref(), self.args.as_deref());
        // Where they are the same argument, the one that says nothing is none.
        if word.path == word.args {
            (path, args) = match (path, args) {
                (path, Some("")) if path.is_some() => (path, None),
                (Some(""), args) if args.is_some() => (None, args),
                both => both,
            };
        }
        for (name, argument, given) in [("path", word.path, path), ("args", word.args, args)] {
            let Some(text) = given else { continue };
            if argument.is_empty() {
                return Err(Error::invalid(name, format!("{} takes none", word.name)));
            }
            if arguments.insert(argument.to_owned(), json!(text)).is_some() {
                return Err(Error::invalid(name, format!("{argument} is given already")));
            }
        }
        Ok(arguments)
    }
}

impl From<Command> for Task {
    fn from(command: Command) -> Self {
        let mut config = Map::from_iter([("command".to_owned(), json!(command.command))]);
        let optional = [
            ("args", command.args.map(Value::from)),
            ("timeout", command.timeout.map(Value::from)),
            ("working_dir", command.working_dir.map(Value::from)),
        ];
        for (name, value) in optional {
            if let Some(value) = value {
                config.insert(name.to_owned(), value);
            }
        }
        Self { operation: command.kind, config, path: None, args: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory() -> &'static OlderAgent {
        OlderAgent::named("memory").unwrap()
    }

    #[test]
    fn a_task_for_another_agent_is_refused_and_a_label_is_not() {
        let task = |kind: &str| format!(r#"{{"type": "{kind}", "operation": "recall"}}"#);
        for kind in ["memory", "Memory", "note", ""] {
            assert!(Task::parse(memory(), &task(kind)).is_ok(), "{kind}");
        }
        for kind in ["context-manager", "ContextManager", "contextManager", "context_manager"] {
            let problem = Task::parse(memory(), &task(kind)).unwrap_err();
            assert!(problem.starts_with("type: "), "{problem}");
        }
        let unnamed = Task::parse(memory(), r#"{"operation": "recall"}"#).unwrap_err();
        assert!(unnamed.contains("missing field `type`"), "{unnamed}");
    }

    #[test]
    fn an_argument_is_not_given_twice() {
        let recall = memory().word("recall").unwrap();
        assert_eq!(Task::of_texts("recall", "", "a").arguments(recall).unwrap()["key"], "a");
        assert!(Task::of_texts("recall", "a", "b").arguments(recall).is_err());
        for (path, args) in [("a", ""), ("", "a")] {
            let task = json!({"type": "", "operation": "recall", "path": path, "args": args});
            let task = Task::parse(memory(), &task.to_string()).unwrap();
            assert_eq!(task.arguments(recall).unwrap()["key"], "a");
        }
        let clear = memory().word("clear").unwrap();
        assert!(Task::of_texts("clear", "a", "").arguments(clear).is_err());
    }
}
