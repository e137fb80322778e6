//! Idempotency of tasks: a call with the request id of one that was started gives that one's task. A
//! task that is not kept any more is no longer known here either.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::time::Instant;

use super::repeats::{Key, same_request};
use super::share::{Remembered, Share};
use super::{Config, Input, Route};
use crate::error::Error;
use crate::task::{State, Task};

/// The tasks that were started with request ids.
#[derive(Default)]
pub(super) struct Started(Mutex<HashMap<Key, Entry>>);

struct Entry {
    task: Weak<Task>,
    /// None for a stream of requests, which are not compared.
    request: Option<Bytes>,
    since: Instant,
    _remembered: Remembered,
}

impl Started {
    /// The task that was started with this key, or the one that `start` gives, and whether it is that.
    ///
    /// # Errors
    /// Those of `start`; `InvalidArgument` if the request is not the one that the id was first used
    /// for; `LimitExceeded` if too many are remembered already, of everybody or of this caller.
    pub(super) fn once(
        &self,
        key: Key,
        config: &Config,
        route: &Route,
        share: &Share,
        input: &Input,
        start: impl FnOnce() -> Result<Arc<Task>, Error>,
    ) -> Result<(Arc<Task>, bool), Error> {
        let request = match input {
            Input::One(request) => Some(request.clone()),
            Input::Many(_) => None,
        };
        let mut entries = self.entries();
        let known = entries.get(&key).filter(|entry| entry.counts(config));
        if let Some((known, task)) = known.and_then(|entry| Some((entry, entry.task.upgrade()?))) {
            if let (Some(first), Some(second)) = (&known.request, &request) {
                same_request(route, first, second)?;
            }
            return Ok((task, false));
        }
        if entries.len() >= config.request_id_max {
            entries.retain(|_, entry| entry.counts(config));
        }
        if entries.len() >= config.request_id_max {
            return Err(Error::limit(
                "executor.request_id_max",
                config.request_id_max,
                "too many tasks with request ids are remembered",
            ));
        }
        let bytes = request.as_ref().map_or(0, Bytes::len);
        let remembered = share.remember(bytes).or_else(|_full| {
            entries.retain(|_, entry| entry.counts(config));
            share.remember(bytes)
        })?;
        let task = start()?;
        let since = Instant::now();
        let entry = Entry { task: Arc::downgrade(&task), request, since, _remembered: remembered };
        entries.insert(key, entry);
        Ok((task, true))
    }

    /// Forgets tasks that were started longer ago than the configured time.
    pub(super) fn sweep(&self, config: &Config) {
        self.entries().retain(|_, entry| entry.counts(config));
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        // A panic while the lock is held cannot leave the map half-changed: each use is one operation.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    /// True if the same call, sent again, is to give the same task: not if it was turned away before
    /// it did anything, so that sending it again is to run it.
    fn counts(&self, config: &Config) -> bool {
        self.task.upgrade().is_some_and(|task| {
            let state = task.state();
            state != State::Rejected
                && (!state.is_final() || self.since.elapsed() < config.request_id_ttl)
        })
    }
}
