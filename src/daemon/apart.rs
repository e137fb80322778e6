//! Work of the start that waits for the disk, done side by side: each on a thread of its own, within the
//! runtime. What is done is the composition's.

use std::thread::{Builder, Scope, ScopedJoinHandle};

use tokio::runtime::Handle;

use crate::error::{Error, ErrorKind};

/// Work that has begun.
pub(super) struct Apart<'scope, T>(Result<ScopedJoinHandle<'scope, Result<T, Error>>, Error>);

impl<'scope, T: Send + 'scope> Apart<'scope, T> {
    /// Begins `work`, which may use the runtime of who calls this. Must be called in one.
    pub(super) fn begin(
        scope: &'scope Scope<'scope, '_>,
        work: impl FnOnce() -> Result<T, Error> + Send + 'scope,
    ) -> Self {
        let runtime = Handle::current();
        let run = move || {
            let _entered = runtime.enter();
            work()
        };
        let thread = Builder::new().name("start".to_owned()).spawn_scoped(scope, run);
        Self(thread.map_err(|error| {
            let text = format!("no thread could be started for a part of the service: {error}");
            Error::new(ErrorKind::BackendUnavailable, text)
        }))
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// What the work failed with; why it could not be begun.
    pub(super) fn end(self) -> Result<T, Error> {
        self.0?.join().unwrap_or_else(|_panic| {
            Err(Error::internal("a part of the service panicked while it was started"))
        })
    }
}
