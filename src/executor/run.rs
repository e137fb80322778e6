//! The way of a call that was found: let in, given its deadline, admitted, run. How it was found and
//! what is recorded of it is not here.

use std::borrow::Cow;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{FutureExt as _, poll};
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::access::{Decision, Verdict};
use super::count::Taken;
use super::share::Share;
use super::{Config, Executor, Route, Trail, admit, repeats};
use crate::call::{Context, OnDisconnect};
use crate::contract::Running;
use crate::error::{Error, ErrorKind};
use crate::metrics::{Rejection, Stage};
use crate::session::InSession;

/// What a call that was let in has for as long as it runs.
pub(super) struct Entry {
    /// What the policy says to it.
    pub(super) verdict: Verdict,
    /// The rule that says so, for the audit log.
    pub(super) rule: Cow<'static, str>,
    pub(super) share: Arc<Share>,
    /// Its place among the caller's calls that only wait, if it is one.
    _waits: Option<Taken>,
    _held: Taken,
    _session: Option<InSession>,
}

impl Executor {
    pub(super) async fn run(
        self: &Arc<Self>,
        route: &Arc<Route>,
        mut context: Context,
        request: Bytes,
        trail: &mut Trail,
    ) -> Result<Bytes, Error> {
        if route.operation.is_streaming() {
            return Err(needs_stream(route));
        }
        if context.on_disconnect == Some(OnDisconnect::Continue) {
            return Err(ends_with_client("calls.StartCall gives a task that does not"));
        }
        let config = self.config.load_full();
        let entry = self.let_in(route, &context, Some(&request)).await?;
        trail.allowed(&entry.rule, Some(&request)).await?;
        context.deadline = deadline(route, &context, config.default_timeout, config.max_timeout);
        match context.request_id.take() {
            None => self.carry_out(route, &context, &entry, request).await,
            Some(id) => Box::pin(self.run_once(id, &config, route, context, request, entry)).await,
        }
    }

    /// What every call must pass before anything is done for it. `request`: none for a stream of
    /// requests, of which the transport bounds what is under way.
    pub(super) async fn let_in(
        &self,
        route: &Route,
        context: &Context,
        request: Option<&[u8]>,
    ) -> Result<Entry, Error> {
        if self.draining.load(Ordering::Acquire) {
            self.reject(Rejection::Draining);
            let error = Error::new(ErrorKind::Unavailable, "the service is stopping");
            return Err(error.refused_by("the service is stopping"));
        }
        let start = Instant::now();
        self.metrics.stage(Stage::Lookup, start - context.received);
        let (mut verdict, mut rule) = self.authorize(route, &context.caller).await?;
        self.stays_here(route, context)?;
        let share = self.shares.load().of(&context.caller);
        // The calls that it makes are counted themselves.
        if !route.makes_calls() {
            share.take(route.operation.risk, &self.metrics)?;
        }
        let held = share.request_bytes.take(request.map_or(0, <[u8]>::len));
        let held = held.inspect_err(|_| self.reject(Rejection::CallerBytes))?;
        let waits = route.operation.waits.then(|| share.waits.take(1)).transpose();
        let waits = waits.inspect_err(|_| self.reject(Rejection::CallerLimit))?;
        let session = match &context.session {
            None => None,
            Some(id) => Some(
                self.sessions
                    .enter(context, id, &route.operation)
                    .inspect_err(|_| self.reject(Rejection::UnknownSession))?,
            ),
        };
        // After the limits, so that they also bound what is asked.
        if verdict.decision == Decision::Auth {
            // Boxed, so that the other calls do not carry its size.
            rule = Box::pin(self.consult(route, context, request, &rule)).await?;
            verdict.decision = Decision::Allow;
        }
        self.metrics.stage(Stage::Authorize, start.elapsed());
        Ok(Entry { verdict, rule, share, _waits: waits, _held: held, _session: session })
    }

    /// Runs a call with one request and one response, once it has a place.
    async fn carry_out(
        &self,
        route: &Route,
        context: &Context,
        entry: &Entry,
        request: Bytes,
    ) -> Result<Bytes, Error> {
        let kept = Self::kept(&route.operation, &request);
        let work = self.unary(route, context, request, entry.verdict);
        let outcome = self.run_in_time(route, context, entry, work).await;
        outcome.map_err(|error| self.asked_by_agent(route, context, kept.as_ref(), error))
    }

