//! The names that clients of op-chat use for agents, operations and arguments, and what they are called
//! here. Five vocabularies were in use; all of them are understood.

use serde_json::{Map, Value, json};

use crate::error::Error;

/// An operation as op-dbus calls it, with its arguments.
#[derive(Debug, PartialEq)]
pub(super) struct Named {
    pub(super) agent: String,
    pub(super) operation: String,
    pub(super) arguments: Value,
}

type Arguments = Map<String, Value>;
/// Translates the arguments and says what the operation is called here.
type Translate = fn(&mut Arguments) -> Result<&'static str, Error>;

/// Agent, the name that clients use, and what it means.
const ALIASES: &[(&str, &str, Translate)] = &[
    ("context_manager", "clear", |_| Ok("delete")),
    ("context_manager", "restore", |_| Ok("load")),
    ("memory", "clear", everything),
    ("memory", "delete", |_| Ok("forget")),
    ("memory", "get", |_| Ok("recall")),
    ("memory", "list", limited),
    ("memory", "remember", remembered),
    ("memory", "retrieve", |_| Ok("recall")),
    ("memory", "set", remembered),
    ("memory", "store", remembered),
    ("sequential_thinking", "add_thought", thought),
    ("sequential_thinking", "analyze", thought),
    ("sequential_thinking", "plan", thought),
    ("sequential_thinking", "reflect", thought),
    ("sequential_thinking", "start", |_| Ok("start_chain")),
    ("sequential_thinking", "think", thought),
];

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
    let alias = ALIASES.iter().find(|(of, name, _)| *of == agent && *name == operation);
    let operation = match alias {
        Some((_, _, translate)) => translate(&mut arguments)?.to_owned(),
        None => operation,
    };
    Ok(Named { agent, operation, arguments: Value::Object(arguments) })
}

/// The name with underscores, as `rust_pro` for `RustPro`, `rustPro` and `rust-pro`.
fn snake(name: &str) -> String {
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

fn everything(arguments: &mut Arguments) -> Result<&'static str, Error> {
    arguments.entry("key").or_insert_with(|| json!("*"));
    arguments.entry("glob").or_insert_with(|| json!(true));
    Ok("forget")
}

fn limited(arguments: &mut Arguments) -> Result<&'static str, Error> {
    if let Some(limit) = arguments.remove("limit") {
        arguments.insert("page_size".to_owned(), limit);
    }
    Ok("list")
}

/// `ttl_secs`, a number, is `ttl`, a duration; 0 is none.
fn remembered(arguments: &mut Arguments) -> Result<&'static str, Error> {
    for name in ["ttl_secs", "ttl_s"] {
        let Some(ttl) = arguments.remove(name) else { continue };
        let seconds = ttl
            .as_u64()
            .ok_or_else(|| Error::invalid(name, "must be a whole number of seconds"))?;
        if seconds > 0 {
            arguments.insert("ttl".to_owned(), json!(format!("{seconds}s")));
        }
    }
    Ok("remember")
}

/// A thought outside of any chain is one of the numbered thoughts that the MCP server takes.
fn thought(arguments: &mut Arguments) -> Result<&'static str, Error> {
    if arguments.contains_key("chain_id") {
        return Ok("think");
    }
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
    Ok("sequential_thinking")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(agent: &str, operation: &str, arguments: &str) -> Named {
        translate(agent, operation, arguments).unwrap()
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
