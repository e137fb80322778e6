//! The sessions in memory: found by user and id, by the client that holds them, and by when they are
//! due. Nobody is told anything here, and nothing waits.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

use super::token::Token;
use super::{Config, object_path};
use crate::call::{SessionScope, Transport};
use crate::contract::Operation;
use crate::metrics::SessionEnd;
use crate::proto::opdbus::v1;
use crate::storage::time::{micros, now, timestamp};

/// One session. There may be many thousand, so it is kept small.
pub(super) struct Session {
    pub(super) scope: SessionScope,
    pub(super) said: Said,
    pub(super) token: Token,
    pub(super) transport: Transport,
    /// Microseconds since the epoch.
    pub(super) started_at: i64,
    /// When its client last asked for it; calls in it count as well.
    pub(super) used: Instant,
    pub(super) idle: Duration,
    pub(super) lease: Lease,
    /// The streams that hold it, and how each hears of its end.
    pub(super) streams: Vec<(u64, oneshot::Sender<SessionEnd>)>,
    /// The bus connections that hold it.
    pub(super) clients: Vec<Arc<str>>,
    pub(super) agents: Vec<Box<str>>,
    pub(super) calls: u64,
    /// Where it stands in the queue of those that will be due.
    pub(super) queued: Option<Instant>,
    pub(super) running: Arc<Running>,
}

/// What a client says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) client_name: Box<str>,
    pub(super) metadata: Metadata,
}

/// Names and values, sorted by name.
pub(super) type Metadata = Box<[(Box<str>, Box<str>)]>;

/// What keeps a session that nothing holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lease {
    /// Nothing has held it: its idle time.
    Idle,
    /// What held it is gone: the grace.
    Grace,
}

impl Lease {
    /// Why a session ends whose lease is over.
    pub(super) fn end(self) -> SessionEnd {
        match self {
            Self::Idle => SessionEnd::Idle,
            Self::Grace => SessionEnd::Disconnected,
        }
    }
}

/// The calls that run in a session.
#[derive(Default)]
pub(super) struct Running {
    calls: Mutex<Calls>,
    left: Notify,
}

#[derive(Default)]
struct Calls {
    count: usize,
    last_left: Option<Instant>,
}

impl Running {
    /// When a call was last in the session: now, while one is.
    fn last(&self) -> Option<Instant> {
        let calls = self.calls();
        if calls.count > 0 { Some(Instant::now()) } else { calls.last_left }
    }

    /// Resolves when no call runs.
    pub(super) async fn none(&self) {
        loop {
            let left = self.left.notified();
            if self.calls().count == 0 {
                return;
            }
            left.await;
        }
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that runs in a session. Dropping it is the call's end.
pub struct InSession(Arc<Running>);

impl Drop for InSession {
    fn drop(&mut self) {
        let mut calls = self.0.calls();
        calls.count -= 1;
        calls.last_left = Some(Instant::now());
        if calls.count == 0 {
            drop(calls);
            self.0.left.notify_waiters();
        }
    }
}

impl Session {
    /// A session that starts now.
    pub(super) fn new(
        scope: SessionScope,
        said: Said,
        transport: Transport,
        idle: Duration,
    ) -> Self {
        Self {
            scope,
            said,
            token: Token::random(),
            transport,
            started_at: now(),
            used: Instant::now(),
            idle,
            lease: Lease::Idle,
            streams: Vec::new(),
            clients: Vec::new(),
            agents: Vec::new(),
            calls: 0,
            queued: None,
            running: Arc::default(),
        }
    }

    /// Its place among the sessions of its user.
    pub(super) fn order(&self) -> (i64, &str) {
        (self.started_at, &self.scope.id)
    }

    pub(super) fn touch(&mut self) {
        self.used = Instant::now();
    }

    pub(super) fn is_held(&self) -> bool {
        !self.streams.is_empty() || !self.clients.is_empty()
    }

    /// When it ends if it is not used; `None` while something holds it.
    pub(super) fn due(&self, grace: Duration) -> Option<Instant> {
        let lease = match self.lease {
            Lease::Idle => self.idle,
            Lease::Grace => grace,
        };
        (!self.is_held()).then(|| self.last_use() + lease)
    }

    fn last_use(&self) -> Instant {
        self.running.last().map_or(self.used, |call| call.max(self.used))
    }

    /// Notes a call; true if it is the first one of its agent.
    pub(super) fn enter(&mut self, operation: &Operation) -> bool {
        self.touch();
        if !operation.is_agents {
            return false;
        }
        self.calls += 1;
        let is_first = !self.agents.iter().any(|agent| **agent == *operation.agent);
        if is_first {
            self.agents.push(operation.agent.as_str().into());
        }
        is_first
    }

    pub(super) fn in_session(&self) -> InSession {
        self.running.calls().count += 1;
        InSession(Arc::clone(&self.running))
    }

    /// It as its user sees it.
    pub(super) fn describe(&self, config: &Config) -> v1::Session {
        let (instant, wall) = (Instant::now(), now());
        let due = self.due(config.grace);
        v1::Session {
            id: self.scope.id.to_string(),
            client_name: self.said.client_name.to_string(),
            metadata: self
                .said
                .metadata
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_string()))
                .collect(),
            uid: self.scope.uid,
            transport: self.transport.name().to_owned(),
            started_at: Some(timestamp(self.started_at)),
            used_at: Some(timestamp(wall - micros(instant - self.last_use()))),
            expires_at: due.map(|due| timestamp(wall + micros(due - instant))),
            held: self.is_held(),
            agents: self.agents.iter().map(ToString::to_string).collect(),
            calls: self.calls,
            object_path: object_path::of(&self.scope),
        }
    }
}

