//! A task as the contract shows it. It changes nothing.

use super::{State, Task};
use crate::call::OnDisconnect;
use crate::contract::{MANAGER_PATH, failure};
use crate::proto::opdbus::v1;

impl Task {
    /// The task as it is now.
    #[must_use]
    pub fn describe(&self) -> v1::Task {
        let inner = self.inner();
        let last_seq = inner.ring.next() - 1;
        let first = inner.ring.first();
        let on_disconnect = match self.on_disconnect {
            OnDisconnect::Continue => v1::OnDisconnect::Continue,
            OnDisconnect::Cancel => v1::OnDisconnect::Cancel,
        };
        v1::Task {
            id: self.id.as_ref().to_owned(),
            agent: self.operation.agent.clone(),
            operation: self.operation.name.clone(),
            state: inner.state.shown().into(),
            transport: self.transport.name().to_owned(),
            session: self.session.as_deref().unwrap_or_default().to_owned(),
            started_by_uid: self.caller.uid().unwrap_or_default(),
            started_at: Some(self.started_at.into()),
            ended_at: inner.ended_at.map(Into::into),
            deadline: None,
            expected_end: None,
            progress: inner.progress.map(|progress| v1::TaskProgress {
                done: progress.done,
                total: progress.total,
                unit: progress.unit.to_owned(),
            }),
            first_seq: if first > last_seq { 0 } else { first },
            last_seq,
            bytes: inner.ring.total(),
            failure: inner.failure.as_ref().map(failure),
            cancelable: !inner.state.is_final(),
            object_path: format!("{MANAGER_PATH}/task/{}", self.id),
            on_disconnect: on_disconnect.into(),
        }
    }
}

impl State {
    /// The state as the contract shows it.
    const fn shown(self) -> v1::TaskState {
        match self {
            Self::Submitted => v1::TaskState::Submitted,
            Self::Working => v1::TaskState::Working,
            Self::InputRequired => v1::TaskState::InputRequired,
            Self::Completed => v1::TaskState::Completed,
            Self::Failed => v1::TaskState::Failed,
            Self::Cancelled => v1::TaskState::Cancelled,
            Self::Rejected => v1::TaskState::Rejected,
        }
    }
}
