//! The service that makes calls for its client: several in one, or one as a task. Each goes the way of
//! every call; nothing that holds for calls is decided here.

mod budget;
mod order;
mod plan;
mod request;
mod run;
mod template;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::count::Taken;
use super::{Executor, Input};
use crate::call::{self, Context};
use crate::contract::Replies;
use crate::error::{Error, ErrorKind};
use crate::metrics::Rejection;
use crate::proto::opdbus::v1::{
    BatchCallRequest, BatchCallResponse, BatchCallStreamRequest, BatchCallStreamResponse,
    BatchStatus, CallsService, OnDisconnect, StartCallRequest, StartCallResponse,
};

use plan::Plan;
use request::Payload;
use run::Run;

/// What a client is told to wait that finds too many batches running.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// The settings of batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// How many calls a batch has (`[batch] max_items`).
    pub max_items: usize,
    /// How many of them run side by side (`[batch] max_parallel`).
    pub max_parallel: usize,
    /// The bytes of all results, and of those that calls use (`[batch] max_result_bytes`).
    pub max_result_bytes: usize,
    /// How many batches run at once (`[batch] max_running`).
    pub max_running: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_items: 1000,
            max_parallel: 16,
            max_result_bytes: 3 * 1024 * 1024,
            max_running: 256,
        }
    }
}

/// The implementation of `opdbus.v1.CallsService`.
pub struct Calls {
    /// Weak, because the executor's registry holds this service as one of its own.
    executor: Weak<Executor>,
    running: AtomicUsize,
}

/// A batch that runs; dropping it makes room for another.
struct Running<'a>(&'a AtomicUsize, #[expect(dead_code, reason = "dropped with it")] Taken);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Calls {
    /// Makes its calls with `executor`.
    #[must_use]
    pub fn new(executor: &Arc<Executor>) -> Self {
        Self { executor: Arc::downgrade(executor), running: AtomicUsize::new(0) }
    }

    fn executor(&self) -> Result<Arc<Executor>, Error> {
        let executor = self.executor.upgrade();
        executor.ok_or_else(|| Error::new(ErrorKind::Unavailable, "the service is stopping"))
    }

    fn enter(
        &self,
        executor: &Executor,
        config: &Config,
        context: &Context,
    ) -> Result<Running<'_>, Error> {
        let own = executor.shares.load().of(&context.caller).batches.take(1);
        let own = own.inspect_err(|_| executor.reject(Rejection::CallerLimit))?;
        let running = Running(&self.running, own);
        if self.running.fetch_add(1, Ordering::Relaxed) < config.max_running {
            return Ok(running);
        }
        executor.reject(Rejection::QueueFull);
        let error =
            Error::limit("batch.max_running", config.max_running, "too many batches are running");
        Err(error.with_retry_after(RETRY_AFTER))
    }
}

impl CallsService for Calls {
    async fn batch_call(
        &self,
        context: &Context,
        request: BatchCallRequest,
    ) -> Result<BatchCallResponse, Error> {
        let executor = self.executor()?;
        let config = executor.config.load().batch;
        let _running = self.enter(&executor, &config, context)?;
        let plan = Plan::new(&executor, &config, request).await?;
        let mut results = Vec::with_capacity(plan.items.len());
        let mut run = Run::new(&executor, context, &config, plan);
        while let Some(result) = run.next().await {
            results.push(result);
        }
        let failed = results.iter().filter(|result| result.status() != BatchStatus::Ok).count();
        Ok(BatchCallResponse { results, failed: u32::try_from(failed).unwrap_or(u32::MAX) })
    }

    async fn batch_call_stream(
        &self,
        context: &Context,
        request: BatchCallStreamRequest,
        replies: Replies<BatchCallStreamResponse>,
    ) -> Result<(), Error> {
        let batch = request.batch.ok_or_else(|| Error::invalid("batch", "is missing"))?;
        let executor = self.executor()?;
        let config = executor.config.load().batch;
        let _running = self.enter(&executor, &config, context)?;
        let plan = Plan::new(&executor, &config, batch).await?;
        let mut run = Run::new(&executor, context, &config, plan);
        while let Some(result) = run.next().await {
            let size = run::size(&result);
            let reply = BatchCallStreamResponse { result: Some(result) };
            run.beside(replies.send(reply)).await?;
            run.release(size);
        }
        Ok(())
    }

    async fn start_call(
        &self,
        context: &Context,
        request: StartCallRequest,
    ) -> Result<StartCallResponse, Error> {
        let executor = self.executor()?;
        let route = executor.find(&request.agent, &request.operation)?;
        let operation = &route.operation;
        let refuse = |problem: &str| {
            let name = format!("{}.{}", operation.agent, operation.name);
            Err(Error::invalid("operation", format_args!("{name} {problem}")))
        };
        if operation.client_streaming {
            return refuse("takes a stream of requests; call it as one");
        }
        if !operation.is_agents {
            return refuse("is no operation of an agent, so that it cannot be a task");
        }
        let on_disconnect = match request.on_disconnect() {
            OnDisconnect::Unspecified => None,
            OnDisconnect::Continue => Some(call::OnDisconnect::Continue),
            OnDisconnect::Cancel => Some(call::OnDisconnect::Cancel),
        };
        let context = Context {
            timeout: request::timeout(request.timeout)?,
            on_disconnect,
            approval_id: context.approval_id.clone(),
            ..fresh(context)
        };
        let payload = match request::payload(request.arguments, request.request)? {
            Payload::Encoded(request) => request,
            Payload::Json(json) => match request::encode(&route, &json) {
                Ok(request) => request,
                Err(error) => return Err(executor.unread(&route, context, error).await),
            },
        };
        let task = executor.start(&route, context, Input::One(payload)).await?;
        Ok(StartCallResponse { task: Some(task.record()) })
    }
}

/// The context of a call that is made now for the client of another.
fn fresh(context: &Context) -> Context {
    Context {
        interface: context.interface,
        traceparent: context.traceparent.clone(),
        session: context.session.clone(),
        interactive: context.interactive,
        client_name: context.client_name.clone(),
        ..Context::new(Arc::clone(&context.caller), context.transport)
    }
}
