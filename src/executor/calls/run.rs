//! A batch that runs: starts its calls when their turn has come, and hands their results out. Which
//! calls there are and who waits for whom is in its plan.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::FuturesUnordered;
use futures_util::{StreamExt as _, poll};
use tokio::task::consume_budget;
use tokio::time::Instant;

use super::budget::Budget;
use super::order::Order;
use super::plan::{Arguments, Plan, Work};
use super::template::Found;
use super::{Config, fresh, request};
use crate::call::Context;
use crate::contract::message_to_json;
use crate::error::{Error, ErrorKind};
use crate::executor::{Executor, Route};
use crate::metrics::Rejection;
use crate::proto::opdbus::v1::{BatchResult, BatchStatus};

/// The share of a batch's time, and the most of it, in which the results reach the client.
const SPARE_SHARE: u32 = 20;
const SPARE_MAX: Duration = Duration::from_millis(50);

/// A batch that runs. Dropping it cancels the calls that run.
pub(super) struct Run<'a> {
    executor: &'a Arc<Executor>,
    context: &'a Context,
    plan: Plan,
    /// When its calls must have ended.
    end: Option<Instant>,
    budget: Budget,
    /// For each call, how much of the budget holds what it will use.
    inputs: Vec<usize>,
    /// For each call, one that it uses and that did not go well.
    lost: Vec<Option<usize>>,
    /// Calls that wait for nothing any more.
    ready: BinaryHeap<Reverse<usize>>,
    running: FuturesUnordered<Running<'a>>,
    results: Vec<Option<BatchResult>>,
    /// The results in the order in which they came.
    ended: VecDeque<usize>,
    /// How many were given away.
    given: usize,
    /// The first call that failed, if that stops the batch.
    stopped_by: Option<usize>,
}

/// A call that runs.
type Running<'a> = Pin<Box<dyn Future<Output = Ended> + Send + 'a>>;

/// A call that has ended.
struct Ended {
    index: usize,
    route: Arc<Route>,
    outcome: Result<Bytes, Error>,
    took: Duration,
}

impl<'a> Run<'a> {
    /// Runs `plan` for the client of `context`.
    pub(super) fn new(
        executor: &'a Arc<Executor>,
        context: &'a Context,
        config: &Config,
        plan: Plan,
    ) -> Self {
        let count = plan.items.len();
        let free = (0..count).filter(|index| plan.order.waits_for[*index] == 0);
        let ready = free.map(Reverse).collect();
        let end = context.deadline.map(|deadline| {
            let whole = deadline.saturating_duration_since(context.received);
            deadline - (whole / SPARE_SHARE).min(SPARE_MAX)
        });
        Self {
            executor,
            context,
            end,
            budget: Budget::new(config.max_result_bytes),
            inputs: vec![0; count],
            lost: vec![None; count],
            ready,
            running: FuturesUnordered::new(),
            results: vec![None; count],
            ended: VecDeque::new(),
            given: 0,
            stopped_by: None,
            plan,
        }
    }

    /// The next result; `None` after the last one.
    ///
    /// # Cancel safety
    /// A call that runs alone, with no other beside it, is cancelled.
    pub(super) async fn next(&mut self) -> Option<BatchResult> {
        loop {
            let has_ended = self.start().await;
            if let Some(result) = self.due() {
                return Some(result);
            }
            if !has_ended {
                self.end_one().await?;
            }
        }
    }

