//! An agent in this process that is started when it is wanted and stopped when it is not. When that is,
//! its [`Life`] says.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::{Host, Life, Started};
use crate::call::{Context, SessionScope};
use crate::contract::{Operation, RawReplies, RawRequests, Running};

/// Runs calls in an agent that has a life. A call starts the agent if it does not run, and keeps it
/// from being stopped.
pub struct Activated(Arc<Life>);

impl Activated {
    /// Hosts the agent that lives `life`.
    #[must_use]
    pub fn new(life: Arc<Life>) -> Self {
        Self(life)
    }
}

impl Host for Activated {
    fn call<'a>(
        &'a self,
        operation: &'a Operation,
        context: &'a Context,
        request: Bytes,
    ) -> Running<'a, Bytes> {
        Box::pin(async move {
            let agent = self.0.enter().await?;
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
            let agent = self.0.enter().await?;
            agent.stream(operation.index, context, requests, replies).await
        })
    }

    fn session_ended<'a>(&'a self, session: &'a SessionScope) -> Running<'a, ()> {
        Box::pin(async move {
            match self.0.enter().await {
                Ok(agent) => agent.session_ended(session).await,
                Err(error) => {
                    tracing::warn!(
                        agent = &**self.0.agent(),
                        session = &*session.id,
                        caller_uid = session.uid,
                        "what agent {} keeps for session {} was not dropped: {error}",
                        self.0.agent(),
                        session.id
                    );
                    Ok(())
                }
            }
        })
    }

    fn warm(&self, _uid: u32, by_contract: bool) -> Option<BoxFuture<'_, Started>> {
        self.0.is_ready_with_sessions(by_contract).then(|| self.0.ready().boxed())
    }
}
