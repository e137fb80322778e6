//! The rules of the rollout as the configuration has them: whose calls of what each is about, and where
//! it begins. How far a rule is now is not known here.

use std::fmt;

use super::Position;
use crate::contract::{Operation, Service, same_name};
use crate::executor::Named;
use crate::migration::Client;

/// The name of the rule that stands last and is about everything.
pub const DEFAULT: &str = "default";

/// How much of a command's name the kernel keeps, in bytes.
const COMMAND_BYTES: usize = 15;

/// The rules, in the order in which they are asked. The last one is about everything.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// The rules; the last is the default.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Rule {
    /// Its name, which no other has.
    pub name: String,
    /// Whose calls it is about.
    pub who: Who,
    /// The ids of the agents; empty: any.
    pub agents: Vec<String>,
    /// The operations, as `memory.Recall`; empty: any of these agents.
    pub operations: Vec<String>,
    /// Where the configuration says that it is.
    pub position: Position,
    /// The shares at stage `canary`, ascending, of 10,000.
    pub steps: Vec<u32>,
    /// By how much gRPC may be worse.
    pub margins: Margins,
    /// Where it stands, as `/etc/op-dbus/grpc.toml:12`.
    pub origin: String,
}

/// Whose calls a rule is about: those of clients for whom every list that is not empty holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// Their programs, as `/usr/bin/op-chat`, or the names of their commands, as `op-chat`.
    pub executables: Vec<String>,
    /// Their systemd units, as `op-chat.service`.
    pub units: Vec<String>,
    /// The users.
    pub users: Vec<Named>,
    /// The names of their tokens or certificates.
    pub tokens: Vec<String>,
    /// What they call themselves.
    pub names: Vec<String>,
}

/// By how much gRPC may be worse than D-Bus, and after how many calls that is looked at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Margins {
    /// The share of calls that may fail over gRPC beyond the share that fails over D-Bus.
    pub error: f64,
    /// What the 99th percentile of D-Bus is multiplied with: slower calls count as slow.
    pub latency: f64,
    /// How many calls over either way there must be.
    pub min_calls: u64,
}

impl Default for Margins {
    fn default() -> Self {
        Self { error: 0.01, latency: 1.5, min_calls: 200 }
    }
}

impl Default for Config {
    /// Everything at stage `dbus`.
    fn default() -> Self {
        let everything = Rule {
            name: DEFAULT.to_owned(),
            who: Who::default(),
            agents: Vec::new(),
            operations: Vec::new(),
            position: Position::Dbus,
            steps: vec![500, 2500, 5000],
            margins: Margins::default(),
            origin: "built in".to_owned(),
        };
        Self { rules: vec![everything] }
    }
}

impl Rule {
    /// True if the rule is about calls of this operation.
    #[must_use]
    pub fn is_about(&self, operation: &Operation) -> bool {
        self.names(&operation.agent, &operation.name)
    }

    /// True if the rule is about calls of the operation `name` of `agent`.
    #[must_use]
    pub fn names(&self, agent: &str, name: &str) -> bool {
        let mut operations = self.operations.iter().filter_map(|text| text.split_once('.'));
        let operation = self.operations.is_empty()
            || operations.any(|(its, operation)| its == agent && same_name(operation, name));
        operation && (self.agents.is_empty() || self.agents.iter().any(|id| id == agent))
    }

    /// True if the calls that it is about are those that `other` is about.
    pub(super) fn is_about_the_same_as(&self, other: &Self) -> bool {
        (&self.who, &self.agents, &self.operations)
            == (&other.who, &other.agents, &other.operations)
    }

    /// What it is about, for people.
    #[must_use]
    pub fn what(&self) -> String {
        match (self.operations.as_slice(), self.agents.as_slice()) {
            ([], []) => "every operation".to_owned(),
            ([], [agent]) => format!("agent {agent}"),
            ([], agents) => format!("agents {}", agents.join(", ")),
            (operations, _) => operations.join(", "),
        }
    }

    /// The same rule with its operations as `services` write them.
    pub(super) fn written_as(mut self, services: &[std::sync::Arc<Service>]) -> Self {
        for text in &mut self.operations {
            if let Some((agent, name)) = text.split_once('.')
                && let Some(service) = services.iter().find(|service| service.id == agent)
                && let Ok(operation) = service.operation(name)
            {
                *text = format!("{agent}.{}", operation.name);
            }
        }
        self
    }

    /// The agents and operations that it names and `services` lack.
    pub(super) fn missing(&self, services: &[std::sync::Arc<Service>]) -> Vec<String> {
        let find = |id: &str| services.iter().find(|service| service.id == id);
        let agents = self.agents.iter().filter(|id| find(id).is_none()).cloned();
        let operations = self.operations.iter().filter(|text| {
            let (agent, name) = text.split_once('.').unwrap_or((text, ""));
            find(agent).is_none_or(|service| service.operation(name).is_err())
        });
        agents.chain(operations.cloned()).collect()
    }
}

impl Who {
    /// True if it names nobody, and so means everybody.
    #[must_use]
    pub fn is_everybody(&self) -> bool {
        let Self { executables, units, users, tokens, names } = self;
        [executables, units, tokens, names].iter().all(|list| list.is_empty()) && users.is_empty()
    }

    /// True if the client is meant.
    #[must_use]
    pub fn covers(&self, client: &Client<'_>) -> bool {
        let has = |list: &[String], value: &str| list.iter().any(|known| known == value);
        // The cheap ones first: a program is looked up.
        (self.names.is_empty() || has(&self.names, client.name()))
            && (self.tokens.is_empty() || has(&self.tokens, client.token()))
            && (self.users.is_empty() || self.users.iter().any(|it| Some(it.id) == client.uid()))
            && (self.units.is_empty() || has(&self.units, client.unit()))
            && (self.executables.is_empty() || runs_one(&self.executables, client.executable()))
    }
}

/// True if `found` is one of `programs`. Where the kernel shows the path of a client's program to its own
/// user alone, `found` is the name of its command, and a path counts by its last part.
fn runs_one(programs: &[String], found: &str) -> bool {
    if found.starts_with('/') {
        return programs.iter().any(|program| program == found);
    }
    programs.iter().any(|program| {
        let command = program.rsplit('/').next().unwrap_or(program).as_bytes();
        !found.is_empty() && command[..command.len().min(COMMAND_BYTES)] == *found.as_bytes()
    })
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_everybody() {
            return f.write_str("everybody");
        }
        let users: Vec<String> =
            self.users.iter().map(|Named { name, id }| format!("{name} ({id})")).collect();
        let lists = [
            ("program", &self.executables),
            ("unit", &self.units),
            ("user", &users),
            ("token", &self.tokens),
            ("name", &self.names),
        ];
        let named = lists.iter().filter(|(_, list)| !list.is_empty());
        let parts: Vec<String> =
            named.map(|(kind, list)| format!("{kind} {}", list.join(" or "))).collect();
        f.write_str(&parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_known_by_its_path_or_by_what_the_kernel_shows_of_its_name() {
        let programs = ["/usr/bin/op-chat", "/opt/tools/a-long-name-of-a-command", "plain"];
        let programs = programs.map(str::to_owned);
        for (found, is_one) in [
            ("/usr/bin/op-chat", true),
            ("/usr/local/bin/op-chat", false),
            ("/usr/bin/plain", false),
            ("op-chat", true),
            ("op-cha", false),
            ("a-long-name-of-", true),
            ("plain", true),
            ("", false),
        ] {
            assert_eq!(runs_one(&programs, found), is_one, "{found:?}");
        }
    }
}
