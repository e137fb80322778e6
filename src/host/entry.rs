//! Who needs an agent: calls enter it and sessions make it ready, and both wait for a start if one is
//! needed. How it is started and stopped is the business of `life`.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use super::gate::Entry;
use super::life::{Life, Phase, Running};
use super::state::State;
use crate::contract::Agent;
use crate::error::Error;

/// What came of making an agent ready.
#[derive(Clone, Debug)]
pub struct Started {
    /// The agent's id.
    pub agent: Arc<str>,
    /// [`State::Running`], or [`State::Failed`].
    pub state: State,
    /// How long the start took; `None` if the agent was running before, or has failed.
    pub took: Option<Duration>,
    /// Why it has failed; empty if it has not.
    pub reason: String,
}

/// An agent that a call is in. It is not stopped before this is dropped.
pub(super) struct Entered<'a> {
    /// Dropped before the place is given up: who then stops the agent has the last of it.
    agent: Arc<Running>,
    _place: Place<'a>,
}

/// What keeps the gate from being closed.
struct Place<'a>(&'a Arc<Life>);

/// What someone who needs the agent does next.
enum Next {
    Enter,
    Wait,
    GiveUp(Error),
}

impl Life {
    /// Starts the agent unless it runs, and says what came of it.
    ///
    /// # Cancel safety
    /// A start that has begun is carried to its end.
    pub async fn ready(self: &Arc<Self>) -> Started {
        let ran = self.took().is_some();
        let agent = Arc::clone(self.agent());
        match self.enter().await {
            Ok(_entered) => {
                let took = self.took().filter(|_| !ran);
                Started { agent, state: State::Running, took, reason: String::new() }
            }
            Err(error) => {
                let reason = error.message().to_owned();
                Started { agent, state: State::Failed, took: None, reason }
            }
        }
    }

    /// Enters the agent, which is started if it does not run.
    ///
    /// # Errors
    /// `BackendUnavailable` if it cannot be started; also, at once, if that was tried shortly before.
    ///
    /// # Cancel safety
    /// A start that has begun is carried to its end.
    pub(super) async fn enter(self: &Arc<Self>) -> Result<Entered<'_>, Error> {
        if let Some(entered) = self.try_enter() {
            return Ok(entered);
        }
        let mut phase = self.phases();
        let mut has_waited = false;
        loop {
            phase.mark_unchanged();
            match self.next(has_waited) {
                Next::GiveUp(error) => return Err(error),
                Next::Enter => {
                    if let Some(entered) = self.try_enter() {
                        return Ok(entered);
                    }
                }
                Next::Wait => {
                    // It is closed with the life only, which is held here.
                    phase.changed().await.ok();
                    has_waited = true;
                }
            }
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Entered<'_>> {
        match self.gate().enter() {
            Entry::Closed => None,
            Entry::Open { tell } => {
                let place = Place(self);
                if tell {
                    self.wake_keeper();
                }
                Some(Entered { agent: self.running.load_full()?, _place: place })
            }
        }
    }

    /// Begins a start if one is due.
    fn next(self: &Arc<Self>, has_waited: bool) -> Next {
        match self.phase() {
            Phase::Running { .. } => Next::Enter,
            Phase::Starting { .. } | Phase::Stopping => Next::Wait,
            Phase::Failed(failure) if has_waited || !failure.wait().is_zero() => {
                Next::GiveUp(failure.refusal(self.agent()))
            }
            Phase::Failed(_) | Phase::Stopped => {
                self.begin();
                Next::Wait
            }
        }
    }
}

impl Deref for Entered<'_> {
    type Target = dyn Agent;

    fn deref(&self) -> &Self::Target {
        &*self.agent.0
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if self.0.gate().leave() {
            self.0.wake_keeper();
        }
    }
}
