//! Where the worker of one user and profile is, if there is one, and how long it is left alone after
//! starts that failed. It starts none.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::link::{Entered, Link};
use crate::error::{Error, ErrorKind};
use crate::host::life::pause;
use crate::host::state::StartFailure;

/// So many failures, one after the other, are taken for accidents, after which the next start follows
/// at once.
const ACCIDENTS: u32 = 3;

/// Whose worker, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) uid: u32,
    pub(super) profile: Box<str>,
}

/// Where the worker of one user and profile is, if there is one.
pub(super) struct Slot {
    pub(super) key: Key,
    pub(super) link: ArcSwapOption<Link>,
    /// Held while a worker is started.
    pub(super) starting: tokio::sync::Mutex<()>,
    failure: Mutex<Option<StartFailure>>,
}

impl Slot {
    pub(super) fn new(key: Key) -> Self {
        let starting = tokio::sync::Mutex::default();
        Self { key, link: ArcSwapOption::empty(), starting, failure: Mutex::default() }
    }

    /// Begins a call in the worker, if one runs.
    pub(super) fn enter(&self) -> Option<Entered> {
        self.link.load_full()?.enter()
    }

    /// True if what is known here must be remembered.
    pub(super) fn is_needed(&self) -> bool {
        self.link.load().is_some()
            || self.failure().as_ref().is_some_and(|failure| !failure.wait().is_zero())
    }

    /// Notes that a start came to nothing.
    pub(super) fn failed(&self, error: Error) -> StartFailure {
        let mut failure = self.failure();
        let attempts = failure.as_ref().map_or(0, |failure| failure.attempts).saturating_add(1);
        let wait = match attempts.saturating_sub(ACCIDENTS) {
            0 => Duration::ZERO,
            further => pause(further),
        };
        let failed = StartFailure { error, attempts, retry_at: Instant::now() + wait };
        *failure = Some(failed.clone());
        failed
    }

    /// What a call is told that needs the worker.
    pub(super) fn refusal(&self, failure: &StartFailure) -> Error {
        let Key { uid, profile } = &self.key;
        let text = format!("the worker of uid {uid} cannot be started: {}", failure.error);
        let refusal = Error::new(ErrorKind::BackendUnavailable, text)
            .with_fact("worker_uid", uid.to_string())
            .with_fact("cause", failure.error.kind().reason())
            .with_retry_after(failure.wait());
        if profile.is_empty() { refusal } else { refusal.with_fact("profile", profile.to_string()) }
    }

    /// The last start, if it failed.
    pub(super) fn failure(&self) -> MutexGuard<'_, Option<StartFailure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