    /// Waits for `work`, while the calls that run go on. No other one is started meanwhile.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            tokio::select! {
                biased;
                result = &mut work => return result,
                Some(()) = self.end_one() => {}
            }
        }
    }

    /// Makes room: a result of `bytes` has left.
    pub(super) fn release(&mut self, bytes: usize) {
        self.budget.release(bytes);
    }

    /// The result to give away next, if it is there.
    fn due(&mut self) -> Option<BatchResult> {
        let index = if self.plan.as_completed { self.ended.pop_front()? } else { self.given };
        let result = self.results.get_mut(index)?.take()?;
        self.given += 1;
        Some(result)
    }

    /// Starts calls, until so many run as may, or one has ended: then true. Where they run one after
    /// the other that is the end of each.
    ///
    /// # Cancel safety
    /// As [`Run::next`].
    async fn start(&mut self) -> bool {
        // Calls that never wait must still let others run.
        consume_budget().await;
        while self.running.len() < self.plan.width {
            let Some(Reverse(index)) = self.ready.pop() else { return false };
            self.budget.release(std::mem::take(&mut self.inputs[index]));
            let work = self.plan.items[index].work.take();
            if let Some(reason) = self.reason_to_skip(index) {
                self.finish(index, BatchStatus::Skipped, Err(reason), None);
                return true;
            }
            match work.unwrap_or_else(|| Err(made_twice())).and_then(|work| self.prepare(work)) {
                Ok((route, context, request)) => {
                    let call = call(self.executor, index, route, context, request);
                    if self.plan.width == 1 {
                        let ended = call.await;
                        self.note(ended);
                        return true;
                    }
                    let mut call: Running<'a> = Box::pin(call);
                    // Many calls never wait; those need no place among the ones that do.
                    match poll!(call.as_mut()) {
                        Poll::Ready(ended) => self.note(ended),
                        Poll::Pending => {
                            self.running.push(call);
                            continue;
                        }
                    }
                }
                // One whose turn has come only to be told that it cannot be made.
                Err(error) => self.finish(index, BatchStatus::Failed, Err(error), None),
            }
            return true;
        }
        false
    }

    fn reason_to_skip(&self, index: usize) -> Option<Error> {
        if let Some(other) = self.stopped_by {
            let text = format!("was not made, because {} failed", self.plan.name(other));
            return Some(Error::new(ErrorKind::Cancelled, text));
        }
        if let Some(other) = self.lost[index] {
            let text = format!(
                "was not made, because it uses the result of {}, which did not go well",
                self.plan.name(other)
            );
            return Some(Error::new(ErrorKind::Cancelled, text));
        }
        let is_over = self.end.is_some_and(|end| end <= Instant::now());
        is_over.then(|| {
            let text = "was not made: the time for the batch was over";
            Error::new(ErrorKind::DeadlineExceeded, text)
        })
    }

    fn prepare(&self, work: Work) -> Result<(Arc<Route>, Context, Bytes), Error> {
        let Work { route, arguments, timeout, request_id } = work;
        let request = match arguments {
            Arguments::Encoded(request) => request,
            Arguments::Template(template, _) => request::encode(&route, &template.into_text())
                .inspect_err(|_| self.executor.reject(Rejection::InvalidRequest))?,
        };
        let mut context = Context { timeout, request_id, ..fresh(self.context) };
        if let Some(end) = self.end {
            let left = end.saturating_duration_since(context.received);
            context.timeout = Some(timeout.map_or(left, |timeout| timeout.min(left)));
        }
        Ok((route, context, request))
    }

    /// Waits until one of the calls that run has ended; `None` if none runs.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    async fn end_one(&mut self) -> Option<()> {
        let ended = self.running.next().await?;
        self.note(ended);
        Some(())
    }

    fn note(&mut self, ended: Ended) {
        let Ended { index, route, outcome, took } = ended;
        let status = if outcome.is_ok() { BatchStatus::Ok } else { BatchStatus::Failed };
        let outcome = outcome.map(|response| (route, response));
        self.finish(index, status, outcome, Some(took));
    }

    /// Notes what came of a call, and lets those go on that wait for it.
    fn finish(
        &mut self,
        index: usize,
        status: BatchStatus,
        outcome: Result<(Arc<Route>, Bytes), Error>,
        took: Option<Duration>,
    ) {
        let answer = outcome.and_then(|(route, response)| self.answer(index, &route, response));
        let (result, found) = match answer {
            Ok((result, found)) => (BatchResult { status: status.into(), ..result }, found),
            Err(error) => (self.failed(status, &error), None),
        };
        if result.status() == BatchStatus::Failed && self.plan.stop_on_error {
            self.stopped_by.get_or_insert(index);
        }
        self.results[index] = Some(BatchResult {
            index: u32::try_from(index).unwrap_or(u32::MAX),
            id: self.plan.items[index].id.clone(),
            took: took.and_then(|took| took.try_into().ok()),
            ..result
        });
        self.ended.push_back(index);
        self.hand_on(index, found);
        let Order { followers, waits_for } = &mut self.plan.order;
        for follower in &followers[index] {
            waits_for[*follower] -= 1;
            if waits_for[*follower] == 0 {
                self.ready.push(Reverse(*follower));
            }
        }
    }

    /// A response in the form of its request, and where others find what they use of it.
    fn answer(
        &mut self,
        index: usize,
        route: &Route,
        response: Bytes,
    ) -> Result<(BatchResult, Option<Found>), Error> {
        let item = &self.plan.items[index];
        let mut result = BatchResult::default();
        let mut found = None;
        if item.is_json || !item.users.is_empty() {
            let json = message_to_json(&route.operation.output, &response)?;
            if !item.users.is_empty() {
                found = Some(Found::new(&json)?);
            }
            if item.is_json {
                result.result = json;
            }
        }
        if !item.is_json {
            result.response = response;
        }
        self.budget.take(size(&result), "the call was made, but its result does not fit")?;
        Ok((result, found))
    }

    fn failed(&mut self, status: BatchStatus, error: &Error) -> BatchResult {
        // A call that was made and cannot be answered has failed, whatever it has done.
        let status = if status == BatchStatus::Ok { BatchStatus::Failed } else { status };
        let result = BatchResult {
            status: status.into(),
            failure: Some(error.into()),
            ..BatchResult::default()
        };
        self.budget.overdraw(size(&result));
        result
    }

    /// Gives a result to the calls that use it; `None` if there is none.
    fn hand_on(&mut self, index: usize, mut found: Option<Found>) {
        for user in std::mem::take(&mut self.plan.items[index].users) {
            let Some(found) = &mut found else {
                self.lost[user].get_or_insert(index);
                continue;
            };
            let work = &mut self.plan.items[user].work;
            let Some(Ok(Work { arguments: Arguments::Template(template, places), .. })) = work
            else {
                continue;
            };
            let places = places.remove(&index).unwrap_or_default();
            match template.fill(&places, found, &mut self.budget) {
                Ok(bytes) => self.inputs[user] += bytes,
                Err(error) => *work = Some(Err(error)),
            }
        }
    }
}

async fn call(
    executor: &Arc<Executor>,
    index: usize,
    route: Arc<Route>,
    context: Context,
    request: Bytes,
) -> Ended {
    let start = context.received;
    let outcome = executor.call(&route, context, request).await;
    Ended { index, route, outcome, took: start.elapsed() }
}

/// The bytes of a result that count.
pub(super) fn size(result: &BatchResult) -> usize {
    let failure = result.failure.as_ref().map_or(0, |failure| failure.message.len());
    result.result.len() + result.response.len() + failure
}

fn made_twice() -> Error {
    Error::internal("the call was made already")
}
