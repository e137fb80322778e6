//! Which older agents there are, and by which of op-dbus's agents each is served. What their operations
//! mean stands in `names`.

use super::super::names::{self, Word, snake};

/// An agent as older clients know it.
#[derive(Debug, PartialEq, Eq)]
pub struct OlderAgent {
    /// The last element of its names, as `ContextManager`.
    pub name: &'static str,
    /// Its type, as `context-manager`.
    pub kind: &'static str,
    /// The id of the agent that does its work.
    pub agent: &'static str,
    /// What the older agents count it to.
    pub category: &'static str,
}

/// Every older agent that is served, sorted. The others have no agent here that does their work.
pub const AGENTS: &[OlderAgent] = &[
    OlderAgent {
        name: "ContextManager",
        kind: "context-manager",
        agent: "context_manager",
        category: "orchestration",
    },
    OlderAgent {
        name: "Executor",
        kind: "executor",
        agent: "commands",
        category: "code_execution",
    },
    OlderAgent { name: "Memory", kind: "memory", agent: "memory", category: "orchestration" },
    OlderAgent {
        name: "SequentialThinking",
        kind: "sequential-thinking",
        agent: "sequential_thinking",
        category: "orchestration",
    },
];

impl OlderAgent {
    /// The agent called so, be it written as `context-manager`, `context_manager` or `ContextManager`.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        let name = snake(name);
        AGENTS.iter().find(|agent| snake(agent.name) == name)
    }

    /// The names of its operations, sorted.
    #[must_use]
    pub fn operations(&self) -> Vec<&'static str> {
        names::words(self.agent).map(|word| word.name).collect()
    }

    /// True if it has the operation, be it written as `start_chain`, `start-chain` or `startChain`.
    #[must_use]
    pub fn supports(&self, operation: &str) -> bool {
        self.word(operation).is_some()
    }

    pub(super) fn word(&self, operation: &str) -> Option<&'static Word> {
        let operation = snake(operation);
        names::words(self.agent).find(|word| word.name == operation)
    }
}
