//! The life of one agent in this process: it is started once for all who wait for it, kept while calls
//! run in it, stopped, and after a failed start left alone for a while. What its calls do is not known
//! here.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use uuid::Uuid;

use super::gate::Gate;
use super::keeper;
use super::roster::Roster;
use super::state::{Condition, StartFailure, State};
use crate::agents::Start;
use crate::contract::Agent;
use crate::error::Error;
use crate::events;
use crate::metrics::{AgentMetrics, Metrics};

/// How long an agent is left alone after its first failed start; each further one doubles it.
const RETRY_FIRST: Duration = Duration::from_millis(250);

/// The longest such time.
const RETRY_LONGEST: Duration = Duration::from_secs(60);

/// Builds an agent. It runs on a thread of its own, since it may open files.
pub type Build = dyn Fn() -> Result<Arc<dyn Agent>, Error> + Send + Sync;

/// How an agent lives.
pub struct Plan {
    /// The agent's id.
    pub agent: Arc<str>,
    /// When it starts.
    pub start: Start,
    /// After what time without calls it stops (`[agents] idle_stop_ms`); `None`: never. One that
    /// starts with the daemon never stops, one that starts with sessions not while any is open.
    pub idle_stop: Option<Duration>,
    /// Starts it.
    pub build: Box<Build>,
}

/// The life of one agent.
pub struct Life {
    agent: Arc<str>,
    start: Start,
    idle_stop: Option<Duration>,
    build: Arc<Build>,
    roster: Arc<Roster>,
    metrics: AgentMetrics,
    gate: Gate,
    /// There while the gate is open.
    pub(super) running: ArcSwapOption<Running>,
    phase: watch::Sender<Phase>,
    has_keeper: AtomicBool,
    wake: Arc<Notify>,
}

/// The agent, in a sized box for `ArcSwapOption`.
pub(super) struct Running(pub(super) Arc<dyn Agent>);

/// Where an agent stands between two starts.
#[derive(Clone)]
pub(super) enum Phase {
    Stopped,
    /// The start before this one may have failed.
    Starting {
        failed: Option<StartFailure>,
    },
    Running {
        took: Duration,
    },
    Failed(StartFailure),
    Stopping,
}

impl Life {
    /// The life of an agent that is not started yet. What becomes of it is told to `roster`.
    #[must_use]
    pub fn new(plan: Plan, roster: &Arc<Roster>, metrics: &Metrics) -> Arc<Self> {
        let Plan { agent, start, idle_stop, build } = plan;
        let life = Arc::new(Self {
            metrics: metrics.agent(&agent, &State::NAMES),
            agent,
            start,
            idle_stop: idle_stop.filter(|_| start != Start::WithDaemon),
            build: build.into(),
            roster: Arc::clone(roster),
            gate: Gate::new(),
            running: ArcSwapOption::empty(),
            phase: watch::Sender::new(Phase::Stopped),
            has_keeper: AtomicBool::new(false),
            wake: Arc::default(),
        });
        life.publish(State::Stopped);
        life
    }

    /// The agent's id.
    #[must_use]
    pub fn agent(&self) -> &Arc<str> {
        &self.agent
    }

    /// When the agent starts.
    #[must_use]
    pub fn start(&self) -> Start {
        self.start
    }

    /// True if the agent is to be ready when a session has started; `by_contract`: its contract says so.
    #[must_use]
    pub fn is_ready_with_sessions(&self, by_contract: bool) -> bool {
        match self.start {
            Start::WithSession => true,
            Start::WithDaemon => by_contract,
            Start::AtFirstCall => false,
        }
    }

    /// Starts the agent on this thread, before there are calls.
    ///
    /// # Errors
    /// The agent's own, if it cannot be started. It may be tried again.
    pub fn start_here(&self) -> Result<(), Error> {
        let begun = Instant::now();
        let outcome = (self.build)();
        self.metrics.started(outcome.is_ok(), begun.elapsed());
        self.opened(outcome?, begun.elapsed());
        Ok(())
    }

    /// Begins a start, unless the agent runs, one is under way or the last one has just failed.
    pub(super) fn begin(self: &Arc<Self>) {
        let begins = self.phase.send_if_modified(|phase| {
            let failed = match phase {
                Phase::Stopped => None,
                Phase::Failed(failure) if failure.wait().is_zero() => Some(failure.clone()),
                Phase::Failed(_)
                | Phase::Starting { .. }
                | Phase::Running { .. }
                | Phase::Stopping => return false,
            };
            *phase = Phase::Starting { failed: failed.clone() };
            self.tell(State::Starting, failed, None);
            true
        });
        if begins {
            self.wake_keeper();
            // Apart from whoever waits for it: others may, too.
            tokio::spawn(Arc::clone(self).run_start());
        }
    }

