//! The end of a session: it is gone at once, and its agents are told behind it. What they keep for it
//! is theirs to drop.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, MutexGuard};
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::table::{Ending, Running, Session, Table};
use super::{Change, Sessions, unknown};
use crate::call::SessionScope;
use crate::error::{Error, ErrorKind};
use crate::host::Host;
use crate::metrics::SessionEnd;
use crate::proto::opdbus::v1;

/// How long the calls of a session that has ended may take to leave before its agents are told.
const LEAVE: Duration = Duration::from_secs(5);

/// How long an agent may take to hear of it.
const TELL: Duration = Duration::from_secs(10);

/// How long after an agent could not hear of it, it is told again.
const TELL_AGAIN: Duration = Duration::from_secs(1);

impl Sessions {
    /// Ends a session of the user because somebody asks for it, and gives it as it was.
    ///
    /// # Errors
    /// `NotFound` if he has no such session.
    pub fn end(self: &Arc<Self>, uid: u32, id: &str) -> Result<v1::Session, Error> {
        let mut table = self.table();
        let session = table.remove(uid, id).ok_or_else(|| unknown(id))?;
        let description = session.describe(&self.config.load());
        self.ended(table, session, SessionEnd::Asked);
        Ok(description)
    }

    /// Ends a session whose time is over.
    pub(super) fn end_over(self: &Arc<Self>, scope: &SessionScope) {
        let mut table = self.table();
        if let Some(session) = table.remove(scope.uid, &scope.id) {
            let reason = session.lease.end();
            self.ended(table, session, reason);
        }
    }

    /// Ends a session that its client never heard of.
    pub(super) fn take_back(self: &Arc<Self>, scope: &SessionScope, token: &str) {
        let mut table = self.table();
        let is_it = table.find(scope.uid, &scope.id).is_some_and(|found| found.token.is(token));
        if is_it && let Some(session) = table.remove(scope.uid, &scope.id) {
            self.ended(table, session, SessionEnd::Disconnected);
        }
    }

    /// Tells everybody of the end of a session that was taken out of the table.
    fn ended(
        self: &Arc<Self>,
        mut table: MutexGuard<'_, Table>,
        session: Session,
        reason: SessionEnd,
    ) {
        let Session { scope, streams, clients, agents, transport, running, .. } = session;
        let telling = self.telling(&mut table, scope.clone(), agents, running);
        self.changes.send(Change::Ended { scope: scope.clone(), reason, clients }).ok();
        self.want_agents(&mut table, scope.uid);
        drop(table);
        self.metrics.session_ended(transport, reason);
        tracing::debug!(
            session = %scope.id, uid = scope.uid, reason = reason.name(), "a session has ended"
        );
        for (_, hear) in streams {
            // A stream that has just gone need not hear.
            hear.send(reason).ok();
        }
        if let Some(hear) = self.on_end.get() {
            hear(&scope);
        }
        tokio::spawn(telling.run());
    }

    /// What is to run so that the agents hear of the end of a session. It must neither run nor be
    /// dropped under the table's lock.
    pub(super) fn telling(
        self: &Arc<Self>,
        table: &mut Table,
        scope: SessionScope,
        agents: Vec<Box<str>>,
        running: Arc<Running>,
    ) -> Telling {
        let (all_told, told) = watch::channel(());
        table.ending.insert(scope.clone(), Ending { agents: agents.clone(), told });
        self.must_record(table, scope.clone());
        Telling { sessions: Arc::clone(self), scope, agents, running, _all_told: all_told }
    }

    /// Resolves when no agent is still being told of the end of a session with this id.
    pub(super) async fn told(&self, scope: &SessionScope) {
        loop {
            let told = self.table().ending.get(scope).map(|ending| ending.told.clone());
            let Some(mut told) = told else { return };
            // Nothing is ever sent: it closes.
            told.changed().await.ok();
        }
    }
}

/// The telling of one session's end. Dropping it is the end of it, however that came.
pub(super) struct Telling {
    sessions: Arc<Sessions>,
    scope: SessionScope,
    agents: Vec<Box<str>>,
    running: Arc<Running>,
    /// Declared last, so that it is dropped when the rest is done.
    _all_told: watch::Sender<()>,
}

impl Telling {
    pub(super) async fn run(self) {
        if timeout(LEAVE, self.running.none()).await.is_err() {
            tracing::warn!(
                session = %self.scope.id, uid = self.scope.uid,
                "calls still run in a session that has ended; its agents are told all the same"
            );
        }
        // The semaphore is never closed.
        let _place = self.sessions.endings.acquire().await;
        for agent in &self.agents {
            self.tell(agent).await;
        }
    }

    async fn tell(&self, agent: &str) {
        let Some(agents) = self.sessions.agents.upgrade() else { return };
        let Some(host) = agents.host(agent) else { return };
        let Err(first) = self.try_to_tell(&*host).await else { return };
        sleep(TELL_AGAIN).await;
        let Err(error) = self.try_to_tell(&*host).await else { return };
        tracing::error!(
            session = %self.scope.id, uid = self.scope.uid, agent, %first, %error,
            "agent {agent} could not be told that a session has ended; it keeps what it has for it"
        );
    }

    async fn try_to_tell(&self, host: &dyn Host) -> Result<(), Error> {
        let begun = Instant::now();
        let telling = AssertUnwindSafe(host.session_ended(&self.scope)).catch_unwind();
        match timeout(TELL, telling).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panic)) => Err(Error::internal("the agent panicked")),
            Err(_) => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format!("it did not answer within {} ms", begun.elapsed().as_millis()),
            )),
        }
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        let mut table = self.sessions.table();
        table.ending.remove(&self.scope);
        self.sessions.must_record(&mut table, self.scope.clone());
    }
}