/// A session whose agents are being told that it has ended.
pub(super) struct Ending {
    /// As it was recorded.
    pub(super) agents: Vec<Box<str>>,
    /// Closed when they have been told.
    pub(super) told: watch::Receiver<()>,
}

/// All sessions.
#[derive(Default)]
pub(super) struct Table {
    users: HashMap<u32, HashMap<Arc<str>, Session>>,
    count: usize,
    /// One entry for each session that nothing holds. Its time may be too early, because use of a
    /// session does not move it; it is never too late.
    queue: BTreeSet<(Instant, u32, Arc<str>)>,
    /// What each bus connection holds.
    clients: HashMap<Arc<str>, Vec<SessionScope>>,
    pub(super) ending: HashMap<SessionScope, Ending>,
    /// Whose record differs from what they are.
    pub(super) unrecorded: HashSet<SessionScope>,
    /// For each user with sessions: keeps the agents running that are to be ready with them.
    pub(super) agents: HashMap<u32, Box<dyn Send>>,
}

impl Table {
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The users with sessions.
    pub(super) fn uids(&self) -> Vec<u32> {
        self.users.keys().copied().collect()
    }

    pub(super) fn count_of(&self, uid: u32) -> usize {
        self.users.get(&uid).map_or(0, HashMap::len)
    }

    pub(super) fn find(&mut self, uid: u32, id: &str) -> Option<&mut Session> {
        self.users.get_mut(&uid)?.get_mut(id)
    }