    async fn run_start(self: Arc<Self>) {
        let begun = Instant::now();
        let build = Arc::clone(&self.build);
        let outcome = spawn_blocking(move || build()).await.unwrap_or_else(|_panic| {
            Err(Error::internal("it panicked while it was started; the service's log says where"))
        });
        let took = begun.elapsed();
        self.metrics.started(outcome.is_ok(), took);
        match outcome {
            Ok(agent) => self.opened(agent, took),
            Err(error) => self.failed(error),
        }
    }

    fn opened(&self, agent: Arc<dyn Agent>, took: Duration) {
        self.running.store(Some(Arc::new(Running(agent))));
        self.phase.send_modify(|phase| {
            *phase = Phase::Running { took };
            self.gate.open();
            self.tell(State::Running, None, Some(took));
        });
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        tracing::info!(agent = &*self.agent, took_us, "agent {} has started", self.agent);
    }

    fn failed(&self, error: Error) {
        let mut seen_before = false;
        self.phase.send_modify(|phase| {
            let before = match phase {
                Phase::Starting { failed: Some(failed) } => failed.attempts,
                Phase::Starting { failed: None }
                | Phase::Stopped
                | Phase::Running { .. }
                | Phase::Failed(_)
                | Phase::Stopping => 0,
            };
            seen_before = before > 0;
            let attempts = before.saturating_add(1);
            let retry_at = Instant::now() + pause(attempts);
            let failure = StartFailure { error: error.clone(), attempts, retry_at };
            *phase = Phase::Failed(failure.clone());
            self.tell(State::Failed, Some(failure), None);
        });
        if seen_before {
            tracing::debug!(agent = &*self.agent, %error, "agent {} has failed again", self.agent);
        } else {
            tracing::error!(
                message_id = events::AGENT_FAILED,
                agent = &*self.agent,
                reason = error.kind().reason(),
                "agent {} cannot be started: {error}",
                self.agent
            );
        }
    }

    /// Stops the agent unless a call is in it.
    pub(super) async fn stop(&self) {
        let stops = self.phase.send_if_modified(|phase| {
            // Closed under the lock of the phase, so that who finds it closed finds out why.
            let closed = self.gate.close_if_empty();
            if closed {
                *phase = Phase::Stopping;
                self.publish(State::Stopping);
            }
            closed
        });
        if !stops {
            return;
        }
        let agent = self.running.swap(None);
        if spawn_blocking(move || drop(agent)).await.is_err() {
            tracing::error!(
                agent = &*self.agent,
                "agent {} panicked while it was stopped",
                self.agent
            );
        }
        self.phase.send_modify(|phase| {
            *phase = Phase::Stopped;
            self.publish(State::Stopped);
        });
        tracing::info!(agent = &*self.agent, "agent {} was idle and has stopped", self.agent);
    }

    /// Tells that the agent is in a state that needs no explanation.
    pub(super) fn publish(&self, state: State) {
        self.tell(state, None, None);
    }

    fn tell(&self, state: State, failure: Option<StartFailure>, took: Option<Duration>) {
        self.metrics.is_in(state.index());
        self.roster.publish(Condition { agent: Arc::clone(&self.agent), state, failure, took });
    }

    /// Wakes the keeper, of which there is none before it is first needed.
    pub(super) fn wake_keeper(self: &Arc<Self>) {
        if self.has_keeper.swap(true, Ordering::Relaxed) {
            self.wake.notify_one();
        } else {
            tokio::spawn(keeper::keep(Arc::downgrade(self), Arc::clone(&self.wake)));
        }
    }

    pub(super) fn idle_stop(&self) -> Option<Duration> {
        self.idle_stop
    }

    pub(super) fn starts_with_session(&self) -> bool {
        self.start == Start::WithSession
    }

    pub(super) fn gate(&self) -> &Gate {
        &self.gate
    }

    pub(super) fn roster(&self) -> &Roster {
        &self.roster
    }

    pub(super) fn phase(&self) -> Phase {
        self.phase.borrow().clone()
    }

    /// How long the start took; `None` if the agent does not run.
    pub(super) fn took(&self) -> Option<Duration> {
        if let Phase::Running { took } = *self.phase.borrow() { Some(took) } else { None }
    }

    pub(super) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }
}

/// How long to leave an agent alone after so many failed starts: shorter by up to a quarter at random,
/// so that what failed together is not tried together.
pub(super) fn pause(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let whole = RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_LONGEST);
    let part = f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
    whole.mul_f64(1.0 - part / 4.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound() {
        for (attempts, most) in [(1, 250), (2, 500), (5, 4_000), (9, 60_000), (u32::MAX, 60_000)] {
            let most = Duration::from_millis(most);
            for _ in 0..100 {
                let pause = pause(attempts);
                assert!(pause <= most && pause >= most * 3 / 4, "{attempts}: {pause:?}");
            }
        }
    }
}
