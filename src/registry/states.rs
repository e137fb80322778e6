//! What agents do, in the words of the contract.

use crate::host::{Condition, State};
use crate::proto::opdbus::v1::{AgentState, WatchAgentsResponse};

impl From<State> for AgentState {
    fn from(state: State) -> Self {
        match state {
            State::Stopped => Self::Stopped,
            State::Starting => Self::Starting,
            State::Running => Self::Running,
            State::Busy => Self::Busy,
            State::Failed => Self::Failed,
            State::Stopping => Self::Stopping,
        }
    }
}

impl From<Condition> for WatchAgentsResponse {
    fn from(condition: Condition) -> Self {
        Self {
            agent: condition.agent.to_string(),
            state: AgentState::from(condition.state).into(),
            reason: condition.reason(),
            took: condition.took.and_then(|took| took.try_into().ok()),
        }
    }
}
