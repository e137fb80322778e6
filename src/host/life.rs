//! The life of one agent in this process: it is started once for all who wait for it, kept while calls
//! run in it, stopped, and after a failed start left alone for a while. What its calls do is not known
//! here.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::sync::{Notify, watch};
use tokio::task::spawn_blocking;
use tokio::time::Instant;
use uuid::Uuid;

use super::gate::{Entry, Gate};
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
    running: ArcSwapOption<Running>,
    phase: watch::Sender<Phase>,
    has_keeper: AtomicBool,
    wake: Arc<Notify>,
}

/// The agent, in a sized box for `ArcSwapOption`.
struct Running(Arc<dyn Agent>);

/// Where an agent stands between two starts.
#[derive(Clone)]
pub(super) enum Phase {
    Stopped,
    /// So many starts failed before this one.
    Starting {
        failed: u32,
    },
    Running {
        took: Duration,
    },
    Failed(StartFailure),
    Stopping,
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

    /// Starts the agent unless it runs, and says what came of it.
    ///
    /// # Cancel safety
    /// A start that has begun is carried to its end.
    pub async fn ready(self: &Arc<Self>) -> Started {
        let ran = matches!(*self.phase.borrow(), Phase::Running { .. });
        let agent = Arc::clone(&self.agent);
        match self.enter().await {
            Ok(_entered) => {
                let took = match *self.phase.borrow() {
                    Phase::Running { took } if !ran => Some(took),
                    Phase::Running { .. }
                    | Phase::Stopped
                    | Phase::Starting { .. }
                    | Phase::Failed(_)
                    | Phase::Stopping => None,
                };
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
        let mut phase = self.phase.subscribe();
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
                    // The sender is in here, so it is there.
                    phase.changed().await.ok();
                    has_waited = true;
                }
            }
        }
    }

    fn try_enter(self: &Arc<Self>) -> Option<Entered<'_>> {
        match self.gate.enter() {
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
                Next::GiveUp(failure.refusal(&self.agent))
            }
            Phase::Failed(_) | Phase::Stopped => {
                self.begin();
                Next::Wait
            }
        }
    }

    /// Begins a start, unless the agent runs, one is under way or the last one has just failed.
    pub(super) fn begin(self: &Arc<Self>) {
        let begins = self.phase.send_if_modified(|phase| {
            let failed = match phase {
                Phase::Stopped => 0,
                Phase::Failed(failure) if failure.wait().is_zero() => failure.attempts,
                Phase::Failed(_)
                | Phase::Starting { .. }
                | Phase::Running { .. }
                | Phase::Stopping => return false,
            };
            *phase = Phase::Starting { failed };
            self.publish(State::Starting);
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
            let failed = match phase {
                Phase::Starting { failed } => *failed,
                Phase::Stopped | Phase::Running { .. } | Phase::Failed(_) | Phase::Stopping => 0,
            };
            seen_before = failed > 0;
            let attempts = failed.saturating_add(1);
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
    fn wake_keeper(self: &Arc<Self>) {
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

    pub(super) fn phases(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
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
        if self.0.gate.leave() {
            self.0.wake_keeper();
        }
    }
}

/// How long to leave an agent alone after so many failed starts: shorter by up to a quarter at random,
/// so that what failed together is not tried together.
fn pause(attempts: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let whole = RETRY_FIRST.saturating_mul(1 << doublings).min(RETRY_LONGEST);
    let part = f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX);
    whole.mul_f64(1.0 - part / 4.0)
}
