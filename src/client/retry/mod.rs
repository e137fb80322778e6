//! Makes a call once more where that is safe and may help: the same way after a pause, or another way at
//! once. All tries together are under the call's one deadline. What a try is, its user says.

mod backoff;
mod breaker;
mod budget;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::metrics::{AgentMetrics, Operation};
use super::rollout::Plan;
use super::{Attempt, Error, Failure, Way};
use crate::contract::Idempotency;

pub(super) use backoff::Random;
pub use breaker::{BREAKER_FAILURES, BREAKER_FIRST_REST, BREAKER_LONGEST_REST, BreakerState};
use breaker::{Breaker, Permit, Rest};
use budget::Budget;
pub(crate) use verdict::Verdict;
pub(super) use verdict::{Again, Effect};

/// The longest that the service may ask a client to wait before the call is tried again; if it asks for
/// more, the call fails with that.
const LONGEST_TOLD: Duration = Duration::from_secs(30);

/// How much longer than the call's own time an answer is waited for, so that the service's own error,
/// which says more, comes first.
const GRACE: Duration = Duration::from_secs(1);

/// What is known of a call that is to be made safely.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) agent: &'a str,
    /// As `Recall`.
    pub(super) operation: &'a str,
    pub(super) idempotency: Idempotency,
    pub(super) has_request_id: bool,
    /// When the call is to have ended, all tries together.
    pub(super) deadline: Option<Instant>,
    pub(super) plan: Plan,
    /// True if the call may take gRPC when D-Bus says that it has moved there.
    pub(super) may_move: bool,
}

/// One try of a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Try {
    /// The way to take.
    pub(super) way: Way,
    /// The time that is left.
    pub(super) left: Option<Duration>,
    /// True if the call may have been carried out already, and only the service that then ran knows its
    /// request id: another one would carry it out again.
    pub(super) only_same_service: bool,
}

/// The breaker of each way.
#[derive(Debug, Default)]
pub(super) struct Breakers([Breaker; Way::ALL.len()]);

impl Breakers {
    /// How a way's breaker stands.
    pub(super) fn standing(&self, way: Way) -> BreakerState {
        self.0[way.index()].standing()
    }

    fn admit(&self, way: Way) -> Result<Permit<'_>, Error> {
        self.0[way.index()].admit().map_err(|Rest { left, last }| {
            let problem = format!(
                "{BREAKER_FAILURES} calls in a row got no answer that way, the last for the reason \
                 above, so that it is left alone for another {left:.1?}"
            );
            let alone = Attempt { target: way.name().to_owned(), problem };
            Error::Unreachable(last.iter().cloned().chain([alone]).collect())
        })
    }
}

/// Makes calls safely.
#[derive(Debug)]
pub(super) struct Retries {
    /// How often a call is tried again.
    max: u32,
    budget: Budget,
    breakers: Arc<Breakers>,
    metrics: Arc<AgentMetrics>,
    random: Random,
}

/// What comes after a failed try.
enum Next {
    Way(Way),
    After(Duration),
    End(Option<&'static str>),
}

/// How far a call is.
struct Progress {
    retries: u32,
    /// The way that the try takes.
    way: Way,
    /// True if the other way has been taken since the last pause.
    fell_back: bool,
    only_same_service: bool,
}

impl Retries {
    /// With the most retries of a call.
    pub(super) fn new(max: u32, metrics: Arc<AgentMetrics>, breakers: Arc<Breakers>) -> Self {
        Self { max, budget: Budget::default(), breakers, metrics, random: Random::default() }
    }