    pub(super) fn of_user(&self, uid: u32) -> impl Iterator<Item = &Session> {
        self.users.get(&uid).into_iter().flat_map(HashMap::values)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Session> {
        self.users.values().flat_map(HashMap::values)
    }

    /// Adds a session, whose id is free.
    pub(super) fn insert(&mut self, session: Session, grace: Duration) {
        let scope = session.scope.clone();
        let replaced =
            self.users.entry(scope.uid).or_default().insert(Arc::clone(&scope.id), session);
        self.count += usize::from(replaced.is_none());
        self.queue(&scope, grace);
    }

    pub(super) fn remove(&mut self, uid: u32, id: &str) -> Option<Session> {
        let sessions = self.users.get_mut(&uid)?;
        let session = sessions.remove(id)?;
        if sessions.is_empty() {
            self.users.remove(&uid);
        }
        self.count -= 1;
        if let Some(at) = session.queued {
            self.queue.remove(&(at, uid, Arc::clone(&session.scope.id)));
        }
        for client in &session.clients {
            if let Some(held) = self.clients.get_mut(client) {
                held.retain(|scope| *scope != session.scope);
                if held.is_empty() {
                    self.clients.remove(client);
                }
            }
        }
        Some(session)
    }

    /// Has a bus connection hold a session.
    pub(super) fn hold_by_client(&mut self, scope: &SessionScope, client: &Arc<str>) {
        let Some(session) = self.find(scope.uid, &scope.id) else { return };
        if session.clients.contains(client) {
            return;
        }
        session.clients.push(Arc::clone(client));
        self.clients.entry(Arc::clone(client)).or_default().push(scope.clone());
        self.unqueue(scope);
    }

    /// Has a stream hold a session.
    pub(super) fn hold_by_stream(
        &mut self,
        scope: &SessionScope,
        stream: u64,
        hear: oneshot::Sender<SessionEnd>,
    ) {
        let Some(session) = self.find(scope.uid, &scope.id) else { return };
        session.streams.push((stream, hear));
        self.unqueue(scope);
    }

    /// Has a session that nothing holds live by being used, as if nothing ever had.
    pub(super) fn lives_by_use(&mut self, scope: &SessionScope, grace: Duration) {
        if let Some(session) = self.find(scope.uid, &scope.id)
            && !session.is_held()
        {
            session.lease = Lease::Idle;
            self.queue(scope, grace);
        }
    }

    /// The bus connections that hold sessions.
    pub(super) fn clients(&self) -> Vec<Arc<str>> {
        self.clients.keys().cloned().collect()
    }

    /// The sessions that bus connections hold.
    pub(super) fn held_by_clients(&self) -> HashSet<SessionScope> {
        self.clients.values().flatten().cloned().collect()
    }

    /// Gives the sessions that a bus connection held and holds no longer.
    pub(super) fn release_client(&mut self, client: &str, grace: Duration) -> Vec<SessionScope> {
        let held = self.clients.remove(client).unwrap_or_default();
        for scope in &held {
            if let Some(session) = self.find(scope.uid, &scope.id) {
                session.clients.retain(|holder| **holder != *client);
                self.released(scope, grace);
            }
        }
        held
    }

    /// True if the stream held the session.
    pub(super) fn release_stream(
        &mut self,
        scope: &SessionScope,
        stream: u64,
        grace: Duration,
    ) -> bool {
        let Some(session) = self.find(scope.uid, &scope.id) else { return false };
        let before = session.streams.len();
        session.streams.retain(|(id, _)| *id != stream);
        let held = session.streams.len() < before;
        if held {
            self.released(scope, grace);
        }
        held
    }

    fn released(&mut self, scope: &SessionScope, grace: Duration) {
        if let Some(session) = self.find(scope.uid, &scope.id)
            && !session.is_held()
        {
            session.lease = Lease::Grace;
            session.touch();
            self.queue(scope, grace);
        }
    }

    /// Puts a session in the queue where it belongs, unless it stands there earlier already.
    pub(super) fn queue(&mut self, scope: &SessionScope, grace: Duration) {
        let Some(session) = self.find(scope.uid, &scope.id) else { return };
        let Some(due) = session.due(grace) else { return };
        let before = session.queued;
        if before.is_some_and(|at| at <= due) {
            return;
        }
        session.queued = Some(due);
        if let Some(at) = before {
            self.queue.remove(&(at, scope.uid, Arc::clone(&scope.id)));
        }
        self.queue.insert((due, scope.uid, Arc::clone(&scope.id)));
    }

    fn unqueue(&mut self, scope: &SessionScope) {
        if let Some(session) = self.find(scope.uid, &scope.id)
            && let Some(at) = session.queued.take()
        {
            self.queue.remove(&(at, scope.uid, Arc::clone(&scope.id)));
        }
    }

    /// Puts every session where it belongs, because the grace is another one.
    pub(super) fn queue_all(&mut self, grace: Duration) {
        let scopes: Vec<_> = self.all().map(|session| session.scope.clone()).collect();
        for scope in scopes {
            self.queue(&scope, grace);
        }
    }

    /// A session that is due, taken off the queue; or when the next one may be.
    pub(super) fn next_due(&mut self, grace: Duration) -> Result<SessionScope, Option<Instant>> {
        loop {
            let now = Instant::now();
            let Some((at, ..)) = self.queue.first() else { return Err(None) };
            if *at > now {
                return Err(Some(*at));
            }
            let Some((_, uid, id)) = self.queue.pop_first() else { return Err(None) };
            let scope = SessionScope { uid, id };
            let Some(session) = self.find(uid, &scope.id) else { continue };
            session.queued = None;
            if session.due(grace).is_some_and(|due| due <= now) {
                return Ok(scope);
            }
            self.queue(&scope, grace);
        }
    }
}
