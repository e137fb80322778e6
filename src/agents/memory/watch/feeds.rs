//! Brings committed changes to those who watch, in the order of their revisions, whichever order they
//! are heard of in. It reads no database and waits for nobody: who is too slow is told to read what he
//! has missed from the history.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;
use tokio::task::AbortHandle;

use super::event::Event;
use super::keys::Keys;
use crate::agents::memory::fields::Scope;
use crate::error::Error;

/// How many events wait for one watcher at most, and how many bytes of them; one is always kept. The
/// events themselves are shared by all.
const INBOX_EVENTS: usize = 256;
const INBOX_BYTES: usize = 256 * 1024;

/// How many changes may wait for one before them. It is more than the store ever has in work.
const MAX_PENDING: usize = 8192;

/// What a committed change did to the revision and the keys of a user.
#[derive(Clone, Debug)]
pub(in super::super) struct Changed {
    pub(in super::super) uid: u32,
    /// The revision before it.
    pub(in super::super) from: i64,
    /// The revision after it.
    pub(in super::super) to: i64,
    /// `None` if nobody watched when it was made.
    pub(in super::super) events: Option<Vec<Arc<Event>>>,
}

/// The watchers of all users.
#[derive(Default)]
pub(in super::super) struct Feeds {
    watchers: AtomicUsize,
    users: Mutex<HashMap<u32, Feed>>,
    waker: Arc<Waker>,
    /// The task that wakes.
    waking: OnceLock<AbortHandle>,
}

/// Wakes those who have news, from one task. A thread that waked them one by one would see the first
/// ones through before it came to the last, and from a thread apart a wake costs more.
#[derive(Default)]
struct Waker {
    sleepers: Mutex<Vec<Arc<Inbox>>>,
    called: Notify,
}

/// The watchers of one user.
#[derive(Default)]
struct Feed {
    /// The revision up to which all was told.
    told: i64,
    /// What was heard of too early, by the revision before it.
    pending: BTreeMap<i64, Changed>,
    watchers: u32,
    namespaces: HashMap<String, Watched>,
}

/// The watchers of one namespace: those of one key by it, and those of several.
#[derive(Default)]
struct Watched {
    one: HashMap<String, Vec<Arc<Inbox>>>,
    several: Vec<Arc<Inbox>>,
}

impl Feeds {
    /// Begins with what is stored: the revision of each user.
    pub(in super::super) fn begin(&self, revisions: Vec<(u32, i64)>) {
        let mut users = self.lock();
        for (uid, told) in revisions {
            users.insert(uid, Feed { told, ..Feed::default() });
        }
    }

    /// True if somebody watches keys of the user. A change that was told otherwise may still find
    /// watchers when it is committed.
    pub(in super::super) fn is_watched(&self, uid: u32) -> bool {
        self.watchers.load(Ordering::Relaxed) > 0 && self.count(uid) > 0
    }

    /// How many streams watch keys of the user.
    pub(in super::super) fn count(&self, uid: u32) -> u32 {
        self.lock().get(&uid).map_or(0, |feed| feed.watchers)
    }

    /// Begins to watch. From here on nothing is missed.
    pub(super) fn join(
        self: &Arc<Self>,
        scope: &Scope,
        keys: Keys,
        most: u32,
    ) -> Result<Watcher, Error> {
        let mut users = self.lock();
        let feed = users.entry(scope.uid).or_default();
        if feed.watchers >= most {
            return Err(Error::limit(
                "memory.max_watchers",
                most,
                "you have as many streams of Watch open as you may; close some first",
            ));
        }
        let waker = &self.waker;
        self.waking.get_or_init(|| tokio::spawn(Arc::clone(waker).run()).abort_handle());
        feed.watchers += 1;
        self.watchers.fetch_add(1, Ordering::Relaxed);
        let inbox = Arc::new(Inbox { keys, ..Inbox::default() });
        let watched = feed.namespaces.entry(scope.namespace.clone()).or_default();
        watched.list(&inbox.keys).push(Arc::clone(&inbox));
        drop(users);
        Ok(Watcher {
            feeds: Arc::clone(self),
            uid: scope.uid,
            namespace: scope.namespace.clone(),
            inbox,
        })
    }

    /// Hears of a committed change.
    pub(in super::super) fn tell(&self, changed: &Changed) {
        let mut users = self.lock();
        let feed = users.entry(changed.uid).or_default();
        if changed.to == changed.from || changed.to <= feed.told {
            return;
        }
        feed.pending.insert(changed.from, changed.clone());
        while let Some(next) = feed.pending.remove(&feed.told) {
            feed.told = next.to;
            feed.hear(next, &self.waker);
        }
        if feed.pending.len() > MAX_PENDING {
            feed.told = feed.pending.values().map(|next| next.to).max().unwrap_or(feed.told);
            feed.pending.clear();
            feed.lag(&self.waker);
        }
        drop(users);
        self.waker.called.notify_one();
    }

