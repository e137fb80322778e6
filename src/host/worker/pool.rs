//! The workers that run, by user and profile: one is started for all who wait for it, and after failed
//! starts or quick ends left alone for a while. What calls do in it is not known here.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::link::{Entered, Link};
use super::slot::{Key, Slot};
use super::standing::{Outcome, Standing};
use super::starter::Starter;
use super::{Config, keeper};
use crate::agents::WorkerSettings;
use crate::error::{Error, ErrorKind};
use crate::metrics::{Metrics, WorkerEnd};

/// A worker that ends by itself sooner than this has failed to start, as far as the next start goes.
const SHORT_LIFE: Duration = Duration::from_secs(5);

/// How many users and profiles without a worker are remembered.
const REMEMBERED: usize = 1024;

/// How long an idle worker may take to say whether something goes on in it, when its place is wanted.
const ROOM_ASKED: Duration = Duration::from_millis(500);

/// All workers.
pub struct Workers {
    pub(super) config: Config,
    /// `None`: there are to be no workers.
    starter: Option<Box<dyn Starter>>,
    slots: Mutex<HashMap<Key, Arc<Slot>>>,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    /// What every worker is told.
    settings: watch::Sender<Arc<WorkerSettings>>,
    /// The agents that workers serve.
    agents: ArcSwap<Vec<Arc<Standing>>>,
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
        Arc::new(Self {
            config,
            starter,
            slots: Mutex::default(),
            places,
            metrics,
            settings: watch::Sender::default(),
            agents: ArcSwap::default(),
        })
    }

    /// Puts the settings of the agents in force: in workers that run at once, and in those to come. A
    /// worker that does not take them up is ended.
    pub fn configure(&self, settings: WorkerSettings) {
        self.settings.send_replace(Arc::new(settings));
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Notes what becomes of workers for an agent that they serve.
    pub(super) fn serve(&self, agent: &Arc<Standing>) {
        self.agents.rcu(|agents| {
            let mut agents = Vec::clone(agents);
            agents.push(Arc::clone(agent));
            agents
        });
    }

    /// The agents that the workers of this profile serve.
    fn agents_in(&self, key: &Key) -> Vec<Arc<Standing>> {
        let agents = self.agents.load();
        agents.iter().filter(|agent| agent.is_in(&key.profile)).cloned().collect()
    }

    /// True if a worker is to stay although nobody uses it.
    pub(super) fn is_wanted(&self, key: &Key) -> bool {
        self.agents_in(key).iter().any(|agent| agent.is_wanted(key.uid))
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
                link.close_if_empty();
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
        let slot = Arc::new(Slot::new(key.clone()));
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
        let agents = self.agents_in(&slot.key);
        agents.iter().for_each(|agent| agent.starts());
        let begun = Instant::now();
        let started = self.begin(&slot, &agents).await;
        self.metrics.workers().started(started.is_ok());
        // These are about the caller, and no failure of what starts workers.
        let refusals = [ErrorKind::LimitExceeded, ErrorKind::AccessDenied, ErrorKind::NotFound];
        let error = match started {
            Ok(entered) => return Ok(entered),
            Err(error) => error,
        };
        let (outcome, error) = match refusals.contains(&error.kind()) {
            true => (Outcome::Refused, error),
            false => {
                let failure = slot.failed(error);
                let refusal = slot.refusal(&failure);
                (Outcome::Failed(failure), refusal)
            }
        };
        agents.iter().for_each(|agent| agent.started(&outcome, begun.elapsed()));
        Err(error)
    }

    async fn begin(
        self: &Arc<Self>,
        slot: &Arc<Slot>,
        agents: &[Arc<Standing>],
    ) -> Result<Entered, Error> {
        let place = self.place().await?;
        let Key { uid, profile } = &slot.key;
        let starter = self.starter.as_ref().ok_or_else(|| Error::internal("nobody starts it"))?;
        let begun = Instant::now();
        let deadline = begun + self.config.start_timeout;
        let late = |_| {
            let text =
                format!("it was not ready within {} ms", self.config.start_timeout.as_millis());
            Error::new(ErrorKind::BackendUnavailable, text)
        };
        let process = timeout_at(deadline, starter.start(*uid, profile)).await.map_err(late)??;
        let (link, wire, pings) =
            Link::new(process.socket, *uid, process.pid, &self.config).await?;
        let entered = link.enter();
        self.metrics.workers().began();
        let mut settings = self.settings.subscribe();
        let first = Arc::clone(&settings.borrow_and_update());
        let kept = keeper::Kept {
            link: Arc::clone(&link),
            wire,
            pings,
            leash: process.leash,
            settings,
            place,
        };
        tokio::spawn(keeper::keep(Arc::clone(self), Arc::clone(slot), kept));
        let entered = entered.ok_or_else(|| Error::internal("a worker ended as it began"))?;
        let told = timeout_at(deadline, link.configure(&first)).await.map_err(late);
        told.and_then(|told| told.map_err(ended_early))
            .inspect_err(|_| link.given_up.notify_one())?;
        if !link.set_ready() {
            return Err(ended_early(link.lost()));
        }
        slot.link.store(Some(Arc::clone(&link)));
        let took = begun.elapsed();
        agents.iter().for_each(|agent| agent.started(&Outcome::Running, took));
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        tracing::info!(
            worker_uid = *uid,
            worker_pid = process.pid,
            profile = &**profile,
            took_us,
            "{} has started",
            link.name()
        );
        Ok(entered)
    }

    /// Room for one worker more, which may be that of one that is idle.
    async fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        if let Ok(place) = Arc::clone(&self.places).try_acquire_owned() {
            return Ok(place);
        }
        if !self.make_room().await {
            let max = self.config.max;
            return Err(Error::limit("worker.max", max, "every worker that there may be is busy"));
        }
        let place = Arc::clone(&self.places).acquire_owned().await;
        place.map_err(|_| Error::internal("the places of workers are closed"))
    }

    /// Ends the worker that was idle for longest; false if none is.
    async fn make_room(&self) -> bool {
        let mut links: Vec<_> =
            self.slots().values().filter_map(|slot| slot.link.load_full()).collect();
        links.retain(|link| !link.idle().is_zero());
        links.sort_by_key(|link| std::cmp::Reverse(link.idle()));
        for link in links {
            let uses = link.uses();
            let asked = timeout(ROOM_ASKED, self.ask_what_goes_on(&link)).await;
            if matches!(asked, Ok(Ok(0))) && link.close_if_unused(uses) {
                return true;
            }
        }
        false
    }

    /// Asks a worker how much goes on in it, and notes that.
    ///
    /// # Errors
    /// That the worker is gone, or says nothing sensible.
    pub(super) async fn ask_what_goes_on(&self, link: &Link) -> Result<i64, Error> {
        let count = link.ask_what_goes_on().await?;
        self.metrics.workers().goes_on(count - link.goes_on(count));
        Ok(count)
    }

    /// Notes that a worker has ended.
    pub(super) fn ended(&self, slot: &Slot, link: &Arc<Link>, reason: WorkerEnd, why: &str) {
        self.metrics.workers().ended(reason);
        self.metrics.workers().goes_on(-link.goes_on(0));
        // Else the start itself has failed, and whoever waits for it notes that.
        if !link.set_ended() {
            return;
        }
        // Another may have been started since.
        if slot.link.load().as_ref().is_some_and(|current| Arc::ptr_eq(current, link)) {
            slot.link.store(None);
        }
        let mut failure = None;
        if link.age() >= SHORT_LIFE {
            *slot.failure() = None;
        } else if reason == WorkerEnd::Lost {
            let text = format!("it ended soon after it had started: {why}");
            failure = Some(slot.failed(Error::new(ErrorKind::BackendUnavailable, text)));
        }
        for agent in self.agents_in(&slot.key) {
            agent.ended(failure.clone());
        }
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Key, Arc<Slot>>> {
        // Every change is one insertion or removal.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a worker did not become ready: what it says, or that it says nothing any more.
fn ended_early(error: Error) -> Error {
    if error.kind() != ErrorKind::Unavailable {
        return error;
    }
    let text = format!("it ended before it was ready; its messages are in the log ({error})");
    Error::new(ErrorKind::BackendUnavailable, text)
}
