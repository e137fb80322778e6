//! The record of one call: metrics and log, also when the client goes away in the middle.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use super::{Executor, Route};
use crate::call::{Caller, Context, Interface, Transport};
use crate::error::{Error, ErrorKind};

/// One call that is being observed. Dropping it before [`Observation::end`] means that the client
/// gave the call up.
pub(super) struct Observation {
    executor: Arc<Executor>,
    route: Arc<Route>,
    /// The number of the call since the start, for the log.
    id: u64,
    caller: Arc<Caller>,
    transport: Transport,
    interface: Interface,
    traceparent: Option<Box<str>>,
    received: Instant,
    ended: bool,
}

impl Observation {
    pub(super) fn start(executor: &Arc<Executor>, route: &Arc<Route>, context: &Context) -> Self {
        route.metrics.arrived(context.transport, context.interface);
        Self {
            executor: Arc::clone(executor),
            route: Arc::clone(route),
            id: executor.next_call.fetch_add(1, Ordering::Relaxed),
            caller: Arc::clone(&context.caller),
            transport: context.transport,
            interface: context.interface,
            traceparent: context.traceparent.clone(),
            received: context.received,
            ended: false,
        }
    }

    pub(super) fn end(mut self, error: Option<&Error>) {
        self.ended = true;
        self.record(error.map(|error| (error.kind(), error.message())));
    }

    fn record(&self, error: Option<(ErrorKind, &str)>) {
        let time = self.received.elapsed();
        let way = (self.transport, self.interface);
        self.route.metrics.ended(way, error.map(|(kind, _)| kind), time);
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
