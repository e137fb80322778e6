//! The workers that run, by user and profile: one is started for all who wait for it, and after failed
//! starts or quick ends left alone for a while. What calls do in it is not known here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::link::{Entered, Link};
use super::starter::Starter;
use super::{Config, keeper};
use crate::error::{Error, ErrorKind};
use crate::host::life::pause;
use crate::host::state::StartFailure;
use crate::metrics::{Metrics, WorkerEnd};
use crate::wire;

/// A worker that ends by itself sooner than this has failed to start, as far as the next start goes.
const SHORT_LIFE: Duration = Duration::from_secs(5);

/// So many failures, one after the other, are taken for accidents, after which the next start follows
/// at once.
const ACCIDENTS: u32 = 3;

/// How many users and profiles without a worker are remembered.
const REMEMBERED: usize = 1024;

/// Whose worker, and for what.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    pub(super) uid: u32,
    pub(super) profile: Box<str>,
}

/// All workers.
pub struct Workers {
    pub(super) config: Config,
    /// `None`: there are to be no workers.
    starter: Option<Box<dyn Starter>>,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

/// Where the worker of one user and profile is, if there is one.
pub(super) struct Slot {
    pub(super) key: Key,
    link: ArcSwapOption<Link>,
    /// Held while a worker is started.
    starting: tokio::sync::Mutex<()>,
    failure: Mutex<Option<StartFailure>>,
}

impl Workers {
    /// Workers that `starter` starts.
    #[must_use]
    pub fn new(config: Config, starter: Box<dyn Starter>, metrics: Arc<Metrics>) -> Arc<Self> {
        Self::with(config, Some(starter), metrics)
    }

    /// No workers: calls that need one are refused.
    #[must_use]
    pub fn disabled(metrics: Arc<Metrics>) -> Arc<Self> {
        Self::with(Config::default(), None, metrics)
    }

    fn with(config: Config, starter: Option<Box<dyn Starter>>, metrics: Arc<Metrics>) -> Arc<Self> {
        let places = Arc::new(Semaphore::new(config.max));
        Arc::new(Self { config, starter, slots: Mutex::default(), places, metrics })
    }

    /// How workers are started, for people.
    #[must_use]
    pub fn describe(&self) -> String {
        match &self.starter {
            Some(starter) => starter.describe(),
            None => "none are started ([worker] enabled is false)".to_owned(),
        }
    }

    /// The worker of this user and profile, which is started if it does not run.
    ///
    /// # Errors
    /// `SandboxUnavailable` or `AccessDenied` if there is to be none; `LimitExceeded` naming
    /// `worker.max`; `BackendUnavailable` if it cannot be started, or could not shortly before.
    ///
    /// # Cancel safety
    /// A start that has begun is carried to its end.
    pub(super) async fn enter(self: &Arc<Self>, uid: u32, profile: &str) -> Result<Entered, Error> {
        self.admits(uid)?;
        let slot = self.slot(Key { uid, profile: profile.into() });
        if let Some(entered) = slot.enter() {
            return Ok(entered);
        }
        let starting = tokio::spawn(Arc::clone(self).start(slot));
        starting.await.unwrap_or_else(|_| Err(Error::internal("starting a worker broke")))
    }

    /// The workers of a user that run now.
    pub(super) fn running(&self, uid: u32) -> Vec<Entered> {
        let slots = self.slots();
        let own = slots.values().filter(|slot| slot.key.uid == uid);
        own.filter_map(|slot| slot.enter()).collect()
    }

    /// Ends every worker. Only when no calls come any more; a worker that calls are in is killed.
    pub async fn stop(&self) {
        for slot in self.slots().drain() {
            if let Some(link) = slot.1.link.swap(None) {
                link.close_if_idle();
            }
        }
        let all = u32::try_from(self.config.max).unwrap_or(u32::MAX);
        timeout(keeper::END_GRACE, self.places.acquire_many(all)).await.ok();
    }

    fn admits(&self, uid: u32) -> Result<(), Error> {
        let Some(starter) = &self.starter else {
            let text = "agents that act as their caller are not served: [worker] enabled is false";
            return Err(Error::new(ErrorKind::SandboxUnavailable, text));
        };
        let least = self.config.min_uid;
        if uid < least {
            let text = format!("no worker acts as uid {uid}: [worker] min_uid is {least}");
            return Err(Error::new(ErrorKind::AccessDenied, text)
                .with_fact("limit", "worker.min_uid")
                .with_fact("limit_value", least.to_string()));
        }
        starter.admits(uid)
    }

