//! `op_chat.agents`, the contract of the chatbot op-chat, exactly as its clients were compiled against
//! it. What it offers is done by op-dbus's agents; `success` and `error` say what became of that.

mod agent_service;
mod context_manager;
mod execution;
mod memory;
mod sequential_thinking;
mod session;
mod unserved;

use std::sync::Arc;

use super::Inner;
use crate::contract::Agent;
use crate::error::{Error, ErrorKind};
use crate::executor::Executor;
use crate::proto::op_chat::agents::{
    AgentServiceAgent, BackendArchitectAgentAgent, ContextManagerAgentAgent, MemoryAgentAgent,
    RustProAgentAgent, SequentialThinkingAgentAgent,
};

/// The services of the contract, each with its full name.
#[must_use]
pub fn services(executor: &Arc<Executor>) -> Vec<(&'static str, Arc<dyn Agent>)> {
    let op_chat = Arc::new(OpChat { inner: Inner::new(executor) });
    vec![
        ("op_chat.agents.AgentService", Arc::new(AgentServiceAgent(Arc::clone(&op_chat)))),
        ("op_chat.agents.MemoryAgent", Arc::new(MemoryAgentAgent(Arc::clone(&op_chat)))),
        (
            "op_chat.agents.SequentialThinkingAgent",
            Arc::new(SequentialThinkingAgentAgent(Arc::clone(&op_chat))),
        ),
        (
            "op_chat.agents.ContextManagerAgent",
            Arc::new(ContextManagerAgentAgent(Arc::clone(&op_chat))),
        ),
        ("op_chat.agents.RustProAgent", Arc::new(RustProAgentAgent(Arc::clone(&op_chat)))),
        ("op_chat.agents.BackendArchitectAgent", Arc::new(BackendArchitectAgentAgent(op_chat))),
    ]
}

/// All services of the contract.
struct OpChat {
    inner: Inner,
}

/// The answer, or `None` if what was asked for is not there.
fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.kind() == ErrorKind::NotFound && !is_about_session(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// True if it is the session that is not there.
fn is_about_session(error: &Error) -> bool {
    error.fact("session_id").is_some()
}

/// A count of the contract, which has 32 bits.
fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// A time of the contract: whole seconds since the epoch; 0 if there is none.
fn seconds(time: Option<prost_types::Timestamp>) -> i64 {
    time.map_or(0, |time| time.seconds)
}

/// A number of the contract, which may be written as negative but must not be.
fn number(field: &str, number: i32) -> Result<u32, Error> {
    u32::try_from(number).map_err(|_| Error::invalid(field, "must not be negative"))
}
