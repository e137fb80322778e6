//! What an agent that runs in many workers does as a whole: running if any of them runs, busy if any call
//! runs in one, failed if the last start failed and none runs. It starts and ends nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use crate::agents::Start;
use crate::contract::Service;
use crate::host::gate::{Entry, Gate};
use crate::host::roster::Roster;
use crate::host::state::{Condition, StartFailure, State};
use crate::metrics::{AgentMetrics, Metrics};

/// The least time between two changes between running and busy that are told.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// One agent.
pub(super) struct Standing {
    pub(super) agent: Arc<str>,
    /// Those of its operations in workers, each once.
    pub(super) profiles: Vec<Box<str>>,
    start: Start,
    roster: Arc<Roster>,
    metrics: AgentMetrics,
    calls: Gate,
    facts: Mutex<Facts>,
    wake: Arc<Notify>,
}

/// What the state follows from.
#[derive(Default)]
struct Facts {
    /// These two may be below 0 for a moment: a worker can end before its start has been told.
    starting: i64,
    running: i64,
    busy: bool,
    /// Of the last start.
    failure: Option<StartFailure>,
    told: Option<State>,
}

/// A call in the agent, until this is dropped.
pub(super) struct Calling<'a>(&'a Standing);

/// How a start of a worker has ended.
pub(super) enum Outcome {
    /// The worker runs.
    Running,
    Failed(StartFailure),
    /// There was to be none.
    Refused,
}

impl Standing {
    /// Must be called in a runtime.
    pub(super) fn new(
        service: &Service,
        start: Start,
        roster: &Arc<Roster>,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let in_workers = service.operations.iter().filter(|operation| !operation.in_daemon);
        let mut profiles: Vec<Box<str>> =
            in_workers.map(|operation| operation.sandbox.as_str().into()).collect();
        profiles.sort_unstable();
        profiles.dedup();
        let standing = Arc::new(Self {
            agent: service.id.as_str().into(),
            profiles,
            start,
            roster: Arc::clone(roster),
            metrics: metrics.agent(&service.id, &State::NAMES),
            calls: Gate::new(),
            facts: Mutex::default(),
            wake: Arc::default(),
        });
        standing.calls.open();
        standing.change(|_| {});
        tokio::spawn(look_at_calls(Arc::downgrade(&standing), Arc::clone(&standing.wake)));
        standing
    }

    /// Notes a call.
    pub(super) fn calling(&self) -> Calling<'_> {
        // It is never closed.
        if self.calls.enter() == (Entry::Open { tell: true }) {
            self.wake.notify_one();
        }
        Calling(self)
    }

    /// True if the agent is to be ready with sessions.
    pub(super) fn starts_with_session(&self) -> bool {
        self.start == Start::WithSession
    }

    /// True if workers of this profile serve the agent.
    pub(super) fn is_in(&self, profile: &str) -> bool {
        self.profiles.iter().any(|own| **own == *profile)
    }

    /// True if a session of the user wants the agent to stay.
    pub(super) fn is_wanted(&self, uid: u32) -> bool {
        self.starts_with_session() && self.roster.has_session(uid)
    }

    /// Notes that a worker is being started.
    pub(super) fn starts(&self) {
        self.change(|facts| facts.starting += 1);
    }

    /// Notes what came of a start.
    pub(super) fn started(&self, outcome: &Outcome, took: Duration) {
        match outcome {
            Outcome::Running => self.metrics.started(true, took),
            Outcome::Failed(_) => self.metrics.started(false, took),
            Outcome::Refused => {}
        }
        self.change(|facts| {
            facts.starting -= 1;
            match outcome {
                Outcome::Running => {
                    facts.running += 1;
                    facts.failure = None;
                }
                Outcome::Failed(failure) => {
                    facts.failure = Some(failure.clone());
                    // The reason may be another one.
                    facts.told = facts.told.filter(|told| *told != State::Failed);
                }
                Outcome::Refused => {}
            }
        });
    }

    /// Notes that a worker has ended; `failure`: so soon that its start counts as failed.
    pub(super) fn ended(&self, failure: Option<StartFailure>) {
        self.change(|facts| {
            facts.running -= 1;
            facts.failure = failure.or(facts.failure.take());
        });
    }

    fn change(&self, change: impl FnOnce(&mut Facts)) {
        let mut facts = self.facts();
        change(&mut facts);
        let state = facts.state();
        if facts.told == Some(state) {
            return;
        }
        facts.told = Some(state);
        self.metrics.is_in(state.index());
        let (agent, failure) = (Arc::clone(&self.agent), facts.failure.clone());
        // Under the lock, so that the last to be told is the last.
        self.roster.publish(Condition { agent, state, failure, took: None });
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        // Each change is whole before anything can panic.
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Facts {
    fn state(&self) -> State {
        match self {
            Self { running: 1.., busy: true, .. } => State::Busy,
            Self { running: 1.., .. } => State::Running,
            Self { starting: 1.., .. } => State::Starting,
            Self { failure: Some(_), .. } => State::Failed,
            Self { .. } => State::Stopped,
        }
    }
}

impl Drop for Calling<'_> {
    fn drop(&mut self) {
        if self.0.calls.leave() {
            self.0.wake.notify_one();
        }
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        // Who looks at it sees that it is gone.
        self.wake.notify_one();
    }
}

/// Tells when calls begin to run in the agent and when none does any more.
async fn look_at_calls(standing: Weak<Standing>, wake: Arc<Notify>) {
    loop {
        wake.notified().await;
        {
            let Some(standing) = standing.upgrade() else { return };
            // Armed first: what begins after that comes back here.
            standing.calls.arm();
            let busy = standing.calls.is_busy();
            standing.change(|facts| facts.busy = busy);
        }
        sleep(LOOK_EVERY).await;
    }
}