    /// Makes a call; `make` is one try of it.
    ///
    /// # Errors
    /// That of the last try. One that leaves open whether the call was carried out says why it was not
    /// tried again.
    ///
    /// # Cancel safety
    /// The try is given up.
    pub(super) async fn call<T, F, R>(&self, terms: &Terms<'_>, make: F) -> Result<T, Error>
    where
        F: Fn(Try) -> R,
        R: Future<Output = Result<T, Error>>,
    {
        let figures = self.metrics.operation(terms.agent, terms.operation);
        self.budget.call();
        let mut progress = Progress {
            retries: 0,
            way: terms.plan.way,
            fell_back: false,
            only_same_service: false,
        };
        let mut earlier = Vec::new();
        loop {
            let error = match self.try_once(terms, &progress, &figures, &make).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            let verdict = Verdict::on(&error);
            match self.next(terms, &progress, verdict, &error) {
                Next::Way(way) => {
                    figures.fallback(progress.way);
                    progress = Progress { way, fell_back: true, ..progress };
                    if let Error::Unreachable(attempts) = error {
                        earlier = attempts;
                    }
                }
                Next::After(pause) => {
                    tokio::time::sleep(pause).await;
                    earlier.clear();
                    progress.retries += 1;
                    progress.way = terms.plan.way;
                    progress.fell_back = false;
                    figures.retry(progress.way);
                }
                Next::End(reason) => return Err(explained(error, earlier, reason)),
            }
            progress.only_same_service |=
                verdict.effect == Effect::Unknown && terms.idempotency == Idempotency::Unknown;
        }
    }

    async fn try_once<T, F, R>(
        &self,
        terms: &Terms<'_>,
        progress: &Progress,
        figures: &Operation,
        make: &F,
    ) -> Result<T, Error>
    where
        F: Fn(Try) -> R,
        R: Future<Output = Result<T, Error>>,
    {
        let way = progress.way;
        let permit = self.breakers.admit(way).inspect_err(|_| figures.keep_back(way))?;
        let started = Instant::now();
        let left = terms
            .deadline
            .map(|deadline| whole_millis(deadline.saturating_duration_since(started)));
        let only_same_service = progress.only_same_service;
        let making = make(Try { way, left, only_same_service });
        let outcome = match left {
            None => making.await,
            Some(left) => in_time(left, making).await,
        };
        figures.request(way, started.elapsed(), outcome.as_ref().map(drop));
        let failed = outcome.as_ref().err().filter(|error| Verdict::on(error).is_ways);
        if permit.tries() {
            self.metrics.tried(way, failed.is_some());
        }
        match failed {
            Some(error) => permit.failed(attempts(way, error)),
            None => permit.worked(),
        }
        outcome
    }

    /// What comes after a try that failed.
    fn next(
        &self,
        terms: &Terms<'_>,
        progress: &Progress,
        verdict: Verdict,
        error: &Error,
    ) -> Next {
        if !verdict.is_safe(terms.idempotency, terms.has_request_id) {
            return Next::End((verdict.again == Again::AnyWay).then_some(
                "; it was not tried again, since it could act a second time: a call with a request id is",
            ));
        }
        let other = terms.plan.fallback.filter(|_| !progress.fell_back);
        let told = match error {
            Error::Failed(failure) => failure.retry_after,
            Error::Unreachable(_) => None,
        };
        let again = match (verdict.again, other) {
            (Again::OverGrpc, _) if terms.may_move && progress.way != Way::Grpc => {
                return Next::Way(Way::Grpc);
            }
            (Again::OtherWay, Some(way)) => return Next::Way(way),
            (Again::AnyWay, Some(way)) if verdict.is_ways => return Next::Way(way),
            (Again::AnyWay, _) => true,
            (Again::WhenTold, _) => told.is_some(),
            (Again::OverGrpc | Again::OtherWay | Again::Same, _) => false,
        };
        if !again || progress.retries >= self.max {
            return Next::End(None);
        }
        let pause = backoff::pause(progress.retries, &self.random).max(told.unwrap_or_default());
        let is_in_time = terms.deadline.is_none_or(|deadline| Instant::now() + pause < deadline);
        match pause <= LONGEST_TOLD && is_in_time && self.budget.take() {
            true => Next::After(pause),
            false => Next::End(None),
        }
    }
}

/// Waits for an answer for the time that is left, and [`GRACE`] longer.
async fn in_time<T>(
    left: Duration,
    making: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let outcome = tokio::time::timeout(left.saturating_add(GRACE), making).await;
    outcome.unwrap_or_else(|_| Err(Failure::no_answer(left).into()))
}

/// The time in whole milliseconds, rounded up: call after call says the same, which HTTP/2 then sends as one
/// byte.
fn whole_millis(time: Duration) -> Duration {
    let millis = time.subsec_nanos().div_ceil(1_000_000);
    Duration::from_secs(time.as_secs()).saturating_add(Duration::from_millis(millis.into()))
}

/// What a try of `way` that failed met.
fn attempts(way: Way, error: &Error) -> Vec<Attempt> {
    match error {
        Error::Unreachable(attempts) => attempts.clone(),
        Error::Failed(failure) => {
            vec![Attempt { target: way.name().to_owned(), problem: failure.message.clone() }]
        }
    }
}

/// The error, with what the way before met, if neither led anywhere, and why the call was not tried again.
fn explained(error: Error, mut earlier: Vec<Attempt>, reason: Option<&str>) -> Error {
    match (error, reason) {
        (Error::Unreachable(attempts), _) => {
            earlier.extend(attempts);
            Error::Unreachable(earlier)
        }
        (Error::Failed(mut failure), Some(reason)) => {
            failure.message.push_str(reason);
            Error::Failed(failure)
        }
        (error, _) => error,
    }
}

#[cfg(test)]
mod tests;
