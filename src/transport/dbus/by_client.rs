//! Work beside the loop, by the client that it is for: it ends when the client goes. What the work is
//! does not matter here.

use std::collections::HashMap;
use std::future::Future;

use tokio::task::{AbortHandle, Id, JoinError, JoinSet};

/// The work that runs.
pub(super) struct ByClient<T> {
    running: JoinSet<T>,
    clients: HashMap<Id, (Box<str>, AbortHandle)>,
}

impl<T: Send + 'static> ByClient<T> {
    pub(super) fn new() -> Self {
        Self { running: JoinSet::new(), clients: HashMap::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.running.len()
    }

    /// Runs `work` until it ends or `client` goes.
    pub(super) fn spawn(&mut self, client: &str, work: impl Future<Output = T> + Send + 'static) {
        let handle = self.running.spawn(work);
        self.clients.insert(handle.id(), (client.into(), handle));
    }

    /// Ends what is for a client that has gone.
    pub(super) fn gone(&self, client: &str) {
        for (of, handle) in self.clients.values() {
            if **of == *client {
                handle.abort();
            }
        }
    }

    /// The next result; never, while nothing runs. A work that was ended has none.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub(super) async fn next(&mut self) -> Option<T> {
        match self.running.join_next_with_id().await {
            Some(done) => self.finished(done),
            None => std::future::pending().await,
        }
    }

    /// The next result that is there already; `None` if no work has ended.
    pub(super) fn try_next(&mut self) -> Option<Option<T>> {
        let done = self.running.try_join_next_with_id()?;
        Some(self.finished(done))
    }

    fn finished(&mut self, done: Result<(Id, T), JoinError>) -> Option<T> {
        match done {
            Ok((id, result)) => {
                self.clients.remove(&id);
                Some(result)
            }
            Err(error) => {
                self.clients.remove(&error.id());
                if error.is_panic() {
                    tracing::error!("work for a client of D-Bus ended in a panic: {error}");
                }
                None
            }
        }
    }
}
