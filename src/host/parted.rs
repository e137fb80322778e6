//! An agent of which some operations run in the daemon and the others in its callers' workers. Which,
//! the contract says.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::{Host, Started};
use crate::call::{Context, SessionScope};
use crate::contract::{Agent, Operation, RawReplies, RawRequests, Running};

/// Hosts an agent in two parts.
pub struct Parted {
    here: Arc<dyn Agent>,
    in_workers: Arc<dyn Host>,
}

impl Parted {
    /// The operations that say `in_daemon` run in `here`, the others in `in_workers`.
    #[must_use]
    pub fn new(here: Arc<dyn Agent>, in_workers: Arc<dyn Host>) -> Self {
        Self { here, in_workers }
    }
}

impl Host for Parted {
    fn call<'a>(
        &'a self,
        operation: &'a Operation,
        context: &'a Context,
        request: Bytes,
    ) -> Running<'a, Bytes> {
        match operation.in_daemon {
            true => self.here.call(operation.index, context, request),
            false => self.in_workers.call(operation, context, request),
        }
    }

    fn stream<'a>(
        &'a self,
        operation: &'a Operation,
        context: &'a Context,
        requests: RawRequests,
        replies: RawReplies,
    ) -> Running<'a, ()> {
        match operation.in_daemon {
            true => self.here.stream(operation.index, context, requests, replies),
            false => self.in_workers.stream(operation, context, requests, replies),
        }
    }

    fn warm(&self, uid: u32, by_contract: bool) -> Option<BoxFuture<'_, Started>> {
        self.in_workers.warm(uid, by_contract)
    }

    fn session_ended<'a>(&'a self, session: &'a SessionScope) -> Running<'a, ()> {
        Box::pin(async move {
            let here = self.here.session_ended(session).await;
            self.in_workers.session_ended(session).await.and(here)
        })
    }
}
