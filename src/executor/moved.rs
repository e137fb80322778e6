//! Calls that have been moved from D-Bus to gRPC: asked about every call that comes over D-Bus, whichever
//! interface it came by. Which calls these are is not known here.

use std::sync::Arc;

use super::{Executor, Route};
use crate::call::Context;
use crate::contract::Operation;
use crate::error::Error;
use crate::metrics::Rejection;

/// Somebody who knows how far calls have been moved.
pub trait Moves: Send + Sync {
    /// Asks whether a call still is to be made over the transport that it came by. It is on the path of
    /// the call, so it must not wait.
    ///
    /// # Errors
    /// `Migrated` with where it is to be made.
    fn check(&self, operation: &Operation, context: &Context) -> Result<(), Error>;

    /// True if clients should no longer call the operation over D-Bus, whoever they are.
    fn is_deprecated(&self, operation: &Operation) -> bool;
}

impl Executor {
    /// Has `moves` asked about every call from now on, unless somebody is asked already.
    pub fn ask_moves(&self, moves: Arc<dyn Moves>) {
        self.moves.get_or_init(|| moves);
    }

    /// True if clients should no longer call the operation over D-Bus.
    #[must_use]
    pub fn is_deprecated(&self, operation: &Operation) -> bool {
        self.moves.get().is_some_and(|moves| moves.is_deprecated(operation))
    }

    /// Refuses a call that has been moved away from the transport that it came by.
    pub(super) fn stays_here(&self, route: &Route, context: &Context) -> Result<(), Error> {
        let Some(moves) = self.moves.get() else { return Ok(()) };
        let checked = moves.check(&route.operation, context);
        checked.inspect_err(|_| self.reject(Rejection::Migrated))
    }
}
