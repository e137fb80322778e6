//! Agents that run in workers: processes with their caller's rights, one for each user and sandbox
//! profile. Calls and streams are forwarded as they are, in both directions, and no faster than they are
//! read. Whether a call may run has been decided before.

mod answer;
mod keeper;
mod link;
mod notes;
mod outgoing;
mod pool;
mod slot;
mod standing;
mod starter;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use tokio::time::Instant;

use super::{Host, Roster, Started, State};
use crate::agents::{AtCaller, Start};
use crate::call::{Context, SessionScope};
use crate::contract::{InputWatch, Operation, RawReplies, RawRequests, Running, Service, encode};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::worker::v1::EndSessionRequest;
use crate::wire;

use answer::{Answer, blame};
use link::{Call, Entered, Failed};
use outgoing::{Broken, Outgoing};
use standing::Standing;

pub use pool::Workers;
pub use starter::{ExecService, Leash, OwnUid, Process, Starter};

/// How workers are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The lowest uid that workers are started for (`[worker] min_uid`).
    pub min_uid: u32,
    /// How many workers there may be at once (`[worker] max`).
    pub max: usize,
    /// After what time without use a worker is ended (`[worker] idle_ms`); `None`: never. Not while
    /// something goes on in it or a session wants it.
    pub idle: Option<Duration>,
    /// How long starting one may take (`[worker] start_timeout_ms`).
    pub start_timeout: Duration,
    /// How often a worker is asked whether it is alive (`[worker] check_ms`).
    pub check: Duration,
    /// How long it may take to say so (`[worker] check_timeout_ms`).
    pub check_timeout: Duration,
    /// The largest message that a worker may answer with, in bytes (`[worker] max_response_bytes`).
    pub max_response_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min_uid: 1000,
            max: 64,
            idle: Some(Duration::from_secs(600)),
            start_timeout: Duration::from_secs(5),
            check: Duration::from_secs(5),
            check_timeout: Duration::from_secs(5),
            max_response_bytes: 4_194_304,
        }
    }
}

/// Runs the calls of one agent in workers.
pub struct InWorkers {
    agent: Arc<str>,
    operations: Vec<Arc<Operation>>,
    workers: Arc<Workers>,
    standing: Arc<Standing>,
}

impl InWorkers {
    /// Hosts the agent that serves `service` in `workers`. `start` says when it starts, and `roster` is
    /// told what becomes of it. Must be called in a runtime.
    #[must_use]
    pub fn new(
        service: &Service,
        workers: Arc<Workers>,
        start: Start,
        roster: &Arc<Roster>,
    ) -> Self {
        let standing = Standing::new(service, start, roster, workers.metrics());
        workers.serve(&standing);
        let agent = Arc::clone(&standing.agent);
        Self { agent, operations: service.operations.clone(), workers, standing }
    }

    /// Has the user's workers for every operation of the agent running.
    async fn ready(&self, uid: u32) -> Started {
        let begun = Instant::now();
        let agent = Arc::clone(&self.agent);
        let entering =
            self.standing.profiles.iter().map(|profile| self.workers.enter(uid, profile));
        let entered: Result<Vec<Entered>, Error> = join_all(entering).await.into_iter().collect();
        match entered {
            Ok(workers) => {
                let starts = workers.iter().any(|worker| worker.has_begun_since(begun));
                let took = starts.then(|| begun.elapsed());
                Started { agent, state: State::Running, took, reason: String::new() }
            }
            Err(error) => {
                let reason = error.message().to_owned();
                Started { agent, state: State::Failed, took: None, reason }
            }
        }
    }

    /// The worker that serves an operation for its caller.
    async fn enter(&self, operation: &Operation, context: &Context) -> Result<Entered, Error> {
        let uid = context.caller.uid().ok_or_else(|| {
            let text = format!("agent {} acts as its caller, whom nobody vouches for", self.agent);
            Error::new(ErrorKind::Unauthenticated, text)
        })?;
        self.workers.enter(uid, &operation.sandbox).await
    }

    /// The worker that has got `request`, and the answer's beginning.
    ///
    /// A worker may end between being found and being asked. As long as it has not got the request, this
    /// is tried with another.
    async fn run<T>(
        &self,
        operation: &Operation,
        context: &Context,
        (body, watch): (Outgoing, Option<Arc<dyn InputWatch>>),
        finish: impl AsyncFnOnce(Answer<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        const TRIES: usize = 3;
        let _calling = self.standing.calling();
        let mut call = Call::new(&operation.grpc_path, context, body)?;
        for _ in 0..TRIES {
            let worker = self.enter(operation, context).await?;
            match worker.send(call).await {
                Ok(mut answer) => {
                    if let Some(reporter) = &context.reporter {
                        answer.hear(notes::pass_on(Arc::clone(reporter), watch));
                    }
                    return finish(answer).await;
                }
                Err(Failed::Error(error)) => return Err(error),
                Err(Failed::NotSent(unsent)) => call = *unsent,
            }
        }
        let text = format!("workers for agent {} end as soon as they start", self.agent);
        Err(Error::new(ErrorKind::BackendUnavailable, text))
    }
}

impl AtCaller for InWorkers {
    fn call<'a>(
        &'a self,
        name: &'a str,
        context: &'a Context,
        request: Bytes,
    ) -> Running<'a, Bytes> {
        Box::pin(async move {
            let found = self.operations.iter().find(|operation| operation.name == name);
            let operation = found.ok_or_else(|| {
                Error::internal(format!("agent {} has no operation {name}", self.agent))
            })?;
            Host::call(self, operation, context, request).await
        })
    }
}

impl Host for InWorkers {
    fn call<'a>(
        &'a self,
        operation: &'a Operation,
        context: &'a Context,
        request: Bytes,
    ) -> Running<'a, Bytes> {
        Box::pin(async move {
            let body = Outgoing::one(request)?;
            self.run(operation, context, (body, None), async |answer| answer.only().await).await
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
            let broken = Broken::default();
            // It is the agent's waiting that counts, which the worker tells.
            let (mut requests, watch) = requests.unwatched();
            let body = match operation.client_streaming {
                true => Outgoing::many(requests, broken.clone()),
                false => {
                    let missing = || Error::invalid("request", "is missing");
                    Outgoing::one(requests.next().await.ok_or_else(missing)??)?
                }
            };
            let forward = async |mut answer: Answer<'_>| {
                while let Some(message) = answer.next().await? {
                    replies.send(message).await?;
                }
                Ok(())
            };
            let outcome = self.run(operation, context, (body, watch), forward).await;
            outcome.map_err(|error| blame(&broken, error))
        })
    }

    fn warm(&self, uid: u32, _by_contract: bool) -> Option<BoxFuture<'_, Started>> {
        self.standing.starts_with_session().then(|| self.ready(uid).boxed())
    }

    /// Tells the session's workers. One that does not run keeps nothing for it, and is not started.
    fn session_ended<'a>(&'a self, session: &'a SessionScope) -> Running<'a, ()> {
        Box::pin(async move {
            let message = encode(&EndSessionRequest {
                agent: self.agent.to_string(),
                uid: session.uid,
                session: session.id.to_string(),
            })?;
            for worker in self.workers.running(session.uid) {
                if let Err(error) = worker.ask(wire::END_SESSION, message.clone()).await {
                    tracing::warn!(
                        agent = &*self.agent,
                        session = &*session.id,
                        caller_uid = session.uid,
                        "what agent {} keeps for session {} was not dropped: {error}",
                        self.agent,
                        session.id
                    );
                }
            }
            Ok(())
        })
    }
}
