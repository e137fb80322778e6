//! The agents that start and stop, with what each does now and what becomes of them, and whose sessions
//! want them. It starts and stops nothing.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{broadcast, watch};

use super::state::Condition;

/// How many changes are kept for a receiver that is slow; one that misses more is given the present
/// conditions instead.
const CHANGES_KEPT: usize = 256;

/// The conditions of all agents.
pub struct Roster {
    conditions: Mutex<BTreeMap<Arc<str>, Condition>>,
    changes: broadcast::Sender<Condition>,
    /// How many sessions each user has, who has any.
    sessions: watch::Sender<HashMap<u32, usize>>,
}

impl Default for Roster {
    fn default() -> Self {
        Self {
            conditions: Mutex::default(),
            changes: broadcast::Sender::new(CHANGES_KEPT),
            sessions: watch::Sender::default(),
        }
    }
}

impl Roster {
    /// What every agent does now, sorted by id.
    #[must_use]
    pub fn conditions(&self) -> Vec<Condition> {
        self.lock().values().cloned().collect()
    }

    /// What one agent does now; `None` if it does not start and stop.
    #[must_use]
    pub fn condition(&self, agent: &str) -> Option<Condition> {
        self.lock().get(agent).cloned()
    }

    /// What every agent does now, and every change from then on.
    #[must_use]
    pub fn changes(self: &Arc<Self>) -> Changes {
        // Under the lock, so that a change is either among the present conditions or comes later.
        let conditions = self.lock();
        Changes {
            roster: Arc::clone(self),
            receiver: self.changes.subscribe(),
            present: conditions.values().cloned().collect(),
        }
    }

    /// Notes that a session of the user is open, until the hold is dropped.
    pub fn session_opened(self: &Arc<Self>, uid: u32) -> SessionHold {
        self.sessions.send_if_modified(|open| {
            let own = open.entry(uid).or_default();
            *own += 1;
            // Only who has any matters to those who wait for it.
            *own == 1
        });
        SessionHold { roster: Arc::clone(self), uid }
    }

    /// Who has sessions that are open, and how many.
    pub(super) fn sessions(&self) -> watch::Receiver<HashMap<u32, usize>> {
        self.sessions.subscribe()
    }

    /// True if a session of the user is open.
    pub(super) fn has_session(&self, uid: u32) -> bool {
        self.sessions.borrow().contains_key(&uid)
    }

    /// Tells what an agent does from now on.
    pub(super) fn publish(&self, condition: Condition) {
        let mut conditions = self.lock();
        conditions.insert(Arc::clone(&condition.agent), condition.clone());
        // An error means that nobody listens.
        self.changes.send(condition).ok();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Condition>> {
        // Each change is one insertion, so a panic elsewhere leaves nothing half-done.
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A session that is open. While there is one, the agents that start with sessions are kept running.
#[must_use = "dropping it says that the session has ended"]
pub struct SessionHold {
    roster: Arc<Roster>,
    uid: u32,
}

impl Drop for SessionHold {
    fn drop(&mut self) {
        self.roster.sessions.send_if_modified(|open| {
            let Some(own) = open.get_mut(&self.uid) else { return false };
            *own -= 1;
            let is_last = *own == 0;
            if is_last {
                open.remove(&self.uid);
            }
            is_last
        });
    }
}

/// First what every agent does, then every change.
pub struct Changes {
    roster: Arc<Roster>,
    receiver: broadcast::Receiver<Condition>,
    /// What is told before further changes.
    present: VecDeque<Condition>,
}

impl Changes {
    /// The same without what every agent does now.
    #[must_use]
    pub fn to_come(mut self) -> Self {
        self.present.clear();
        self
    }

    /// The next condition of an agent. A receiver that was too slow for the changes is given the
    /// present conditions of all agents anew: it misses what was in between, never the last one.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Condition {
        loop {
            if let Some(condition) = self.present.pop_front() {
                return condition;
            }
            match self.receiver.recv().await {
                Ok(condition) => return condition,
                // Never closed: the roster that sends is held here.
                Err(
                    broadcast::error::RecvError::Lagged(_) | broadcast::error::RecvError::Closed,
                ) => {
                    *self = self.roster.changes();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;
    use crate::host::State;

    fn publish(roster: &Roster, agent: &str, state: State) {
        roster.publish(Condition { agent: agent.into(), state, failure: None, took: None });
    }

    fn told(changes: &mut Changes) -> Vec<(String, State)> {
        let next = || changes.next().now_or_never();
        std::iter::from_fn(next).map(|told| (told.agent.to_string(), told.state)).collect()
    }

    #[test]
    fn who_is_too_slow_for_the_changes_is_told_the_present_once() {
        let roster = Arc::new(Roster::default());
        publish(&roster, "quiet", State::Stopped);
        publish(&roster, "loud", State::Stopped);
        let mut changes = roster.changes();
        publish(&roster, "quiet", State::Failed);
        for _ in 0..CHANGES_KEPT {
            publish(&roster, "loud", State::Running);
            publish(&roster, "loud", State::Busy);
        }
        let present = |loud| vec![("loud".to_owned(), loud), ("quiet".to_owned(), State::Failed)];
        let before =
            vec![("loud".to_owned(), State::Stopped), ("quiet".to_owned(), State::Stopped)];
        assert_eq!(told(&mut changes), [before, present(State::Busy)].concat());
        publish(&roster, "loud", State::Stopping);
        assert_eq!(told(&mut changes), [("loud".to_owned(), State::Stopping)]);
    }
}
