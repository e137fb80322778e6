//! An agent in this process that is built with its first call. It is not stopped again.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use super::Host;
use crate::call::{Context, SessionScope};
use crate::contract::{Agent, Operation, RawReplies, RawRequests, Running};
use crate::error::Error;

/// Builds an agent.
type Build = dyn Fn() -> Result<Arc<dyn Agent>, Error> + Send + Sync;

/// An agent that is built when it is first called. Calls that come meanwhile wait for it; one that
/// cannot be built fails its call with the reason, and the next call tries again.
pub struct OnDemand {
    build: Arc<Build>,
    agent: OnceCell<Arc<dyn Agent>>,
}

impl OnDemand {
    /// Hosts the agent that `build` gives. It runs on a thread of its own, since it may open files.
    #[must_use]
    pub fn new(build: impl Fn() -> Result<Arc<dyn Agent>, Error> + Send + Sync + 'static) -> Self {
        Self { build: Arc::new(build), agent: OnceCell::new() }
    }

    async fn agent(&self, id: &str) -> Result<&Arc<dyn Agent>, Error> {
        let build = async || {
            let build = Arc::clone(&self.build);
            let built = spawn_blocking(move || build()).await;
            built.unwrap_or_else(|error| {
                Err(Error::internal(format!("agent {id} could not be built: {error}")))
            })
        };
        self.agent.get_or_try_init(build).await
    }
}

impl Host for OnDemand {
    fn call<'a>(
        &'a self,
        operation: &'a Operation,
        context: &'a Context,
        request: Bytes,
    ) -> Running<'a, Bytes> {
        Box::pin(async move {
            let agent = self.agent(&operation.agent).await?;
            agent.call(operation.index, context, request).await
        })
    }

    fn stream<'a>(
        &'a self,
        operation: &'a Operation,
        context: &'a Context,
        requests: RawRequests,
        replies: RawReplies,
    ) -> Running<'a, ()> {
        Box::pin(async move {
            let agent = self.agent(&operation.agent).await?;
            agent.stream(operation.index, context, requests, replies).await
        })
    }

    fn session_ended<'a>(&'a self, session: &'a SessionScope) -> Running<'a, ()> {
        Box::pin(async move {
            match self.agent.get() {
                Some(agent) => agent.session_ended(session).await,
                None => Ok(()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::call::{Caller, Identity, Transport};
    use crate::contract::Contract;
    use crate::error::ErrorKind;

    #[tokio::test]
    async fn concurrent_first_calls_build_once_and_a_failure_is_tried_again() {
        let contract = Contract::built_in().unwrap();
        let service = contract.service("opdbus.agent.probe.v1.ProbeService").unwrap();
        let operation = service.operation("Count").unwrap();
        let tries = Arc::new(AtomicU32::new(0));
        let counted = Arc::clone(&tries);
        let host = OnDemand::new(move || match counted.fetch_add(1, Ordering::SeqCst) {
            0 => Err(Error::new(ErrorKind::BackendUnavailable, "not at the first try")),
            _ => Ok(crate::testing::probe()),
        });
        let identity = Identity::User { uid: 1, gid: None };
        let caller = Arc::new(Caller { identity, pid: None, address: "test".into() });
        let context = Context::new(caller, Transport::Grpc);
        let error = host.call(operation, &context, Bytes::new()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BackendUnavailable);
        let calls = (0..8).map(|_| host.call(operation, &context, Bytes::new()));
        for outcome in futures_util::future::join_all(calls).await {
            outcome.unwrap();
        }
        assert_eq!(tries.load(Ordering::SeqCst), 2);
    }
}
