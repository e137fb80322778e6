//! Calls that become tasks: every operation with a stream, and any other on request. They pass what
//! every call passes; what differs is that they run apart from whoever started them.

use std::sync::Arc;

use bytes::Bytes;

use super::observe::Observation;
use super::{Executor, Route, deadline};
use crate::call::Context;
use crate::contract::{RawReplies, RawRequests};
use crate::error::{Error, ErrorKind};
use crate::session::InSession;
use crate::task::Task;

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
    pub async fn start(
        self: &Arc<Self>,
        route: &Arc<Route>,
        mut context: Context,
        input: Input,
    ) -> Result<Arc<Task>, Error> {
        let observation = Observation::start(self, route, &context);
        let config = self.config.load_full();
        let opened = self.let_in(&config, route, &context).and_then(|in_session| {
            Ok((in_session, self.tasks.open(&config.tasks, &route.operation, &context)?))
        });
        let (in_session, task) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                observation.end(Some(&error));
                return Err(error);
            }
        };
        let longest = config.tasks.max_runtime;
        context.deadline = deadline(route, &context, longest, longest);
        context.reporter = Some(Arc::clone(&task) as _);
        let work = Work {
            executor: Arc::clone(self),
            route: Arc::clone(route),
            task: Arc::clone(&task),
            context,
            _in_session: in_session,
        };
        tokio::spawn(work.run(input, observation));
        Ok(task)
    }
}

/// The work of one task.
struct Work {
    executor: Arc<Executor>,
    route: Arc<Route>,
    task: Arc<Task>,
    context: Context,
    _in_session: Option<InSession>,
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
        let Self { executor, route, task, context, _in_session } = self;
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
