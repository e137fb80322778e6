//! Calls that become tasks: every operation with a stream, and any other on request. They pass what
//! every call passes; what differs is that they run apart from whoever started them.

use std::sync::Arc;

use bytes::Bytes;

use super::observe::Observation;
use super::run::{Entry, deadline, ends_with_client};
use super::{Config, Executor, Route, Trail, repeats};
use crate::call::{Context, OnDisconnect};
use crate::contract::{RawReplies, RawRequests};
use crate::error::Error;
use crate::task::{End, Reading, Subscription, Task};

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
    /// [`Task::read`]; a call with a single response gives it as its only message. If the context bears
    /// the request id of an earlier call, nothing is started and that one's task is given.
    ///
    /// # Errors
    /// Why the call was not let through. What the agent says is told by the task.
    ///
    /// # Cancel safety
    /// Not started if dropped.
    pub async fn start(
        self: &Arc<Self>,
        route: &Arc<Route>,
        context: Context,
        input: Input,
    ) -> Result<Arc<Task>, Error> {
        let (task, work) = self.open(route, context, input).await?;
        if let Some(work) = work {
            tokio::spawn(work.run());
        }
        Ok(task)
    }

    /// As [`Executor::start`], for a client that reads the responses as they come: since it reads from
    /// before the work begins, it misses none. `changes`: it hears of states and progress as well.
    ///
    /// # Errors
    /// As [`Executor::start`].
    ///
    /// # Cancel safety
    /// Not started if dropped.
    pub async fn start_reading(
        self: &Arc<Self>,
        route: &Arc<Route>,
        context: Context,
        input: Input,
        changes: bool,
    ) -> Result<Subscription, Error> {
        let (task, work) = self.open(route, context, input).await?;
        // From the first message on, so that one of an earlier call that is gone is told of as a gap.
        let reader = task.read(Reading { from: 1, is_client: true, changes })?;
        if let Some(work) = work {
            tokio::spawn(work.run());
        }
        Ok(reader)
    }

    /// The task of a call, and the work that is to be started, unless it was started before.
    async fn open(
        self: &Arc<Self>,
        route: &Arc<Route>,
        mut context: Context,
        mut input: Input,
    ) -> Result<(Arc<Task>, Option<Work>), Error> {
        let observation = Observation::start(self, route, &context);
        let mut trail = Trail::new(self, route, &context);
        let (entry, (task, is_first)) =
            match self.pass(route, &mut context, &mut input, &mut trail).await {
                Ok(passed) => passed,
                Err(error) => {
                    trail.end(Some(&error)).await;
                    observation.end(Some(&error));
                    return Err(error);
                }
            };
        trail.is_task(task.id());
        if !is_first {
            trail.end(None).await;
            observation.end(None);
            return Ok((task, None));
        }
        context.reporter = Some(Arc::clone(&task) as _);
        let work = Work {
            executor: Arc::clone(self),
            route: Arc::clone(route),
            task: Arc::clone(&task),
            context,
            input,
            observation,
            trail,
            entry,
        };
        Ok((task, Some(work)))
    }

    /// What a call must pass to become a task.
    async fn pass(
        &self,
        route: &Route,
        context: &mut Context,
        // Only a unique reference to a stream may be held while waiting.
        input: &mut Input,
        trail: &mut Trail,
    ) -> Result<(Entry, (Arc<Task>, bool)), Error> {
        let config = self.config.load_full();
        let request = match input {
            Input::One(request) => Some(request.clone()),
            Input::Many(_) => None,
        };
        let entry = self.let_in(route, context, request.as_deref()).await?;
        trail.allowed(&entry.rule, request.as_deref()).await?;
        let opened = self.open_once(&config, route, context, input, &entry)?;
        Ok((entry, opened))
    }

    fn open_once(
        &self,
        config: &Config,
        route: &Route,
        context: &mut Context,
        input: &Input,
        entry: &Entry,
    ) -> Result<(Arc<Task>, bool), Error> {
        let verdict = entry.verdict;
        let operation = &route.operation;
        if !operation.is_agents && !operation.is_streaming() {
            let (agent, name) = (&operation.agent, &operation.name);
            let problem = format!("{agent}.{name} is no agent's, so it cannot become a task");
            return Err(Error::invalid("operation", problem));
        }
        if !operation.is_agents && context.on_disconnect == Some(OnDisconnect::Continue) {
            return Err(ends_with_client("it is a view, which nobody could find again"));
        }
        if !operation.is_agents && context.request_id.is_some() {
            let problem = "this call is a view, which is not repeated but opened anew";
            return Err(Error::invalid("request-id", problem));
        }
        let longest = config.tasks.max_runtime;
        context.deadline = deadline(route, context, longest, longest);
        let request_id = context.request_id.take();
        let key = request_id.map(|id| repeats::Key::new(id, &context.caller, route));
        let mut start = || {
            if Self::needs_step(context, verdict) {
                let request = match input {
                    Input::One(request) => Some(request),
                    Input::Many(_) => None,
                };
                self.approve(route, context, request, verdict)?;
            }
            self.tasks.start(operation, context, route.metrics.stream(context.transport))
        };
        match key {
            None => Ok((start()?, true)),
            Some(key) => self.started.once(key, config, route, &entry.share, input, start),
        }
    }
}

/// The work of one task.
struct Work {
    executor: Arc<Executor>,
    route: Arc<Route>,
    task: Arc<Task>,
    context: Context,
    input: Input,
    observation: Observation,
    trail: Trail,
    entry: Entry,
}

impl Work {
    async fn run(self) {
        let Self { executor, route, task, context, input, observation, mut trail, entry } = self;
        trail.begins().await;
        let work = work(&executor, &route, &task, &context, &entry, input);
        let end = tokio::select! {
            biased;
            cause = task.cancelled() => End::Cancelled(cause),
            outcome = work => outcome.map_or_else(End::Failed, |()| End::Completed),
        };
        let error = match &end {
            End::Completed => None,
            End::Failed(error) | End::Cancelled(error) => Some(error),
        };
        trail.end(error).await;
        observation.end(error);
        drop(entry);
        executor.tasks.end(&task, end);
    }
}

async fn work(
    executor: &Executor,
    route: &Route,
    task: &Arc<Task>,
    context: &Context,
    entry: &Entry,
    input: Input,
) -> Result<(), Error> {
    let kept = match &input {
        Input::One(request) => Executor::kept(&route.operation, request),
        Input::Many(_) => None,
    };
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
    let outcome = executor.run_in_time(route, context, entry, running).await;
    outcome.map_err(|error| executor.asked_by_agent(route, context, kept.as_ref(), error))
}