    /// The work of a call with one request and one response.
    fn unary<'a>(
        &'a self,
        route: &'a Route,
        context: &'a Context,
        request: Bytes,
        verdict: Verdict,
    ) -> Running<'a, Bytes> {
        if !Self::needs_step(context, verdict) {
            return route.host.call(&route.operation, context, request);
        }
        Box::pin(async move {
            let mut context = context.clone();
            self.approve(route, &mut context, Some(&request), verdict)?;
            route.host.call(&route.operation, &context, request).await
        })
    }

    /// Runs a call with a request id: the first with this id runs, the others get its result.
    async fn run_once(
        self: &Arc<Self>,
        id: Box<str>,
        config: &Config,
        route: &Arc<Route>,
        context: Context,
        request: Bytes,
        entry: Entry,
    ) -> Result<Bytes, Error> {
        let deadline = context.deadline;
        let key = repeats::Key::new(id, &context.caller, route);
        let executor = Arc::clone(self);
        let called = Arc::clone(route);
        let payload = request.clone();
        let share = Arc::clone(&entry.share);
        let mut work = context;
        work.deadline = Some(work.received + config.max_timeout);
        let work = async move { executor.carry_out(&called, &work, &entry, payload).await };
        let result = self.repeats.run(key, config, route, &share, request, work);
        match deadline {
            Some(deadline) => timeout_at(deadline, result).await.unwrap_or_else(|_| {
                Err(Error::new(
                    ErrorKind::DeadlineExceeded,
                    "the time for the call was over; sent again with its request id it gives its result",
                ))
            }),
            None => result.await,
        }
    }

    /// Admits a call and runs it, both before the deadline.
    pub(super) async fn run_in_time<T>(
        &self,
        route: &Route,
        context: &Context,
        entry: &Entry,
        work: Running<'_, T>,
    ) -> Result<T, Error> {
        let start = Instant::now();
        let deadline = context.deadline;
        // Nobody waits for it any more, so it is to do nothing, even if it would be done at once.
        if deadline.is_some_and(|deadline| deadline <= start) {
            self.reject(Rejection::Deadline);
            let text = "the time for the call was over before it began";
            return Err(Error::new(ErrorKind::DeadlineExceeded, text));
        }
        let Ok(admitted) = before(deadline, self.admit(route, entry)).await else {
            self.reject(Rejection::Deadline);
            return Err(Error::new(
                ErrorKind::DeadlineExceeded,
                "the time for the call was over while it waited for a place",
            ));
        };
        let _place = admitted?;
        let admitted_at = Instant::now();
        self.metrics.stage(Stage::Admit, admitted_at - start);
        let outcome = before(deadline, AssertUnwindSafe(work).catch_unwind()).await;
        self.metrics.stage(Stage::Run, admitted_at.elapsed());
        match outcome {
            Ok(Ok(result)) => result,
            Ok(Err(_panic)) => {
                Err(Error::internal("the agent panicked; the service's log says where"))
            }
            Err(_) => Err(Error::new(
                ErrorKind::DeadlineExceeded,
                format!(
                    "the time for the call was over after {} ms",
                    context.received.elapsed().as_millis()
                ),
            )),
        }
    }

    async fn admit<'a>(
        &'a self,
        route: &'a Route,
        entry: &'a Entry,
    ) -> Result<Option<admit::Places<'a>>, Error> {
        if route.operation.waits {
            return Ok(None);
        }
        admit::enter(&entry.share.gate, &route.gates, &self.metrics).await.map(Some)
    }
}

/// When a call is to be over: at the client's time or `default`, but no later than `longest`. One that
/// only waits has no end but its client's.
pub(super) fn deadline(
    route: &Route,
    context: &Context,
    default: Duration,
    longest: Duration,
) -> Option<Instant> {
    let timeout = match context.timeout {
        None if route.operation.waits => return None,
        None => default.min(longest),
        Some(timeout) if route.operation.waits => timeout,
        Some(timeout) => timeout.min(longest),
    };
    context.received.checked_add(timeout)
}

/// Waits for `work`, but not beyond `deadline`.
async fn before<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, Elapsed> {
    let Some(deadline) = deadline else { return Ok(work.await) };
    let mut work = pin!(work);
    // Much work never waits, and then needs no timer.
    match poll!(work.as_mut()) {
        Poll::Ready(outcome) => Ok(outcome),
        Poll::Pending => timeout_at(deadline, work).await,
    }
}

/// The answer to a client that wants a call to go on without it which does not.
pub(super) fn ends_with_client(instead: &str) -> Error {
    let problem = format!("this call ends when its client goes away; {instead}");
    Error::invalid("on-disconnect", problem)
}

fn needs_stream(route: &Route) -> Error {
    let operation = &route.operation;
    Error::new(
        ErrorKind::InvalidArgument,
        format!(
            "{}.{} is a stream: call it as one, or start it as a task with calls.StartCall",
            operation.agent, operation.name
        ),
    )
}