    fn slot(&self, key: Key) -> Arc<Slot> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get(&key) {
            return Arc::clone(slot);
        }
        if slots.len() >= REMEMBERED {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1 || slot.is_needed());
        }
        let slot = Arc::new(Slot {
            key: key.clone(),
            link: ArcSwapOption::empty(),
            starting: tokio::sync::Mutex::default(),
            failure: Mutex::default(),
        });
        slots.insert(key, Arc::clone(&slot));
        slot
    }

    async fn start(self: Arc<Self>, slot: Arc<Slot>) -> Result<Entered, Error> {
        let _starting = slot.starting.lock().await;
        if let Some(entered) = slot.enter() {
            return Ok(entered);
        }
        if let Some(failure) = slot.failure().clone()
            && !failure.wait().is_zero()
        {
            return Err(slot.refusal(&failure));
        }
        let limit = self.config.start_timeout;
        let outcome = timeout(limit, self.begin(&slot)).await.unwrap_or_else(|_| {
            let text = format!("it was not ready within {} ms", limit.as_millis());
            Err(Error::new(ErrorKind::BackendUnavailable, text))
        });
        self.metrics.workers().started(outcome.is_ok());
        outcome.map_err(|error| {
            // These are about the caller, and no failure of what starts workers.
            let refusals = [ErrorKind::LimitExceeded, ErrorKind::AccessDenied, ErrorKind::NotFound];
            if refusals.contains(&error.kind()) {
                return error;
            }
            slot.refusal(&slot.failed(error))
        })
    }

    async fn begin(self: &Arc<Self>, slot: &Arc<Slot>) -> Result<Entered, Error> {
        let place = self.place().await?;
        let Key { uid, profile } = &slot.key;
        let starter = self.starter.as_ref().ok_or_else(|| Error::internal("nobody starts it"))?;
        let begun = Instant::now();
        let process = starter.start(*uid, profile).await?;
        let (link, wire) = Link::new(process.socket, *uid, process.pid, &self.config).await?;
        // Before what enters it, so that it is dropped after that.
        let _unready = Unready(Arc::clone(&link));
        let entered = link.enter();
        self.metrics.workers().began();
        let kept = keeper::Kept { link: Arc::clone(&link), wire, leash: process.leash, place };
        tokio::spawn(keeper::keep(Arc::clone(self), Arc::clone(slot), kept));
        let entered = entered.ok_or_else(|| Error::internal("a worker ended as it began"))?;
        entered.ask(wire::HELLO, Bytes::new()).await.map_err(|error| {
            let text =
                format!("it ended before it was ready; its messages are in the log ({error})");
            Error::new(ErrorKind::BackendUnavailable, text)
        })?;
        let took_us = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
        tracing::info!(
            worker_uid = *uid,
            worker_pid = process.pid,
            profile = &**profile,
            took_us,
            "{} has started",
            link.name()
        );
        link.set_ready();
        slot.link.store(Some(link));
        Ok(entered)
    }

    /// Room for one worker more, which may be that of one that is idle.
    async fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        let idle = {
            let slots = self.slots();
            let mut links: Vec<_> =
                slots.values().filter_map(|slot| slot.link.load_full()).collect();
            links.sort_by_key(|link| std::cmp::Reverse(link.idle()));
            links.into_iter().any(|link| link.close_if_idle())
        };
        if !idle {
            let max = self.config.max;
            return Err(Error::limit("worker.max", max, "every worker that there may be is busy"));
        }
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.map_err(|_| Error::internal("the places of workers are closed"))
    }

    /// Notes that a worker has ended.
    pub(super) fn ended(&self, slot: &Slot, link: &Arc<Link>, reason: WorkerEnd, why: &str) {
        self.metrics.workers().ended(reason);
        // Else the start itself has failed, and whoever waits for it notes that.
        if !link.was_ready() {
            return;
        }
        // Another may have been started since.
        if slot.link.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            slot.link.store(None);
        }
        if link.age() >= SHORT_LIFE {
            *slot.failure() = None;
        } else if reason == WorkerEnd::Lost {
            let text = format!("it ended soon after it had started: {why}");
            slot.failed(Error::new(ErrorKind::BackendUnavailable, text));
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        // Every change is one insertion or removal.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a worker of which nobody has heard in time that it is ready: nobody would find it.
struct Unready(Arc<Link>);

impl Drop for Unready {
    fn drop(&mut self) {
        if !self.0.was_ready() {
            self.0.close_if_idle();
        }
    }
}

impl Slot {
    fn enter(&self) -> Option<Entered> {
        self.link.load_full()?.enter()
    }

    fn is_needed(&self) -> bool {
        self.link.load().is_some()
            || self.failure().as_ref().is_some_and(|failure| !failure.wait().is_zero())
    }

    /// Notes that a start came to nothing.
    fn failed(&self, error: Error) -> StartFailure {
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

    fn refusal(&self, failure: &StartFailure) -> Error {
        let Key { uid, profile } = &self.key;
        let text = format!("the worker of uid {uid} cannot be started: {}", failure.error);
        let refusal = Error::new(ErrorKind::BackendUnavailable, text)
            .with_fact("worker_uid", uid.to_string())
            .with_fact("cause", failure.error.kind().reason())
            .with_retry_after(failure.wait());
        if profile.is_empty() { refusal } else { refusal.with_fact("profile", profile.to_string()) }
    }

    fn failure(&self) -> MutexGuard<'_, Option<StartFailure>> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
