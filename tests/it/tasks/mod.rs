//! Calls that outlive their connection: their states, who finds them, what is kept of them, and what
//! bounds them. Driven through the executor as a transport does, and across the end of processes.

mod ending;
mod finding;
mod limits;
mod reading;
mod restart;

use std::sync::Arc;

use bytes::Bytes;
use op_dbus::call::{Attested, Caller, Context, Identity, Transport};
use op_dbus::error::Error;
use op_dbus::executor::Input;
use op_dbus::proto::opdbus::agent::probe::v1::PaceRequest;
use op_dbus::proto::opdbus::v1::{GetTaskRequest, GetTaskResponse, Task as Shown};
use op_dbus::task::{Event, Reading, Subscription, Task};
use prost::Message;
use tokio::time::timeout;

use crate::fixture::Service;
use crate::process::PATIENCE;

pub fn context(uid: u32) -> Context {
    let identity = Identity::User { uid, gid: Some(uid) };
    Context::new(Arc::new(Caller::new(identity, Attested::Kernel, "test")), Transport::Grpc)
}

/// The same user on another connection of the other transport.
pub fn elsewhere(uid: u32) -> Context {
    let identity = Identity::User { uid, gid: None };
    let caller = Caller::new(identity, Attested::Kernel, ":1.7");
    Context::new(Arc::new(caller), Transport::Dbus)
}

/// So many messages, `millis` before each.
pub fn pace(count: u32, millis: i32) -> PaceRequest {
    let interval = prost_types::Duration { seconds: 0, nanos: millis * 1_000_000 };
    PaceRequest { count, interval: Some(interval), ..PaceRequest::default() }
}

pub fn encoded(message: &impl Message) -> Bytes {
    message.encode_to_vec().into()
}

/// Starts an operation of the probe.
pub async fn start(
    service: &Service,
    context: Context,
    operation: &str,
    request: &impl Message,
) -> Result<Arc<Task>, Error> {
    let route = service.executor.find("probe", operation)?;
    service.executor.start(&route, context, Input::One(encoded(request))).await
}

/// Calls an operation of `TasksService`.
pub async fn call<A: Message + Default>(
    service: &Service,
    context: Context,
    operation: &str,
    request: &impl Message,
) -> Result<A, Error> {
    let route = service.executor.find("tasks", operation)?;
    let response = service.executor.call(&route, context, encoded(request)).await?;
    Ok(A::decode(response).unwrap())
}

pub async fn get(service: &Service, context: Context, id: &str) -> Result<Shown, Error> {
    let request = GetTaskRequest { id: id.into() };
    let response: GetTaskResponse = call(service, context, "GetTask", &request).await?;
    Ok(response.task.unwrap())
}

/// What happens next, which must not take long.
pub async fn next(reader: &mut Subscription) -> Option<Event> {
    timeout(PATIENCE, reader.next()).await.expect("nothing happens")
}

/// Reads a task from a number on: the numbers that came, the gaps, and how it ended.
pub async fn read(task: &Arc<Task>, from: u64) -> (Vec<u64>, Vec<(u64, u64)>, Result<(), Error>) {
    let mut reader = task.read(Reading { from, ..Reading::default() }).unwrap();
    let (mut came, mut missed) = (Vec::new(), Vec::new());
    loop {
        match next(&mut reader).await.unwrap() {
            Event::Message(message) => came.push(message.seq),
            Event::Gap { from, to } => missed.push((from, to)),
            Event::Changed => panic!("it was not asked for"),
            Event::Ended(outcome) => return (came, missed, outcome),
        }
    }
}

/// Waits until a task has ended.
pub async fn over(task: &Task) {
    timeout(PATIENCE, task.over()).await.expect("it does not end");
}
