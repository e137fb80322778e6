//! What sessions need of the agents. How agents start and stop is the registry's business.

use std::sync::Arc;

use tokio::sync::broadcast;

use crate::contract::Running;
use crate::host::Host;
use crate::proto::opdbus::v1::{Activation, AgentStart, AgentState, WatchAgentsResponse};
use crate::registry::Registry;

/// The agents, as sessions see them.
pub trait Agents: Send + Sync {
    /// Starts the agents that are to be ready with a session and says how that went. One that cannot
    /// be started is named with the reason.
    fn warm(&self) -> Running<'_, Vec<AgentStart>>;

    /// Tells every change of an agent's state from now on.
    fn changes(&self) -> broadcast::Receiver<WatchAgentsResponse>;

    /// Where the agent with this id runs, if it is served.
    fn host(&self, agent: &str) -> Option<Arc<dyn Host>>;
}

impl Agents for Registry {
    fn warm(&self) -> Running<'_, Vec<AgentStart>> {
        let starts = self
            .snapshot()
            .agents()
            .iter()
            .filter(|agent| agent.activation == Activation::RunOnConnection)
            .map(|agent| AgentStart {
                agent: agent.id.clone(),
                state: AgentState::Running.into(),
                took: None,
                reason: String::new(),
            })
            .collect();
        Box::pin(std::future::ready(Ok(starts)))
    }

    fn changes(&self) -> broadcast::Receiver<WatchAgentsResponse> {
        // What is registered runs, and no change of it is made known.
        broadcast::channel(1).1
    }

    fn host(&self, agent: &str) -> Option<Arc<dyn Host>> {
        self.snapshot().host(agent)
    }
}
