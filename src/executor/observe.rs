//! The record of one call: metrics, log and whoever observes, also when the client goes away in the
//! middle. What is made of it is not known here.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use super::{Executor, Route};
use crate::call::{Caller, Context, Interface, Transport};
use crate::contract::Operation;
use crate::error::{Error, ErrorKind};

/// Somebody who is told of every call. What he does with it is on the path of the call, so it must take
/// far less than a microsecond and must not wait.
pub trait Observer: Send + Sync {
    /// A call has begun that may last: one with a stream, or one that waits. Its end is told as well.
    fn began(&self, call: &Observed<'_>);

    /// A call has ended, well or with an error, after `time`.
    fn ended(&self, call: &Observed<'_>, error: Option<ErrorKind>, time: Duration);
}

/// What an observer is told of a call.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Who makes it.
    pub caller: &'a Caller,
    /// What the client calls itself.
    pub client_name: Option<&'a Arc<str>>,
    /// How it came.
    pub transport: Transport,
    /// By which interface of that.
    pub interface: Interface,
    /// What is called.
    pub operation: &'a Arc<Operation>,
}

impl Executor {
    /// Has every call from now on told to `observer` too.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        self.observers.rcu(|known| {
            let mut observers = Vec::clone(known);
            observers.push(Arc::clone(&observer));
            observers
        });
    }
}

/// One call that is being observed. Dropping it before [`Observation::end`] means that the client
/// gave the call up.
pub(super) struct Observation {
    executor: Arc<Executor>,
    route: Arc<Route>,
    /// The number of the call since the start, for the log.
    id: u64,
    caller: Arc<Caller>,
    client_name: Option<Arc<str>>,
    transport: Transport,
    interface: Interface,
    traceparent: Option<Box<str>>,
    received: Instant,
    ended: bool,
}

impl Observation {
    pub(super) fn start(executor: &Arc<Executor>, route: &Arc<Route>, context: &Context) -> Self {
        route.metrics.arrived(context.transport, context.interface);
        let observation = Self {
            executor: Arc::clone(executor),
            route: Arc::clone(route),
            id: executor.next_call.fetch_add(1, Ordering::Relaxed),
            caller: Arc::clone(&context.caller),
            client_name: context.client_name.clone(),
            transport: context.transport,
            interface: context.interface,
            traceparent: context.traceparent.clone(),
            received: context.received,
            ended: false,
        };
        if route.operation.is_streaming() || route.operation.waits {
            for observer in &**executor.observers.load() {
                observer.began(&observation.observed());
            }
        }
        observation
    }

    fn observed(&self) -> Observed<'_> {
        Observed {
            caller: &self.caller,
            client_name: self.client_name.as_ref(),
            transport: self.transport,
            interface: self.interface,
            operation: &self.route.operation,
        }
    }

    pub(super) fn end(mut self, error: Option<&Error>) {
        self.ended = true;
        self.record(error.map(|error| (error.kind(), error.message())));
    }

    fn record(&self, error: Option<(ErrorKind, &str)>) {
        let time = self.received.elapsed();
        let way = (self.transport, self.interface);
        let kind = error.map(|(kind, _)| kind);
        self.route.metrics.ended(way, kind, time);
        for observer in &**self.executor.observers.load() {
            observer.ended(&self.observed(), kind, time);
        }
        if self.executor.draining.load(Ordering::Acquire) {
            self.executor.ended.notify_waiters();
        }
        let operation = &self.route.operation;
        // A macro, because the level of an event is part of its call site.
        macro_rules! log {
            ($level:ident, $message:expr, $reason:expr) => {
                tracing::$level!(
                    call_id = self.id,
                    agent = operation.agent,
                    operation = operation.name,
                    transport = self.transport.name(),
                    interface = self.interface.name(),
                    caller_uid = self.caller.uid(),
                    caller = %self.caller.address,
                    traceparent = self.traceparent.as_deref(),
                    reason = $reason,
                    duration_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX),
                    "{}.{}: {}", operation.agent, operation.name, $message
                )
            };
        }
        match error {
            None => log!(debug, "done", "OK"),
            Some((kind @ (ErrorKind::Internal | ErrorKind::BackendFailed), message)) => {
                log!(error, message, kind.reason());
            }
            Some((kind, message)) => log!(debug, message, kind.reason()),
        }
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if !self.ended {
            self.record(Some((ErrorKind::Cancelled, "the client gave the call up")));
        }
    }
}
