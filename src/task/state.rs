//! What can become of a task, and how that reads in the contract and in the metrics.

use std::time::SystemTime;

use prometheus::IntGauge;

use crate::error::Error;
use crate::metrics::Metrics;
use crate::proto::opdbus::v1::TaskState;

/// What has become of a task; the states of A2A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It waits for a place.
    Submitted,
    /// It runs.
    Working,
    /// It runs, and waits for its client's next message.
    InputRequired,
    /// It has done what was asked.
    Completed,
    /// It has ended with an error.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It was refused before it began.
    Rejected,
}

impl State {
    /// True if nothing more happens.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Rejected)
    }

    pub(super) const fn contract(self) -> TaskState {
        match self {
            Self::Submitted => TaskState::Submitted,
            Self::Working => TaskState::Working,
            Self::InputRequired => TaskState::InputRequired,
            Self::Completed => TaskState::Completed,
            Self::Failed => TaskState::Failed,
            Self::Cancelled => TaskState::Cancelled,
            Self::Rejected => TaskState::Rejected,
        }
    }

    /// The state that a record of a task that has ended tells; none for others.
    pub(super) const fn recorded(state: TaskState) -> Option<Self> {
        match state {
            TaskState::Completed => Some(Self::Completed),
            TaskState::Failed => Some(Self::Failed),
            TaskState::Cancelled => Some(Self::Cancelled),
            TaskState::Rejected => Some(Self::Rejected),
            TaskState::Unspecified
            | TaskState::Submitted
            | TaskState::Working
            | TaskState::InputRequired => None,
        }
    }
}

/// How the work of a task ended.
#[derive(Clone, Debug)]
pub enum End {
    /// It has done what was asked.
    Completed,
    /// It failed, or was refused before it began.
    Failed(Error),
    /// It was stopped on request; the error says on whose.
    Cancelled(Error),
}

/// How far a task is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How much is done.
    pub done: u64,
    /// How much there is to do.
    pub total: u64,
    /// What is counted.
    pub unit: Box<str>,
}

/// What has become of a task so far.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) state: State,
    pub(super) failure: Option<Error>,
    pub(super) progress: Option<Progress>,
    pub(super) began_at: Option<SystemTime>,
    pub(super) ended_at: Option<SystemTime>,
    pub(super) first_seq: u64,
    pub(super) next_seq: u64,
    pub(super) bytes: u64,
}

/// The gauges of tasks by state.
pub(super) struct Gauges {
    submitted: IntGauge,
    working: IntGauge,
    input_required: IntGauge,
    /// Tasks that have ended and are kept.
    pub(super) kept: IntGauge,
}

impl Gauges {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            submitted: metrics.tasks("submitted"),
            working: metrics.tasks("working"),
            input_required: metrics.tasks("input_required"),
            kept: metrics.tasks_kept().clone(),
        }
    }

    pub(super) fn enter(&self, state: State) {
        self.of(state).inspect(|gauge| gauge.inc());
    }

    pub(super) fn leave(&self, state: State) {
        self.of(state).inspect(|gauge| gauge.dec());
    }

    fn of(&self, state: State) -> Option<&IntGauge> {
        match state {
            State::Submitted => Some(&self.submitted),
            State::Working => Some(&self.working),
            State::InputRequired => Some(&self.input_required),
            State::Completed | State::Failed | State::Cancelled | State::Rejected => None,
        }
    }
}
