//! The words of the older systems for agents, operations and arguments, and what they are called here.
//! Five vocabularies were in use; all of them are understood. What an operation does is not decided here.

use serde_json::{Map, Value, json};

use super::dbusmcp::commands;
use crate::error::Error;

/// An operation as op-dbus calls it, with its arguments.
#[derive(Debug, PartialEq)]
pub(super) struct Named {
    pub(super) agent: String,
    pub(super) operation: String,
    pub(super) arguments: Value,
}

pub(super) type Arguments = Map<String, Value>;
/// Says what the operation is called here and translates the arguments, as far as they can be.
type Translate = fn(&mut Arguments) -> (&'static str, Result<(), Error>);

/// A word for an operation.
pub(super) struct Word {
    /// The agent's id here.
    pub(super) agent: &'static str,
    /// What clients call the operation, with underscores.
    pub(super) name: &'static str,
    /// What it is here.
    pub(super) means: Translate,
    /// The argument that the `path` of an older task is; empty if there is none. Where it is the same as
    /// `args`, a task has one of the two.
    pub(super) path: &'static str,
    /// The argument that the `args` of an older task are.
    pub(super) args: &'static str,
}

const fn word(
    agent: &'static str,
    name: &'static str,
    means: Translate,
    path: &'static str,
    args: &'static str,
) -> Word {
    Word { agent, name, means, path, args }
}

const COMMANDS: &str = "commands";
const CONTEXTS: &str = "context_manager";
const MEMORY: &str = "memory";
const THINKING: &str = "sequential_thinking";

/// Every word, sorted by agent and name. An operation of an agent that no word is for has its own name,
/// for clients that name their arguments.
const WORDS: &[Word] = &[
    word(COMMANDS, "execute", commands::executed, "working_dir", "command_line"),
    word(CONTEXTS, "clear", |_| ("delete", Ok(())), "name", "name"),
    word(CONTEXTS, "delete", |_| ("delete", Ok(())), "name", "name"),
    word(CONTEXTS, "list", limited, "query", "query"),
    word(CONTEXTS, "load", |_| ("load", Ok(())), "name", "name"),
    word(CONTEXTS, "restore", |_| ("load", Ok(())), "name", "name"),
    word(CONTEXTS, "save", |_| ("save", Ok(())), "name", "content"),
    word(MEMORY, "clear", everything, "", ""),
    word(MEMORY, "delete", |_| ("forget", Ok(())), "key", "key"),
    word(MEMORY, "forget", |_| ("forget", Ok(())), "key", "key"),
    word(MEMORY, "get", |_| ("recall", Ok(())), "key", "key"),
    word(MEMORY, "list", limited, "pattern", "pattern"),
    word(MEMORY, "recall", |_| ("recall", Ok(())), "key", "key"),
    word(MEMORY, "remember", remembered, "key", "value"),
    word(MEMORY, "retrieve", |_| ("recall", Ok(())), "key", "key"),
    word(MEMORY, "search", |_| ("search", Ok(())), "query", "query"),
    word(MEMORY, "set", remembered, "key", "value"),
    word(MEMORY, "store", remembered, "key", "value"),
    word(THINKING, "add_thought", thought, "chain_id", "thought"),
    word(THINKING, "analyze", thought, "chain_id", "thought"),
    word(THINKING, "conclude", |_| ("conclude", Ok(())), "chain_id", "conclusion"),
    word(THINKING, "get_chain", |_| ("get_chain", Ok(())), "chain_id", "chain_id"),
    word(THINKING, "plan", thought, "chain_id", "thought"),
    word(THINKING, "reflect", thought, "chain_id", "thought"),
    word(THINKING, "start", |_| ("start_chain", Ok(())), "problem", "problem"),
    word(THINKING, "start_chain", |_| ("start_chain", Ok(())), "problem", "problem"),
    word(THINKING, "think", thought, "chain_id", "thought"),
];

/// The words for the operations of an agent, sorted.
pub(super) fn words(agent: &str) -> impl Iterator<Item = &'static Word> {
    WORDS.iter().filter(move |word| word.agent == agent)
}

/// What `operation` of `agent` with `arguments_json` is here. Agents and operations may be written with
/// capitals, hyphens or underscores.
///
/// # Errors
/// `InvalidArgument` if the arguments are no JSON object, or lack what the translation needs.
pub(super) fn translate(
    agent: &str,
    operation: &str,
    arguments_json: &str,
) -> Result<Named, Error> {
    let agent = snake(agent.trim_start_matches("agent_"));
    let operation = snake(operation);
    let mut arguments = match arguments_json.trim() {
        "" => Arguments::new(),
        text => match serde_json::from_str(text) {
            Ok(Value::Object(arguments)) => arguments,
            Ok(_) => return Err(Error::invalid("arguments_json", "must be a JSON object")),
            Err(error) => return Err(Error::invalid("arguments_json", error)),
        },
    };
    let operation = match words(&agent).find(|word| word.name == operation) {
        Some(word) => {
            let (operation, translated) = (word.means)(&mut arguments);
            translated?;
            operation.to_owned()
        }
        None => operation,
    };
    Ok(Named { agent, operation, arguments: Value::Object(arguments) })
}

