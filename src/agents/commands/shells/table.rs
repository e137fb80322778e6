//! The shells of a worker by their ids, and how many there may be. It starts and ends none.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::life::Order;
use crate::call::SessionScope;
use crate::error::{Error, ErrorKind};
use crate::process::Limits;
use crate::proto::opdbus::agent::commands::v1::{Mechanism, Shell};
use crate::storage::time;

/// The shells of a worker.
#[derive(Debug, Default)]
pub(super) struct Table(Mutex<Shells>);

#[derive(Debug, Default)]
struct Shells {
    /// How many there are, those that are not yet open included.
    places: usize,
    /// In the order in which they were opened.
    open: Vec<Arc<Entry>>,
}

impl Table {
    /// A place for one more shell, of which there may be `max`.
    ///
    /// # Errors
    /// `LimitExceeded` naming `commands.max_shells`.
    pub(super) fn reserve(self: &Arc<Self>, max: usize) -> Result<Place, Error> {
        let mut shells = self.shells();
        if shells.places >= max {
            let text = "as many shells are open as may be; CloseShell ends one";
            return Err(Error::limit("commands.max_shells", max, text));
        }
        shells.places += 1;
        Ok(Place { table: Arc::clone(self), id: format!("shell-{}", Uuid::now_v7().simple()) })
    }

    /// How many there are, those that are not yet open included.
    pub(super) fn count(&self) -> usize {
        self.shells().places
    }

    /// The shells that are open, the latest first.
    pub(super) fn all(&self) -> Vec<Arc<Entry>> {
        self.shells().open.iter().rev().cloned().collect()
    }

    /// The shell with this id.
    ///
    /// # Errors
    /// `InvalidArgument` if there is no id, `NotFound` if there is no shell.
    pub(super) fn get(&self, id: &str) -> Result<Arc<Entry>, Error> {
        if id.is_empty() {
            return Err(Error::invalid("id", "must not be empty"));
        }
        let found = self.shells().open.iter().find(|entry| entry.id == id).cloned();
        found.ok_or_else(|| gone(id))
    }

    fn shells(&self) -> MutexGuard<'_, Shells> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// There is no shell of this id, or not any more.
pub(super) fn gone(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no shell {id}"))
}

/// The place of one shell in the table, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    table: Arc<Table>,
    pub(super) id: String,
}

impl Place {
    /// Lets others find the shell.
    pub(super) fn show(&self, entry: &Arc<Entry>) {
        self.table.shells().open.push(Arc::clone(entry));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut shells = self.table.shells();
        shells.places -= 1;
        shells.open.retain(|entry| entry.id != self.id);
    }
}

/// A shell that is open.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) id: String,
    /// Which one it is.
    pub(super) shell: &'static str,
    pub(super) tag: String,
    pub(super) pid: u32,
    /// In microseconds since the epoch.
    pub(super) opened_at: i64,
    pub(super) sandbox: Vec<Mechanism>,
    /// What it and all that is started in it may use.
    pub(super) limits: Limits,
    pub(super) session: Option<SessionScope>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) state: Mutex<State>,
}

/// What changes of a shell.
#[derive(Debug)]
pub(super) struct State {
    pub(super) directory: String,
    /// In microseconds since the epoch.
    pub(super) used_at: i64,
    pub(super) busy: bool,
    pub(super) runs: u64,
}

impl Entry {
    /// Takes the shell for one text.
    ///
    /// # Errors
    /// `Conflict` if something runs in it.
    pub(super) fn claim(&self) -> Result<(), Error> {
        let mut state = self.state();
        if state.busy {
            let text = format!("shell {} runs another text", self.id);
            return Err(Error::new(ErrorKind::Conflict, text));
        }
        (state.busy, state.used_at) = (true, time::now());
        Ok(())
    }

    /// Frees the shell after a text.
    pub(super) fn free(&self, directory: &str) {
        let mut state = self.state();
        (state.busy, state.used_at) = (false, time::now());
        state.runs += 1;
        directory.clone_into(&mut state.directory);
    }

    /// Ends the shell; what comes says how it ended.
    pub(super) async fn close(&self) -> Result<crate::process::Ended, Error> {
        let (tell, told) = oneshot::channel();
        let gone = || gone(&self.id);
        self.orders.send(Order::Close(tell)).await.map_err(|_| gone())?;
        told.await.map_err(|_| gone())?
    }

    /// As the contract has it.
    pub(super) fn shown(&self) -> Shell {
        let state = self.state();
        Shell {
            id: self.id.clone(),
            shell: self.shell.to_owned(),
            directory: state.directory.clone(),
            tag: self.tag.clone(),
            pid: self.pid,
            opened_at: Some(time::timestamp(self.opened_at)),
            used_at: Some(time::timestamp(state.used_at)),
            busy: state.busy,
            runs: state.runs,
            sandbox: self.sandbox.clone(),
            session: self
                .session
                .as_ref()
                .map(|session| session.id.to_string())
                .unwrap_or_default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
