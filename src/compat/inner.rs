//! Calls that a foreign contract makes on behalf of its caller: the same caller, the same deadline, the
//! named session. Each passes the executor like any other call.

use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use tokio::time::Instant;

use crate::call::{Context, OnDisconnect};
use crate::contract::{RawRequests, decode, encode};
use crate::error::{Error, ErrorKind};
use crate::executor::{Executor, Input, Route};
use crate::task::{Event, Reading, Subscription};

/// The way back into the executor. Weak, because the executor reaches the foreign contracts through its
/// registry.
#[derive(Clone, Debug)]
pub(super) struct Inner(Weak<Executor>);

impl Inner {
    pub(super) fn new(executor: &Arc<Executor>) -> Self {
        Self(Arc::downgrade(executor))
    }

    pub(super) fn executor(&self) -> Result<Arc<Executor>, Error> {
        self.0
            .upgrade()
            .ok_or_else(|| Error::new(ErrorKind::Unavailable, "the service is stopping"))
    }

    /// The operation of an agent; op-dbus's own services and foreign contracts are no agents.
    ///
    /// # Errors
    /// `UnknownAgent` or `UnknownOperation`.
    pub(super) fn find(&self, agent: &str, operation: &str) -> Result<Arc<Route>, Error> {
        let route = self.executor()?.find(agent, operation)?;
        if route.operation.is_agents {
            return Ok(route);
        }
        Err(Error::new(ErrorKind::UnknownAgent, format!("there is no agent {agent}")))
    }

    /// Calls an operation with one request and one response.
    ///
    /// # Errors
    /// The operation's.
    pub(super) async fn call<Q: Message, A: Message + Default>(
        &self,
        context: Context,
        agent: &str,
        operation: &str,
        request: &Q,
    ) -> Result<A, Error> {
        let executor = self.executor()?;
        let route = executor.find(agent, operation)?;
        decode(executor.call(&route, context, encode(request)?).await?)
    }

    /// Starts an operation with a stream of responses; dropping the answer cancels it.
    ///
    /// # Errors
    /// Why it was not let through.
    pub(super) async fn stream(
        &self,
        mut context: Context,
        route: &Arc<Route>,
        input: Input,
    ) -> Result<Subscription, Error> {
        context.on_disconnect = Some(OnDisconnect::Cancel);
        let task = self.executor()?.start(route, context, input).await?;
        task.read(Reading { from: 0, is_client: true, changes: false })
    }

    /// The same by name, for a request of a known type.
    ///
    /// # Errors
    /// Why it was not let through.
    pub(super) async fn stream_of<Q: Message>(
        &self,
        context: Context,
        agent: &str,
        operation: &str,
        request: &Q,
    ) -> Result<Subscription, Error> {
        let route = self.executor()?.find(agent, operation)?;
        self.stream(context, &route, Input::One(encode(request)?)).await
    }

    /// Starts an operation that takes a stream of requests.
    ///
    /// # Errors
    /// Why it was not let through.
    pub(super) async fn feed(
        &self,
        context: Context,
        agent: &str,
        operation: &str,
        requests: RawRequests,
    ) -> Result<Subscription, Error> {
        let route = self.executor()?.find(agent, operation)?;
        self.stream(context, &route, Input::Many(requests)).await
    }
}

/// The next message of a stream; `None` at its end.
///
/// # Errors
/// What the stream ended with, or `LimitExceeded` if messages were missed.
pub(super) async fn next(stream: &mut Subscription) -> Result<Option<Bytes>, Error> {
    loop {
        match stream.next().await {
            Some(Event::Message(message)) => return Ok(Some(message.payload)),
            Some(Event::Gap { from, to }) => {
                return Err(Error::new(
                    ErrorKind::LimitExceeded,
                    format!("messages {from} to {to} were dropped before they were read"),
                ));
            }
            Some(Event::Changed) => {}
            Some(Event::Ended(Err(error))) => return Err(error),
            Some(Event::Ended(Ok(()))) | None => return Ok(None),
        }
    }
}

/// The context of a call made for the one with the context `outer`: in the session `session_id`, if one
/// is named, and within what is left of the outer call's time.
pub(super) fn within(outer: &Context, session_id: &str, timeout: Option<Duration>) -> Context {
    let mut inner = Context::new(Arc::clone(&outer.caller), outer.transport);
    inner.interface = outer.interface;
    let left = outer.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    inner.timeout = match (left, timeout) {
        (Some(left), Some(timeout)) => Some(left.min(timeout)),
        (left, timeout) => left.or(timeout),
    };
    inner.traceparent.clone_from(&outer.traceparent);
    inner.interactive = outer.interactive;
    inner.client_name.clone_from(&outer.client_name);
    inner.session = match session_id {
        "" => outer.session.clone(),
        id => Some(id.into()),
    };
    inner
}
