//! Where a call runs: in this process or in a worker; registered processes and other machines come as
//! further implementations of [`Host`]. A host decides nothing about whether a call may run.

mod activated;
mod entry;
mod gate;
mod keeper;
mod life;
mod parted;
mod roster;
mod state;
pub mod worker;

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::call::{Context, SessionScope};
use crate::contract::{Agent, Operation, RawReplies, RawRequests, Running};

pub use activated::Activated;
pub use entry::Started;
pub use life::{Build, Life, Plan};
pub use parted::Parted;
pub use roster::{Changes, Roster, SessionHold};
pub use state::{Condition, StartFailure, State};

/// Runs the operations of one agent, wherever that is.
pub trait Host: Send + Sync {
    /// Runs an operation with one request and one response. Dropping the future cancels it.
    fn call<'a>(
        &'a self,
        operation: &'a Operation,
        context: &'a Context,
        request: Bytes,
    ) -> Running<'a, Bytes>;

    /// Runs an operation with a stream on one side or both. Dropping the future cancels it.
    fn stream<'a>(
        &'a self,
        operation: &'a Operation,
        context: &'a Context,
        requests: RawRequests,
        replies: RawReplies,
    ) -> Running<'a, ()>;

    /// Drops what is kept for a session that has ended. Only for agents that were called in it: one
    /// that is not running is started for this.
    fn session_ended<'a>(&'a self, session: &'a SessionScope) -> Running<'a, ()>;

    /// Makes the agent ready for a session of the user and says what came of it; `None` if it is not to
    /// be ready with sessions, or is always there. `by_contract`: its contract wants it to be ready.
    ///
    /// # Cancel safety
    /// A start that has begun is carried to its end.
    fn warm(&self, _uid: u32, _by_contract: bool) -> Option<BoxFuture<'_, Started>> {
        None
    }
}

/// A service in this process that is always there.
pub struct Local(Arc<dyn Agent>);

impl Local {
    /// Hosts `agent`.
    #[must_use]
    pub fn new(agent: Arc<dyn Agent>) -> Self {
        Self(agent)
    }
}

impl Host for Local {
    fn call<'a>(
        &'a self,
        operation: &'a Operation,
        context: &'a Context,
        request: Bytes,
    ) -> Running<'a, Bytes> {
        self.0.call(operation.index, context, request)
    }

    fn stream<'a>(
        &'a self,
        operation: &'a Operation,
        context: &'a Context,
        requests: RawRequests,
        replies: RawReplies,
    ) -> Running<'a, ()> {
        self.0.stream(operation.index, context, requests, replies)
    }

    fn session_ended<'a>(&'a self, session: &'a SessionScope) -> Running<'a, ()> {
        self.0.session_ended(session)
    }
}
