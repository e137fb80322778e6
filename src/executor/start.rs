//! Calls that become tasks: every operation with a stream, and any other on request. They pass what
//! every call passes; what differs is that they run apart from whoever started them.

use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;

use super::observe::Observation;
use super::{Executor, Route, deadline};
use crate::call::{Context, Transport};
use crate::contract::{RawReplies, RawRequests};
use crate::error::{Error, ErrorKind};
use crate::task::{Reading, Subscription, Task};

/// What a call is given.
#[derive(Debug)]
pub enum Input {
    /// One request.
    One(Bytes),
    /// A stream of them.
    Many(RawRequests),
}

impl Executor {
    /// Starts a call that runs on its own and gives the task that it is. Its responses are read with
    /// [`Task::read`]; a call with a single response gives it as its only message.
    ///
    /// # Errors
    /// Why the call was not let through. What the agent says is told by the task.
    ///
    /// # Cancel safety
    /// Not started if dropped.
    #[expect(clippy::unused_async, reason = "a start may come to wait, and all callers can")]
    pub async fn start(
        self: &Arc<Self>,
        route: &Arc<Route>,
        context: Context,
        input: Input,
    ) -> Result<Arc<Task>, Error> {
        let (task, work) = self.prepare(route, context, input)?;
        tokio::spawn(work);
        Ok(task)
    }

    /// The same for a client that reads the task from its first message on: none is dropped before the
    /// client's reader is there.
    ///
    /// # Errors
    /// As [`Executor::start`].
    ///
    /// # Cancel safety
    /// Not started if dropped.
    #[expect(clippy::unused_async, reason = "a start may come to wait, and all callers can")]
    pub async fn start_reading(
        self: &Arc<Self>,
        route: &Arc<Route>,
        context: Context,
        input: Input,
    ) -> Result<Subscription, Error> {
        let (task, work) = self.prepare(route, context, input)?;
        let reading = Reading { from: 0, is_client: true, changes: true };
        let subscription = task.read(reading)?;
        tokio::spawn(work);
        Ok(subscription)
    }

    /// A client has gone: what it wanted to end with it ends.
    pub fn client_gone(&self, transport: Transport, address: &str) {
        self.tasks.client_gone(transport, address);
    }

    /// Lets a call in, and gives its task and its work.
    fn prepare(
        self: &Arc<Self>,
        route: &Arc<Route>,
        mut context: Context,
        input: Input,
    ) -> Result<(Arc<Task>, impl Future<Output = ()> + Send + 'static), Error> {
        let observation = Observation::start(self, route, &context);
        let config = self.config.load_full();
        let opened = self
            .let_in(&config, route, &context)
            .and_then(|()| self.tasks.open(&config.tasks, &route.operation, &context));
        let task = match opened {
            Ok(task) => task,
            Err(error) => {
                observation.end(Some(&error));
                return Err(error);
            }
        };
        let longest = config.tasks.max_runtime;
        context.deadline = deadline(route, &context, longest, longest);
        task.set_deadline(context.deadline);
        context.reporter = Some(Arc::clone(&task) as _);
        let work = Work {
            executor: Arc::clone(self),
            route: Arc::clone(route),
            task: Arc::clone(&task),
            context,
        };
        Ok((task, work.run(input, observation)))
    }
}

/// The work of one task.
struct Work {
    executor: Arc<Executor>,
    route: Arc<Route>,
    task: Arc<Task>,
    context: Context,
}

impl Work {
    async fn run(self, input: Input, observation: Observation) {
        let outcome = tokio::select! {
            biased;
            () = self.task.cancelled() => {
                Err(Error::new(ErrorKind::Cancelled, "the task was cancelled"))
            }
            outcome = self.work(input) => outcome,
        };
        observation.end(outcome.as_ref().err());
        self.task.end(outcome);
    }

    async fn work(&self, input: Input) -> Result<(), Error> {
        let Self { executor, route, task, context } = self;
        let running = Box::pin(async move {
            task.begin();
            let operation = &route.operation;
            let replies = RawReplies::new(Arc::clone(task) as _);
            let requests = match input {
                Input::One(request) if !operation.is_streaming() => {
                    let response = route.host.call(operation, context, request).await?;
                    return replies.send(response).await;
                }
                Input::One(request) => RawRequests::one(request),
                Input::Many(requests) => requests.watched(Arc::clone(task) as _),
            };
            route.host.stream(operation, context, requests, replies).await
        });
        executor.run_in_time(route, context, running).await
    }
}