    /// Ends the streams that watch keys of a session.
    pub(in super::super) fn close(&self, uid: u32, session: &str) {
        let users = self.lock();
        let Some(feed) = users.get(&uid) else { return };
        for (namespace, watched) in &feed.namespaces {
            if namespace.split_once('\0').is_some_and(|(id, _)| id == session) {
                watched.each(&self.waker, Waiting::close);
            }
        }
        drop(users);
        self.waker.called.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u32, Feed>> {
        self.users.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Feeds {
    fn drop(&mut self) {
        if let Some(waking) = self.waking.get() {
            waking.abort();
        }
    }
}

impl Waker {
    async fn run(self: Arc<Self>) {
        loop {
            self.called.notified().await;
            let sleepers = std::mem::take(&mut *self.lock());
            sleepers.iter().for_each(|inbox| inbox.arrived.notify_one());
        }
    }

    /// Makes a change for which a watcher is to be woken.
    fn wake(&self, inbox: &Arc<Inbox>, change: impl FnOnce(&mut Waiting)) {
        let mut waiting = inbox.lock();
        change(&mut waiting);
        if !std::mem::replace(&mut waiting.called, true) {
            self.lock().push(Arc::clone(inbox));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Inbox>>> {
        self.sleepers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Feed {
    fn hear(&self, changed: Changed, waker: &Waker) {
        let Some(events) = changed.events else {
            // Nobody watched when it was made, so what it did was not noted.
            return self.lag(waker);
        };
        for event in events {
            if let Some(watched) = self.namespaces.get(&event.namespace) {
                watched.hear(&event, waker);
            }
        }
    }

    fn lag(&self, waker: &Waker) {
        self.namespaces.values().for_each(|watched| watched.each(waker, Waiting::lag));
    }
}

impl Watched {
    fn list(&mut self, keys: &Keys) -> &mut Vec<Arc<Inbox>> {
        match keys {
            Keys::One(key) => self.one.entry(key.clone()).or_default(),
            Keys::All | Keys::Prefix(_) | Keys::Pattern(_) => &mut self.several,
        }
    }

    fn hear(&self, event: &Arc<Event>, waker: &Waker) {
        let of_this_key = self.one.get(&event.key).into_iter().flatten();
        let of_several = self.several.iter().filter(|inbox| inbox.keys.matches(&event.key));
        for inbox in of_this_key.chain(of_several) {
            waker.wake(inbox, |waiting| waiting.put(event));
        }
    }

    fn each(&self, waker: &Waker, change: impl Fn(&mut Waiting)) {
        for inbox in self.one.values().flatten().chain(&self.several) {
            waker.wake(inbox, &change);
        }
    }

    /// Takes a watcher out; true if none is left.
    fn leave(&mut self, leaver: &Arc<Inbox>) -> bool {
        let list = self.list(&leaver.keys);
        list.retain(|inbox| !Arc::ptr_eq(inbox, leaver));
        if list.is_empty()
            && let Keys::One(key) = &leaver.keys
        {
            self.one.remove(key);
        }
        self.one.is_empty() && self.several.is_empty()
    }
}

/// What waits for one watcher.
#[derive(Default)]
struct Inbox {
    keys: Keys,
    waiting: Mutex<Waiting>,
    arrived: Notify,
}

#[derive(Default)]
struct Waiting {
    events: VecDeque<Arc<Event>>,
    bytes: usize,
    lags: bool,
    closed: bool,
    /// It is to be woken, or was and has not looked yet.
    called: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn put(&mut self, event: &Arc<Event>) {
        if self.lags {
            return;
        }
        let is_full = self.events.len() >= INBOX_EVENTS
            || self.bytes + event.size() > INBOX_BYTES && !self.events.is_empty();
        if is_full {
            return self.lag();
        }
        self.bytes += event.size();
        self.events.push_back(Arc::clone(event));
    }

    fn close(&mut self) {
        self.closed = true;
    }

    /// Drops what waits: the history has it.
    fn lag(&mut self) {
        self.events.clear();
        self.bytes = 0;
        self.lags = true;
    }
}

/// What a watcher is told.
pub(super) enum News {
    /// This happened.
    Event(Arc<Event>),
    /// Something may have happened that only the history knows.
    Lags,
    /// Nothing more will happen.
    Closed,
}

/// A watcher. Dropping it is its going away.
pub(super) struct Watcher {
    feeds: Arc<Feeds>,
    uid: u32,
    namespace: String,
    inbox: Arc<Inbox>,
}

impl Watcher {
    pub(super) fn keys(&self) -> &Keys {
        &self.inbox.keys
    }

    /// Waits for what comes next.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn next(&self) -> News {
        loop {
            if let Some(news) = self.take() {
                return news;
            }
            self.inbox.arrived.notified().await;
        }
    }

    fn take(&self) -> Option<News> {
        let mut waiting = self.inbox.lock();
        waiting.called = false;
        if waiting.closed {
            return Some(News::Closed);
        }
        if std::mem::take(&mut waiting.lags) {
            return Some(News::Lags);
        }
        let event = waiting.events.pop_front()?;
        waiting.bytes -= event.size();
        Some(News::Event(event))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let mut users = self.feeds.lock();
        let Some(feed) = users.get_mut(&self.uid) else { return };
        feed.watchers -= 1;
        self.feeds.watchers.fetch_sub(1, Ordering::Relaxed);
        if let Some(watched) = feed.namespaces.get_mut(&self.namespace)
            && watched.leave(&self.inbox)
        {
            feed.namespaces.remove(&self.namespace);
        }
    }
}
