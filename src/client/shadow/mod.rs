//! Makes some calls that D-Bus has answered over gRPC as well, and over D-Bus a second time, and compares.
//! The caller has his answer already and waits for none of it. Whether a call may be made so, its user
//! says.

mod compare;
mod samples;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prost_reflect::{DynamicMessage, MessageDescriptor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::call::{Call, Payload, Rpc};
use super::error::{Error, Failure};
use super::json::from_json;
use super::known;
use super::metrics::{AgentMetrics, Operation as Figures};
use super::retry::{Again, Verdict};
use super::routed::name;
use super::way::Way;
use super::ways::Ways;
use compare::Place;

pub(super) use compare::{Compared, Volatile, differences};
pub(super) use samples::Samples;

/// After each comparison there is none for so many times as long as it took: comparisons take at most a
/// small part of the time of this process and of the service.
const REST_FACTOR: u32 = 30;

/// The longest time without a comparison.
const LONGEST_REST: Duration = Duration::from_secs(1);

/// The most operations whose volatile fields are known. Any others are not compared.
const MAX_OPERATIONS: usize = 1000;

/// Compares ways in the background, one call at a time.
#[derive(Debug)]
pub(super) struct Shadow {
    place: Arc<Semaphore>,
    /// By the operation's path on gRPC.
    volatile: Arc<Mutex<HashMap<String, Volatile>>>,
    samples: Arc<Samples>,
    metrics: Arc<AgentMetrics>,
    running: Mutex<Option<AbortHandle>>,
}

/// One call to compare.
struct Comparing {
    ways: Ways,
    /// The way that gave the first answer.
    old: Way,
    call: Call,
    first: Result<Payload, Error>,
    figures: Arc<Figures>,
    volatile: Arc<Mutex<HashMap<String, Volatile>>>,
    samples: Arc<Samples>,
}

impl Shadow {
    pub(super) fn new(metrics: Arc<AgentMetrics>, samples: Arc<Samples>) -> Self {
        Self {
            place: Arc::new(Semaphore::new(1)),
            volatile: Arc::default(),
            samples,
            metrics,
            running: Mutex::default(),
        }
    }

    /// Takes the place for one comparison; `None` while another is under way or was just now.
    pub(super) fn place(&self, call: &Call) -> Option<OwnedSemaphorePermit> {
        let place = Arc::clone(&self.place).try_acquire_owned().ok();
        if place.is_none() {
            self.metrics.operation(&call.rpc.agent, name(&call.rpc)).skip();
        }
        place
    }

    /// Compares a call without side effects, which got the answer `first` over `old`.
    pub(super) fn compare(
        &self,
        place: OwnedSemaphorePermit,
        ways: &Ways,
        old: Way,
        call: Call,
        first: Result<Payload, Error>,
    ) {
        let comparing = Comparing {
            ways: ways.clone(),
            old,
            figures: self.metrics.operation(&call.rpc.agent, name(&call.rpc)),
            call,
            first,
            volatile: Arc::clone(&self.volatile),
            samples: Arc::clone(&self.samples),
        };
        let running = tokio::spawn(async move {
            let started = Instant::now();
            comparing.run().await;
            tokio::time::sleep((started.elapsed() * REST_FACTOR).min(LONGEST_REST)).await;
            drop(place);
        });
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = Some(running.abort_handle());
    }
}

impl Drop for Shadow {
    fn drop(&mut self) {
        let running = self.running.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = running.take() {
            running.abort();
        }
    }
}

impl Comparing {
    /// gRPC comes between both answers over D-Bus, so that what changes meanwhile differs between those.
    async fn run(self) {
        let over_grpc = self.make(Way::Grpc).await;
        let again = self.make(self.old).await;
        let answers = [&self.first, &over_grpc, &again];
        let Some(found) = (!answers.into_iter().any(says_nothing))
            .then(|| self.differing(&over_grpc, &again))
            .flatten()
        else {
            self.figures.skip();
            return;
        };
        self.figures.compare(!found.is_empty());
        self.samples.add(&self.call.rpc, found);
    }

    async fn make(&self, way: Way) -> Result<Payload, Error> {
        let started = Instant::now();
        let answer = match self.ways.over(way) {
            Ok(carrier) => carrier.call(self.call.clone()).await,
            Err(error) => Err(error),
        };
        self.figures.request(way, started.elapsed(), answer.as_ref().map(drop));
        answer
    }

    /// The places at which the answer over gRPC differs from the first, those in volatile fields apart;
    /// `None` if that cannot be known.
    fn differing(
        &self,
        over_grpc: &Result<Payload, Error>,
        again: &Result<Payload, Error>,
    ) -> Option<Vec<Place>> {
        let output = response_type(&self.call.rpc)?;
        let read = |answer: &Result<Payload, Error>| -> Compared {
            decode(output, answer.as_ref().map_err(Clone::clone)?)
                .map_err(|problem| Failure::internal(problem).into())
        };
        let (first, again, over_grpc) = (read(&self.first), read(again), read(over_grpc));
        let mut known = self.volatile.lock().unwrap_or_else(PoisonError::into_inner);
        let path = &*self.call.rpc.path;
        if !known.contains_key(path) && known.len() >= MAX_OPERATIONS {
            return None;
        }
        let volatile = known.entry(path.to_owned()).or_default();
        volatile.learn(&differences(&first, &again));
        let found = differences(&first, &over_grpc).into_iter();
        Some(found.filter(|place| !volatile.holds(place)).collect())
    }
}

/// The type of an operation's response; `None` if this build does not know the operation.
fn response_type(rpc: &Rpc) -> Option<&'static MessageDescriptor> {
    let known = known::at(&rpc.path).ok()??;
    Some(&known.operation.output)
}

/// Decodes a response.
pub(super) fn decode(
    output: &MessageDescriptor,
    answer: &Payload,
) -> Result<DynamicMessage, String> {
    let message = match answer {
        Payload::Message(message) => message.clone(),
        Payload::Json(json) => from_json(output, json)?.into(),
    };
    DynamicMessage::decode(output.clone(), message).map_err(|error| error.to_string())
}

/// True for an answer that says nothing of the way: no service was reached, or it was too busy.
pub(super) fn says_nothing(answer: &Result<Payload, Error>) -> bool {
    answer.as_ref().err().map(Verdict::on).is_some_and(|verdict| {
        verdict.is_ways || matches!(verdict.again, Again::AnyWay | Again::WhenTold)
    })
}
