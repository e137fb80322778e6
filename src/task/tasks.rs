//! All tasks of the service, found by id and by their user.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::{Bounds, Task};
use crate::call::{Context, Identity, OnDisconnect, Transport};
use crate::contract::Operation;
use crate::error::{Error, ErrorKind};

/// The settings.
#[derive(Clone, Debug)]
pub struct Config {
    /// What one task keeps of its messages (`[tasks] ring_messages`, `ring_bytes`).
    pub ring: Bounds,
    /// The time for a task whose client names none, and the longest one (`[tasks] max_runtime_ms`).
    pub max_runtime: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            ring: Bounds { messages: 1024, bytes: 1024 * 1024 },
            max_runtime: Duration::from_secs(3600),
        }
    }
}

/// What a view keeps until its client takes it.
const VIEW: Bounds = Bounds { messages: 64, bytes: 1024 * 1024 };

/// The tasks.
#[derive(Default)]
pub struct Tasks {
    all: Mutex<HashMap<Arc<str>, Arc<Task>>>,
}

impl Tasks {
    /// A new task for a call of `operation`; a view of op-dbus's own services is in no list.
    ///
    /// # Errors
    /// `LimitExceeded` if the caller, or everybody together, has too many; `AlreadyExists` if the id that
    /// the client chose is taken.
    pub fn open(
        &self,
        config: &Config,
        operation: &Arc<Operation>,
        context: &Context,
    ) -> Result<Arc<Task>, Error> {
        let operation = Arc::clone(operation);
        if !operation.is_agents {
            return Ok(Task::new("".into(), operation, context, VIEW, true));
        }
        let id: Arc<str> = match &context.task_id {
            Some(id) => (**id).into(),
            // Sorted by time, and never given again after a restart.
            None => Uuid::now_v7().simple().to_string().into(),
        };
        let mut all = self.all();
        if all.contains_key(&id) {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                format!("there is a task {id} already; choose another token"),
            ));
        }
        let task = Task::new(Arc::clone(&id), operation, context, config.ring, false);
        all.insert(id, Arc::clone(&task));
        Ok(task)
    }

    /// The task `id` of the caller.
    ///
    /// # Errors
    /// `NotFound` if there is none, or if it is another user's.
    pub fn find(&self, id: &str, identity: Identity) -> Result<Arc<Task>, Error> {
        let task = self.all().get(id).cloned();
        // The group is attested by some transports only, so it does not tell users apart.
        let is_own = |task: &Arc<Task>| match (task.caller().identity, identity) {
            (Identity::User { uid: own, .. }, Identity::User { uid, .. }) => own == uid,
            (Identity::Unknown, _) | (_, Identity::Unknown) => false,
        };
        task.filter(is_own)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no task {id}")))
    }

    /// Cancels what a client that has gone does not want to go on.
    pub fn client_gone(&self, transport: Transport, address: &str) {
        for task in self.all().values() {
            if task.on_disconnect() == OnDisconnect::Cancel
                && task.transport() == transport
                && *task.caller().address == *address
            {
                task.cancel();
            }
        }
    }

    fn all(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Task>>> {
        // Each use is one operation, so a panic elsewhere leaves nothing half-done.
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
