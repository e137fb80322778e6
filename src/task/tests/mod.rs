//! The core of tasks where the boundary cannot reach: many readers at once, numbers, memory.

mod ring;
mod sharing;
mod telling;

use std::sync::Arc;
use std::task::{Context as Polling, Poll, Waker};

use bytes::Bytes;

use super::{Config, Task, Tasks};
use crate::call::{Attested, Caller, Context, Identity, Transport};
use crate::contract::{Contract, Operation, RawReplies, ReplySink as _};
use crate::error::Error;
use crate::metrics::Metrics;

/// Tasks of the probe, in memory.
struct Place {
    tasks: Arc<Tasks>,
    metrics: Metrics,
    operation: Arc<Operation>,
}

impl Place {
    fn new(config: Config) -> Self {
        let metrics = Metrics::new().unwrap();
        let contract = Contract::built_in().unwrap();
        let probe = contract.service("opdbus.agent.probe.v1.ProbeService").unwrap();
        let operation = Arc::clone(probe.operation("Generate").unwrap());
        Self { tasks: Tasks::in_memory(config, &metrics), metrics, operation }
    }

    fn start(&self) -> Arc<Task> {
        self.try_start().unwrap()
    }

    fn try_start(&self) -> Result<Arc<Task>, Error> {
        self.try_start_for(1000)
    }

    fn try_start_for(&self, uid: u32) -> Result<Arc<Task>, Error> {
        let identity = Identity::User { uid, gid: None };
        let caller = Arc::new(Caller::new(identity, Attested::Kernel, "test"));
        let context = Context::new(caller, Transport::Grpc);
        let stream = self.metrics.operation("probe", "Generate").stream(Transport::Grpc);
        let task = self.tasks.start(&self.operation, &context, stream)?;
        task.begin();
        Ok(task)
    }
}

fn config(messages: usize, bytes: usize) -> Config {
    Config { ring: super::Bounds { messages, bytes }, ..Config::default() }
}

fn replies(task: &Arc<Task>) -> RawReplies {
    RawReplies::new(Arc::clone(task) as _)
}

/// Gives a message without waiting; false if there is no room.
fn give(task: &Task, payload: &'static [u8]) -> bool {
    let mut reply = Some(Bytes::from_static(payload));
    let polled = task.poll_take(&mut Polling::from_waker(Waker::noop()), &mut reply);
    matches!(polled, Poll::Ready(Ok(())))
}