/// The name with underscores, as `rust_pro` for `RustPro`, `rustPro` and `rust-pro`.
pub(super) fn snake(name: &str) -> String {
    let mut snake = String::with_capacity(name.len());
    let mut previous_small = false;
    for letter in name.chars() {
        if letter.is_uppercase() {
            if previous_small {
                snake.push('_');
            }
            snake.extend(letter.to_lowercase());
        } else {
            snake.push(if letter == '-' { '_' } else { letter });
        }
        previous_small = letter.is_lowercase() || letter.is_numeric();
    }
    snake
}

fn everything(arguments: &mut Arguments) -> (&'static str, Result<(), Error>) {
    arguments.entry("key").or_insert_with(|| json!("*"));
    arguments.entry("glob").or_insert_with(|| json!(true));
    ("forget", Ok(()))
}

fn limited(arguments: &mut Arguments) -> (&'static str, Result<(), Error>) {
    if let Some(limit) = arguments.remove("limit") {
        arguments.insert("page_size".to_owned(), limit);
    }
    ("list", Ok(()))
}

fn remembered(arguments: &mut Arguments) -> (&'static str, Result<(), Error>) {
    ("remember", ttl(arguments))
}

/// `ttl_secs`, a number, is `ttl`, a duration; 0 is none.
fn ttl(arguments: &mut Arguments) -> Result<(), Error> {
    for name in ["ttl_secs", "ttl_s"] {
        let Some(ttl) = arguments.remove(name) else { continue };
        let seconds = ttl
            .as_u64()
            .ok_or_else(|| Error::invalid(name, "must be a whole number of seconds"))?;
        if seconds > 0 {
            arguments.insert("ttl".to_owned(), json!(format!("{seconds}s")));
        }
    }
    Ok(())
}

/// A thought outside of any chain is one of the numbered thoughts that the MCP server takes.
fn thought(arguments: &mut Arguments) -> (&'static str, Result<(), Error>) {
    if arguments.contains_key("chain_id") {
        return ("think", Ok(()));
    }
    ("sequential_thinking", numbered(arguments))
}

fn numbered(arguments: &mut Arguments) -> Result<(), Error> {
    let mut number = |name: &'static str, default: u64| match arguments.remove(name) {
        None => Ok(default),
        Some(number) => {
            number.as_u64().ok_or_else(|| Error::invalid(name, "must be a whole number"))
        }
    };
    let step = number("step", 1)?;
    let total = number("total_steps", step)?.max(step);
    for name in ["problem", "input"] {
        if let Some(thought) = arguments.remove(name) {
            arguments.entry("thought").or_insert(thought);
        }
    }
    arguments.entry("thought_number").or_insert_with(|| json!(step));
    arguments.entry("total_thoughts").or_insert_with(|| json!(total));
    arguments.entry("next_thought_needed").or_insert_with(|| json!(step < total));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(agent: &str, operation: &str, arguments: &str) -> Named {
        translate(agent, operation, arguments).unwrap()
    }

    #[test]
    fn every_word_stands_once_and_in_order() {
        assert!(WORDS.is_sorted_by(|a, b| (a.agent, a.name) < (b.agent, b.name)));
    }

    #[test]
    fn names_are_the_same_however_they_are_written() {
        for agent in ["context_manager", "context-manager", "ContextManager", "contextManager"] {
            let load = named(agent, "Load", r#"{"name": "a"}"#);
            assert_eq!((load.agent.as_str(), load.operation.as_str()), ("context_manager", "load"));
        }
        assert_eq!(named("agent_memory", "bulkRecall", "").operation, "bulk_recall");
    }

    #[test]
    fn an_alias_translates_the_arguments() {
        let store = named("memory", "store", r#"{"key": "a", "value": 1, "ttl_secs": 60}"#);
        assert_eq!(store.operation, "remember");
        assert_eq!(store.arguments, json!({"key": "a", "value": 1, "ttl": "60s"}));
        let clear = named("memory", "clear", "");
        assert_eq!(clear.arguments, json!({"key": "*", "glob": true}));
        let think = named(
            "sequential-thinking",
            "plan",
            r#"{"thought": "a", "step": 2, "total_steps": 3}"#,
        );
        assert_eq!(think.operation, "sequential_thinking");
        let expected = json!({
            "thought": "a", "thought_number": 2, "total_thoughts": 3, "next_thought_needed": true
        });
        assert_eq!(think.arguments, expected);
        let in_chain =
            named("sequential_thinking", "think", r#"{"chain_id": "c", "thought": "a"}"#);
        assert_eq!(in_chain.operation, "think");
        assert_eq!(in_chain.arguments, json!({"chain_id": "c", "thought": "a"}));
    }

    #[test]
    fn arguments_that_are_no_object_are_refused() {
        for arguments in ["[]", "1", "{", r#"{"ttl_secs": -1}"#] {
            let error = translate("memory", "remember", arguments).unwrap_err();
            assert_eq!(error.kind(), crate::error::ErrorKind::InvalidArgument, "{arguments}");
        }
    }
}
