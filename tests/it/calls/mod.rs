//! Batches, and calls that are started as tasks.

mod bounds;
mod contexts;
mod order;
mod outcomes;
mod references;
mod start;
mod streams;
mod transports;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use op_dbus::call::{Attested, Caller, Context, Identity, Transport};
use op_dbus::error::Error;
use op_dbus::executor::{BatchConfig, Config};
use op_dbus::proto::opdbus::agent::probe::v1::{SleepRequest, SleepResponse};
use op_dbus::proto::opdbus::v1::{
    BatchCallRequest, BatchCallResponse, BatchItem, BatchResult, BatchStatus,
};
use prost::Message;

use crate::fixture::Service;

pub fn context() -> Context {
    let identity = Identity::User { uid: 1000, gid: Some(1000) };
    Context::new(Arc::new(Caller::new(identity, Attested::Kernel, "test")), Transport::Grpc)
}

pub fn with_timeout(millis: u64) -> Context {
    Context { timeout: Some(Duration::from_millis(millis)), ..context() }
}

pub fn service() -> Service {
    Service::new(Config::default())
}

pub fn limited(batch: BatchConfig) -> Service {
    Service::new(Config { batch, ..Config::default() })
}

/// Calls an operation with JSON.
pub fn item(agent: &str, operation: &str, arguments: &str) -> BatchItem {
    BatchItem {
        agent: agent.into(),
        operation: operation.into(),
        arguments: arguments.into(),
        ..BatchItem::default()
    }
}

pub fn named(id: &str, item: BatchItem) -> BatchItem {
    BatchItem { id: id.into(), ..item }
}

pub fn after(ids: &[&str], item: BatchItem) -> BatchItem {
    BatchItem { after: ids.iter().map(|id| (*id).to_owned()).collect(), ..item }
}

pub fn sleep(millis: u64) -> BatchItem {
    item("probe", "sleep", &format!(r#"{{"duration":"{}.{:03}s"}}"#, millis / 1000, millis % 1000))
}

pub fn fail() -> BatchItem {
    item("probe", "fail", r#"{"reason":"NOT_FOUND","message":"as asked"}"#)
}

pub fn remember(key: &str, value: &str) -> BatchItem {
    item("memory", "remember", &format!(r#"{{"key":"{key}","value":{value}}}"#))
}

pub fn recall(key: &str) -> BatchItem {
    item("memory", "recall", &format!(r#"{{"key":"{key}"}}"#))
}

/// One after the other.
pub fn sequential(items: Vec<BatchItem>) -> BatchCallRequest {
    BatchCallRequest { items, ..BatchCallRequest::default() }
}

/// Side by side.
pub fn parallel(items: Vec<BatchItem>) -> BatchCallRequest {
    BatchCallRequest { parallel: true, ..sequential(items) }
}

pub async fn batch(
    service: &Service,
    context: Context,
    request: BatchCallRequest,
) -> Result<BatchCallResponse, Error> {
    let route = service.executor.find("calls", "BatchCall")?;
    let response = service.executor.call(&route, context, request.encode_to_vec().into()).await?;
    Ok(BatchCallResponse::decode(response).unwrap())
}

/// The results of a batch that must be let through.
pub async fn results(service: &Service, request: BatchCallRequest) -> Vec<BatchResult> {
    let count = request.items.len();
    let response = batch(service, context(), request).await.unwrap();
    assert_eq!(response.results.len(), count);
    let failed = response.results.iter().filter(|result| result.status() != BatchStatus::Ok);
    assert_eq!(response.failed as usize, failed.count());
    response.results
}

pub fn statuses(results: &[BatchResult]) -> Vec<BatchStatus> {
    results.iter().map(BatchResult::status).collect()
}

/// The reason and the text of a result that is not well.
#[track_caller]
pub fn reason(result: &BatchResult) -> (&str, &str) {
    let failure = result.failure.as_ref().expect("a failure");
    (&failure.reason, &failure.message)
}

/// What the probe has counted: waits that were started, finished and cancelled, without this one.
pub async fn waits(service: &Service) -> (u64, u64, u64) {
    let route = service.executor.find("probe", "Sleep").unwrap();
    let request: Bytes = SleepRequest::default().encode_to_vec().into();
    let response = service.executor.call(&route, context(), request).await.unwrap();
    let counted = SleepResponse::decode(response).unwrap();
    (counted.started - 1, counted.finished - 1, counted.cancelled)
}
