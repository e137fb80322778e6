//! What sessions need of the agents. How agents start and stop is the registry's business.

use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::{BoxStream, unfold};

use crate::contract::Running;
use crate::host::Host;
use crate::proto::opdbus::v1::{AgentStart, AgentState, WatchAgentsResponse};
use crate::registry::{Registry, Started};

/// The agents, as sessions see them.
pub trait Agents: Send + Sync {
    /// Notes that the user has sessions, until what it gives is dropped: the agents that are to be ready
    /// with them are kept running.
    fn wanted(&self, uid: u32) -> Box<dyn Send>;

    /// Starts the agents that are to be ready with a session of the user and says how that went. One
    /// that cannot be started is named with the reason.
    fn warm(&self, uid: u32) -> Running<'_, Vec<AgentStart>>;

    /// Tells every change of an agent's state from now on.
    fn changes(&self) -> BoxStream<'static, WatchAgentsResponse>;

    /// Where the agent with this id runs, if it is served.
    fn host(&self, agent: &str) -> Option<Arc<dyn Host>>;
}

impl Agents for Registry {
    fn wanted(&self, uid: u32) -> Box<dyn Send> {
        Box::new(self.session_opened(uid))
    }

    fn warm(&self, uid: u32) -> Running<'_, Vec<AgentStart>> {
        Box::pin(async move {
            let started = Self::warm(self, uid).await;
            Ok(started.into_iter().map(AgentStart::from).collect())
        })
    }

    fn changes(&self) -> BoxStream<'static, WatchAgentsResponse> {
        let changes = Self::changes(self).to_come();
        unfold(changes, async |mut changes| Some((changes.next().await.into(), changes))).boxed()
    }

    fn host(&self, agent: &str) -> Option<Arc<dyn Host>> {
        self.snapshot().host(agent)
    }
}

impl From<Started> for AgentStart {
    fn from(started: Started) -> Self {
        Self {
            agent: started.agent.to_string(),
            state: AgentState::from(started.state).into(),
            took: started.took.and_then(|took| took.try_into().ok()),
            reason: started.reason,
        }
    }
}
