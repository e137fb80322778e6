//! The older interface as a way: its words for operations, and how its answers are read.

use op_dbus::compat::dbusmcp::AGENTS;
use op_dbus::contract::Operation;
use serde_json::{Map, Value, json};

use super::call::Call;

/// The operations that the older interface has words for: agent, operation, the older agent's name and
/// type, the word.
const WORDS: [[&str; 5]; 15] = [
    ["commands", "Exec", "Executor", "executor", "execute"],
    ["context_manager", "Delete", "ContextManager", "context-manager", "delete"],
    ["context_manager", "List", "ContextManager", "context-manager", "list"],
    ["context_manager", "Load", "ContextManager", "context-manager", "load"],
    ["context_manager", "Save", "ContextManager", "context-manager", "save"],
    ["memory", "Forget", "Memory", "memory", "forget"],
    ["memory", "List", "Memory", "memory", "list"],
    ["memory", "Recall", "Memory", "memory", "recall"],
    ["memory", "Remember", "Memory", "memory", "remember"],
    ["memory", "Search", "Memory", "memory", "search"],
    ["sequential_thinking", "Conclude", "SequentialThinking", "sequential-thinking", "conclude"],
    ["sequential_thinking", "GetChain", "SequentialThinking", "sequential-thinking", "get_chain"],
    [
        "sequential_thinking",
        "SequentialThinking",
        "SequentialThinking",
        "sequential-thinking",
        "reflect",
    ],
    ["sequential_thinking", "StartChain", "SequentialThinking", "sequential-thinking", "start"],
    ["sequential_thinking", "Think", "SequentialThinking", "sequential-thinking", "think"],
];

/// For these the older agents did more, so that other calls are made beside them.
const MAKES_MORE_CALLS: [(&str, &str); 2] = [("context_manager", "List"), ("memory", "Recall")];

/// The words that mean the same as one in the table.
const OTHER_WORDS: [&str; 11] = [
    "add_thought",
    "analyze",
    "clear",
    "delete",
    "get",
    "plan",
    "restore",
    "retrieve",
    "set",
    "start_chain",
    "store",
];

/// The older agent's name, its type and its word for an operation.
pub fn word(operation: &Operation) -> Option<[&'static str; 3]> {
    WORDS
        .iter()
        .find(|[agent, name, ..]| *agent == operation.agent && *name == operation.name)
        .map(|[_, _, name, kind, word]| [*name, *kind, *word])
}

/// True if its calls are not all counted as this operation.
pub fn makes_more_calls(agent: &str, name: &str) -> bool {
    MAKES_MORE_CALLS.contains(&(agent, name))
}

/// True if its answer has another form: the older agents had contexts as texts.
pub fn answers_otherwise(agent: &str, name: &str) -> bool {
    (agent, name) == ("context_manager", "Load")
}

/// The task that means `call`. What is left out of a request is said where the older interface has another
/// default than the contract.
pub fn task(call: &Call, [_, kind, word]: [&str; 3]) -> Value {
    let mut config: Map<String, Value> = serde_json::from_str(&call.json()).unwrap();
    let defaults = match word {
        "reflect" => {
            json!({"thought_number": 0, "total_thoughts": 0, "next_thought_needed": false})
        }
        "think" => json!({"chain_id": ""}),
        _ => json!({}),
    };
    for (name, value) in defaults.as_object().unwrap() {
        config.entry(name).or_insert(value.clone());
    }
    if let Some(id) = &call.request_id {
        config.insert("request-id".to_owned(), json!(id));
    }
    if call.is_late {
        config.insert("deadline-ms".to_owned(), json!(0));
    }
    json!({"type": kind, "operation": word, "config": config})
}

/// What a result says.
pub fn result(text: &str) -> Result<Value, String> {
    let mut result: Value = serde_json::from_str(text).unwrap();
    match result["metadata"]["reason"].as_str() {
        Some(reason) => Err(reason.to_owned()),
        None => Ok(result["metadata"]["response"].take()),
    }
}

/// The reason in the text of an error of the older interface.
pub fn reason(text: &str) -> String {
    let rest = text.strip_prefix("Execution failed: ").unwrap_or_else(|| panic!("{text}"));
    rest.split(':').next().unwrap().to_owned()
}

#[test]
fn every_word_of_the_older_interface_is_in_the_table() {
    for agent in AGENTS {
        for word in agent.operations() {
            let is_here = |[of, _, _, _, known]: &[&str; 5]| *of == agent.agent && *known == word;
            let is_known = WORDS.iter().any(is_here) || OTHER_WORDS.contains(&word);
            assert!(is_known, "{}.{word}", agent.name);
        }
    }
}
