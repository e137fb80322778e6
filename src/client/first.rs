//! Several ways in order, of which calls take the first that reaches the service. It tries another way
//! only if nothing was called.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;

use super::call::{Call, Payload, StreamCall};
use super::carrier::{Carrier, Pending};
use super::error::{Attempt, Error};
use super::stream::Messages;
use super::way::Way;

/// How long a way that could not be reached is left out, unless no other can be reached either.
const LEFT_OUT: Duration = Duration::from_secs(10);

/// Several ways, at least one.
#[derive(Debug)]
pub(super) struct First {
    ways: Vec<Arc<dyn Carrier>>,
    taken: Mutex<Taken>,
}

/// Which way calls take.
#[derive(Debug)]
struct Taken {
    at: usize,
    since: Instant,
    /// Why not one of those before it.
    earlier: Vec<Attempt>,
}

impl First {
    /// `ways` in their order.
    pub(super) fn new(ways: Vec<Arc<dyn Carrier>>) -> Self {
        let taken = Taken { at: 0, since: Instant::now(), earlier: Vec::new() };
        Self { ways, taken: Mutex::new(taken) }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The positions of the ways in the order in which they are to be tried.
    fn order(&self) -> impl Iterator<Item = usize> + use<> {
        let taken = self.taken();
        let begin = if taken.since.elapsed() < LEFT_OUT { taken.at } else { 0 };
        let count = self.ways.len();
        (0..count).map(move |offset| (begin + offset) % count)
    }

    fn take(&self, at: usize, earlier: Vec<Attempt>) {
        let mut taken = self.taken();
        if taken.at != at || !earlier.is_empty() {
            *taken = Taken { at, since: Instant::now(), earlier };
        }
    }

    /// Does something over the first way that reaches the service.
    async fn over<'a, T>(
        &'a self,
        act: impl Fn(&'a dyn Carrier) -> Pending<'a, T> + Send,
    ) -> Result<T, Error> {
        let mut attempts = Vec::new();
        for at in self.order() {
            let Some(way) = self.ways.get(at) else { continue };
            match act(way.as_ref()).await {
                Err(Error::Unreachable(tried)) => attempts.extend(tried),
                outcome => {
                    self.take(at, attempts);
                    return outcome;
                }
            }
        }
        Err(Error::Unreachable(attempts))
    }

    fn current(&self) -> &dyn Carrier {
        let at = self.taken().at.min(self.ways.len().saturating_sub(1));
        self.ways[at].as_ref()
    }
}

impl Carrier for First {
    fn way(&self) -> Way {
        self.current().way()
    }

    fn target(&self) -> String {
        self.current().target()
    }

    fn ready(&self) -> Pending<'_, ()> {
        self.over(|way| way.ready()).boxed()
    }

    fn call(&self, call: Call) -> Pending<'_, Payload> {
        self.over(move |way| way.call(call.clone())).boxed()
    }

    fn stream(&self, call: StreamCall) -> Pending<'_, Messages> {
        async {
            // A stream of requests can be sent once, so the way is chosen before.
            self.ready().await?;
            self.current().stream(call).await
        }
        .boxed()
    }

    fn earlier(&self) -> Vec<Attempt> {
        self.taken().earlier.clone()
    }
}
