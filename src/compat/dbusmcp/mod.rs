//! The agents that older clients know by the D-Bus names `org.dbusmcp.Agent`, and their tasks in JSON,
//! done by op-dbus's agents. How tasks arrive and how their results leave is the transport's business.
//!
//! What each older operation is here, and which of its arguments `path` and `args` are, stands in the
//! table of `names`, which op-chat's clients share. Texts of results are those of the older agents where
//! these had any; else they are the response as JSON. Either way `metadata.response` holds the response
//! as the operation gives it.

mod agents;
pub(super) mod commands;
mod outcome;
mod run;
mod task;

pub use agents::{AGENTS, OlderAgent};
pub use outcome::Outcome;
pub use run::{Refusal, perform, unread};
pub use task::Task;
