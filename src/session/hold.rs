//! What holds a session while a stream lives. It does not end the session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::oneshot;

use super::Sessions;
use super::table::Table;
use crate::call::SessionScope;
use crate::metrics::SessionEnd;

/// Tells the streams apart.
static NEXT_STREAM: AtomicU64 = AtomicU64::new(0);

/// Holds a session. Dropping it lets go: if nothing else holds the session, its grace begins.
pub struct Hold {
    sessions: Arc<Sessions>,
    scope: SessionScope,
    stream: u64,
    ended: oneshot::Receiver<SessionEnd>,
}

/// A stream that has been noted in the table. It becomes a [`Hold`] outside the table's lock.
pub(super) struct Noted {
    stream: u64,
    ended: oneshot::Receiver<SessionEnd>,
}

impl Noted {
    pub(super) fn new(table: &mut Table, scope: &SessionScope) -> Self {
        let stream = NEXT_STREAM.fetch_add(1, Ordering::Relaxed);
        let (hear, ended) = oneshot::channel();
        table.hold_by_stream(scope, stream, hear);
        Self { stream, ended }
    }

    pub(super) fn hold(self, sessions: &Arc<Sessions>, scope: &SessionScope) -> Hold {
        let Self { stream, ended } = self;
        Hold { sessions: Arc::clone(sessions), scope: scope.clone(), stream, ended }
    }
}

impl Hold {
    /// The session that is held.
    #[must_use]
    pub fn scope(&self) -> &SessionScope {
        &self.scope
    }

    /// Resolves when the session ends, with the reason.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn ended(&mut self) -> SessionEnd {
        // It is dropped unsent only with all sessions.
        (&mut self.ended).await.unwrap_or(SessionEnd::Disconnected)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let grace = self.sessions.config.load().grace;
        let mut table = self.sessions.table();
        if table.release_stream(&self.scope, self.stream, grace) {
            self.sessions.note_change(&mut table, self.scope.clone());
            drop(table);
            self.sessions.earlier.notify_one();
        }
    }
}
