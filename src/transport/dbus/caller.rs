//! Who sent a message, as the bus attests it. It decides nothing about what a caller may do.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::OnceCell;
use zbus::Connection;
use zbus::fdo::ConnectionCredentials;

use super::connection::ask;
use crate::call::{Attested, Caller, Identity, Process};
use crate::error::{Error, ErrorKind};

/// How many callers are remembered. Past it all are forgotten and asked for again.
const MAX_CALLERS: usize = 4096;

type Cell = Arc<OnceCell<Arc<Caller>>>;

/// The callers of one connection by unique name. A bus never gives a unique name twice, so what is
/// remembered stays true; names that have gone are forgotten to save memory.
pub(super) struct Callers {
    connection: Connection,
    known: Mutex<HashMap<Box<str>, Cell>>,
}

impl Callers {
    pub(super) fn new(connection: Connection) -> Self {
        Self { connection, known: Mutex::default() }
    }

    /// The caller behind a unique name. Asks the bus the first time; several who ask at once share
    /// one question.
    ///
    /// # Errors
    /// `Unauthenticated` if the bus does not say who it is.
    pub(super) async fn get(&self, name: &str) -> Result<Arc<Caller>, Error> {
        let cell = self.cell(name);
        if let Some(caller) = cell.get() {
            return Ok(Arc::clone(caller));
        }
        let caller = cell.get_or_try_init(|| self.ask(name)).await;
        caller.cloned().inspect_err(|_| self.forget(name))
    }

    /// True if the client called `name` is still on the bus, as far as the bus has seen.
    pub(super) async fn is_here(&self, name: &str) -> bool {
        let reply = ask(&self.connection, "NameHasOwner", &name).await;
        reply.and_then(|reply| reply.body().deserialize()).unwrap_or(false)
    }

    /// Forgets a name that has gone.
    pub(super) fn forget(&self, name: &str) {
        self.known().remove(name);
    }

    fn cell(&self, name: &str) -> Cell {
        let mut known = self.known();
        if let Some(cell) = known.get(name) {
            return Arc::clone(cell);
        }
        if known.len() >= MAX_CALLERS {
            known.clear();
        }
        Arc::clone(known.entry(name.into()).or_default())
    }

    async fn ask(&self, name: &str) -> Result<Arc<Caller>, Error> {
        let reply = ask(&self.connection, "GetConnectionCredentials", &name).await;
        let credentials = reply
            .and_then(|reply| reply.body().deserialize::<ConnectionCredentials>())
            .map_err(|error| {
                Error::new(
                    ErrorKind::Unauthenticated,
                    format!("the bus does not say who {name} is: {error}"),
                )
            })?;
        let (identity, attested) = match credentials.unix_user_id() {
            // The bus lists groups without saying which is the primary one.
            Some(uid) => (Identity::User { uid, gid: None }, Attested::Bus),
            None => (Identity::Unknown, Attested::Nobody),
        };
        let mut caller = Caller::new(identity, attested, name);
        caller.pid = credentials.process_id();
        // Only some brokers pass the pidfd.
        let pidfd = credentials.process_fd().map(AsFd::as_fd);
        let process = caller.pid.and_then(|pid| Process::running(pid, pidfd));
        caller.process = process.map(Arc::new);
        caller.process.iter().for_each(Process::look_up_soon);
        Ok(Arc::new(caller.with_groups(credentials.into_unix_group_ids())))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Box<str>, Cell>> {
        // Each use is one operation, so a panic elsewhere leaves nothing half-done.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
