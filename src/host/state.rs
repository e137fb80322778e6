//! What an agent does at one moment, and in words why it does not run. It changes nothing.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, ErrorKind};

/// What an agent does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It is not started; the next call or session starts it.
    Stopped,
    /// It is being started.
    Starting,
    /// It is ready, and no call runs in it.
    Running,
    /// Calls run in it.
    Busy,
    /// It could not be started; it is tried again after a while.
    Failed,
    /// It is being stopped.
    Stopping,
}

impl State {
    /// The names in metrics and logs, in the order of [`State::index`].
    pub const NAMES: [&str; 6] = ["stopped", "starting", "running", "busy", "failed", "stopping"];

    /// The name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        Self::NAMES[self.index()]
    }

    /// The position in [`State::NAMES`].
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

/// An agent at one moment.
#[derive(Clone, Debug)]
pub struct Condition {
    /// The agent's id.
    pub agent: Arc<str>,
    /// What it does.
    pub state: State,
    /// The last start, if it failed; kept until one succeeds.
    pub failure: Option<StartFailure>,
    /// How long the start took, of an agent that has just started.
    pub took: Option<Duration>,
}

impl Condition {
    /// Why the agent has failed and when it is tried again, for people; empty if it has not.
    #[must_use]
    pub fn reason(&self) -> String {
        self.failed().map(ToString::to_string).unwrap_or_default()
    }

    /// Why the agent has failed, for as long as that is its state. Unlike [`Condition::reason`] it stays
    /// the same all the while.
    #[must_use]
    pub fn problem(&self) -> String {
        self.failed().map(|failure| failure.error.to_string()).unwrap_or_default()
    }

    fn failed(&self) -> Option<&StartFailure> {
        self.failure.as_ref().filter(|_| self.state == State::Failed)
    }
}

/// A start that failed.
#[derive(Clone, Debug)]
pub struct StartFailure {
    /// Why.
    pub error: Error,
    /// How many starts failed, one after the other.
    pub attempts: u32,
    /// Until then it is not tried again.
    pub retry_at: Instant,
}

impl StartFailure {
    /// How long it is not tried again; zero if it may be.
    #[must_use]
    pub fn wait(&self) -> Duration {
        self.retry_at.saturating_duration_since(Instant::now())
    }

    /// What a call to the agent is told.
    pub(super) fn refusal(&self, agent: &str) -> Error {
        Error::new(
            ErrorKind::BackendUnavailable,
            format!("agent {agent} cannot be started: {}", self.error),
        )
        .with_fact("agent", agent)
        .with_fact("cause", self.error.kind().reason())
        .with_retry_after(self.wait())
    }
}

impl fmt::Display for StartFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wait = self.wait();
        if wait.is_zero() {
            return write!(f, "{}; it is tried again with the next call", self.error);
        }
        write!(f, "{}; it is tried again in {:.1} s", self.error, wait.as_secs_f64())
    }
}
