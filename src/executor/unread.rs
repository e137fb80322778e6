//! A call whose request cannot be read, wherever that is found: it passes what every call passes, so that
//! who may not make it is told so, and it leaves what every call leaves. Nothing of it is run.

use std::sync::Arc;

use super::observe::Observation;
use super::{Executor, Route, Trail};
use crate::call::Context;
use crate::error::Error;

impl Executor {
    /// Ends a call of which `error` says why its request cannot be read. Gives what its caller is told:
    /// that, or why the call is not let in.
    ///
    /// # Cancel safety
    /// It counts as a call that its client gave up.
    pub async fn unread(
        self: &Arc<Self>,
        route: &Arc<Route>,
        context: Context,
        error: Error,
    ) -> Error {
        let observation = Observation::start(self, route, &context);
        let mut trail = Trail::new(self, route, &context);
        let error = match self.let_in(route, &context, None).await {
            Ok(entry) => trail.allowed(&entry.rule, None).await.err().unwrap_or(error),
            Err(refusal) => refusal,
        };
        trail.end(Some(&error)).await;
        observation.end(Some(&error));
        error
    }
}
