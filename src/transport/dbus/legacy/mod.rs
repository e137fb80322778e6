//! The older D-Bus interface, `org.dbusmcp.Agent` and its first generation: names, objects, methods and
//! signals as older clients know them. What a task means and comes to is `compat::dbusmcp`'s to say.

mod names;
mod object;
mod task;

use std::fmt;

use crate::compat::dbusmcp::{AGENTS, OlderAgent};

pub(super) use names::OlderNames;
pub(super) use object::{Older, OlderMethod, interfaces};
pub(super) use task::run;

/// The interface of every older agent, and what all names of theirs begin with.
pub(super) const INTERFACE: &str = "org.dbusmcp.Agent";

/// What the paths of the older agents begin with.
const ROOT: &str = "/org/dbusmcp/Agent";

/// The longest suffix of an instance, in bytes.
const MAX_SUFFIX_BYTES: usize = 64;

/// The name of an older agent or of an instance of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegacyName {
    agent: &'static OlderAgent,
    suffix: Option<String>,
}

impl LegacyName {
    /// The names of all older agents that can be served, without instances.
    pub fn all() -> impl Iterator<Item = Self> {
        AGENTS.iter().map(|agent| Self { agent, suffix: None })
    }

    /// The name that `text` is, without the `org.dbusmcp.Agent.` before it: `Memory`, or `Memory.main` for
    /// the instance `main`. The agent may be written with capitals, hyphens or underscores.
    ///
    /// # Errors
    /// What is wrong with it, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, suffix) = match text.split_once('.') {
            Some((name, suffix)) => (name, Some(suffix)),
            None => (text, None),
        };
        let agent = OlderAgent::named(name).ok_or_else(|| {
            let known: Vec<&str> = AGENTS.iter().map(|agent| agent.name).collect();
            format!("there is no older agent {name:?} here; there are {}", known.join(", "))
        })?;
        if let Some(suffix) = suffix
            && !is_element(suffix)
        {
            return Err(format!(
                "{suffix:?} is no suffix: it must have 1 to {MAX_SUFFIX_BYTES} letters, digits and \
                 underscores, and not begin with a digit"
            ));
        }
        Ok(Self { agent, suffix: suffix.map(str::to_owned) })
    }

    /// The name on the bus.
    pub(super) fn on_bus(&self) -> String {
        format!("{INTERFACE}.{self}")
    }

    /// The path of the object.
    pub(super) fn path(&self) -> String {
        format!("{ROOT}/{self}").replace('.', "/")
    }

    /// The id of op-dbus's agent that does the work.
    pub(super) fn agent_id(&self) -> &'static str {
        self.agent.agent
    }
}

/// As in the configuration.
impl fmt::Display for LegacyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.agent.name)?;
        self.suffix.as_ref().map_or(Ok(()), |suffix| write!(f, ".{suffix}"))
    }
}

/// True for what can stand in a bus name and in a path alike.
fn is_element(text: &str) -> bool {
    (1..=MAX_SUFFIX_BYTES).contains(&text.len())
        && !text.starts_with(|first: char| first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_gives_bus_name_and_path() {
        let name = LegacyName::parse("context-manager.main_1").unwrap();
        assert_eq!(name.to_string(), "ContextManager.main_1");
        assert_eq!(name.on_bus(), "org.dbusmcp.Agent.ContextManager.main_1");
        assert_eq!(name.path(), "/org/dbusmcp/Agent/ContextManager/main_1");
        for wrong in ["RustPro", "", "Memory.", "Memory.1", "Memory.a-b", "Memory.a.b"] {
            assert!(LegacyName::parse(wrong).is_err(), "{wrong}");
        }
    }
}
