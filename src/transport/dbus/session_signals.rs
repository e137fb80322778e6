//! What sessions send to the bus connections that hold them: their changes and their end. It changes no
//! session.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::{Instant, sleep_until};
use zbus::message::Message;

use super::session::{SESSION_INTERFACE, properties};
use super::signals::properties_changed;
use crate::call::SessionScope;
use crate::session::{Change, Sessions, object_path};

/// The shortest time between two signals about changes of one session.
const CHANGES_EVERY: Duration = Duration::from_millis(100);

/// The properties that a change is told of.
const CHANGING: [&str; 4] = ["Agents", "ClientName", "Held", "Metadata"];

/// The signals, made from what the sessions tell.
pub(super) struct SessionSignals {
    sessions: Arc<Sessions>,
    changes: Receiver<Change>,
    /// Who holds the sessions that bus connections hold, as far as was heard.
    holders: HashMap<SessionScope, Vec<Arc<str>>>,
    /// Those whose change is to be told.
    changed: HashSet<SessionScope>,
    /// When changes may be told again.
    next: Instant,
    /// What is to be sent at once.
    ready: VecDeque<Message>,
}

impl SessionSignals {
    /// From now on.
    pub(super) fn new(sessions: &Arc<Sessions>) -> Self {
        Self {
            changes: sessions.changes(),
            sessions: Arc::clone(sessions),
            holders: HashMap::new(),
            changed: HashSet::new(),
            next: Instant::now(),
            ready: VecDeque::new(),
        }
    }

    /// The next signal.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> Message {
        loop {
            if let Some(signal) = self.ready.pop_front() {
                return signal;
            }
            tokio::select! {
                biased;
                () = sleep_until(self.next), if !self.changed.is_empty() => self.tell_changes(),
                change = self.changes.recv() => match change {
                    Ok(change) => self.note(change),
                    // Never closed: the sessions that send are held here.
                    Err(RecvError::Lagged(_) | RecvError::Closed) => self.catch_up(),
                },
            }
        }
    }

    fn note(&mut self, change: Change) {
        match change {
            // Who has started it knows all of it.
            Change::Started(scope) => drop(self.note_holders(scope)),
            Change::Changed(scope) => {
                if let Some(scope) = self.note_holders(scope) {
                    self.changed.insert(scope);
                }
            }
            Change::Ended { scope, reason, clients } => {
                self.forget(&scope);
                self.end(&scope, reason.name(), &clients);
            }
        }
    }

    /// Notes who holds a session; gives it if anybody does.
    fn note_holders(&mut self, scope: SessionScope) -> Option<SessionScope> {
        let clients = self.sessions.clients(&scope);
        if clients.is_empty() {
            self.forget(&scope);
            return None;
        }
        self.holders.insert(scope.clone(), clients);
        Some(scope)
    }

    fn forget(&mut self, scope: &SessionScope) {
        self.holders.remove(scope);
        self.changed.remove(scope);
    }

    /// Compares what is known with what is, because changes were missed.
    fn catch_up(&mut self) {
        let held = self.sessions.held_by_clients();
        let known = self.holders.keys().filter(|scope| !held.contains(scope));
        let gone: Vec<SessionScope> = known.cloned().collect();
        // Changes from before this look were sent before it: what they do not tell was missed.
        loop {
            match self.changes.try_recv() {
                Ok(change) => self.note(change),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        for scope in gone {
            let Some(clients) = self.holders.get(&scope).cloned() else { continue };
            // One that is there still has been let go by them.
            if self.note_holders(scope.clone()).is_none()
                && self.sessions.get(scope.uid, &scope.id).is_err()
            {
                self.end(&scope, "", &clients);
            }
        }
        for scope in held {
            if let Some(scope) = self.note_holders(scope) {
                self.changed.insert(scope);
            }
        }
    }

    fn tell_changes(&mut self) {
        self.next = Instant::now() + CHANGES_EVERY;
        for scope in std::mem::take(&mut self.changed) {
            // It may have ended meanwhile, which is told next.
            let Ok(session) = self.sessions.get(scope.uid, &scope.id) else { continue };
            let mut changed = properties(&session);
            changed.retain(|(name, _)| CHANGING.contains(name));
            for client in self.holders.get(&scope).into_iter().flatten() {
                let path = object_path::of(&scope);
                let signal =
                    properties_changed(path, Some(client), SESSION_INTERFACE, changed.clone());
                put(&mut self.ready, signal);
            }
        }
    }

    fn end(&mut self, scope: &SessionScope, reason: &str, clients: &[Arc<str>]) {
        for client in clients {
            let signal = Message::signal(object_path::of(scope), SESSION_INTERFACE, "Ended")
                .destination(&**client)
                .build(&reason);
            put(&mut self.ready, signal);
        }
    }
}

fn put(ready: &mut VecDeque<Message>, signal: zbus::Result<Message>) {
    match signal {
        Ok(signal) => ready.push_back(signal),
        Err(error) => tracing::error!("a signal of a session cannot be sent: {error}"),
    }
}
