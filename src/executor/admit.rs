//! Places for calls: so many run at once, so many wait, the rest is refused at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::{Config, share};
use crate::error::{Error, ErrorKind};
use crate::metrics::{Metrics, Rejection};

/// What a refused client is told to wait before it tries again.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(100);

/// A bound on calls that run, and on calls that wait to.
pub(super) struct Gate {
    places: Semaphore,
    waiting: AtomicUsize,
    queue: usize,
    /// The queue's key in the configuration.
    key: &'static str,
    /// The queue's name for errors.
    whose: String,
    rejection: Rejection,
}

/// The gates that a call passes.
pub(super) struct Gates {
    pub(super) agent: Arc<Gate>,
    pub(super) service: Arc<Gate>,
}

/// The places of one running call; dropping them frees them.
pub(super) struct Places<'a> {
    _caller: SemaphorePermit<'a>,
    _agent: SemaphorePermit<'a>,
    _service: SemaphorePermit<'a>,
}

impl Gate {
    /// The gate of the whole service.
    pub(super) fn service(config: &Config) -> Self {
        Self {
            places: Semaphore::new(config.max_in_flight),
            waiting: AtomicUsize::new(0),
            queue: config.queue,
            key: "executor.queue",
            whose: "the service".to_owned(),
            rejection: Rejection::QueueFull,
        }
    }

    /// The gate of one agent.
    pub(super) fn agent(config: &Config, id: &str) -> Self {
        Self {
            places: Semaphore::new(config.max_in_flight_per_agent),
            waiting: AtomicUsize::new(0),
            queue: config.queue,
            key: "executor.queue",
            whose: format!("agent {id}"),
            rejection: Rejection::AgentQueueFull,
        }
    }

    /// The gate of one caller.
    pub(super) fn caller(config: &share::Config, whose: &str) -> Self {
        Self {
            places: Semaphore::new(config.max_in_flight),
            waiting: AtomicUsize::new(0),
            queue: config.queue,
            key: "limits.queue",
            whose: whose.to_owned(),
            rejection: Rejection::CallerQueueFull,
        }
    }

    async fn enter(&self, metrics: &Metrics) -> Result<SemaphorePermit<'_>, Error> {
        if let Ok(place) = self.places.try_acquire() {
            return Ok(place);
        }
        let Some(_waiting) = Waiting::enter(self, metrics) else {
            metrics.rejected(self.rejection);
            return Err(Error::limit(
                self.key,
                self.queue,
                format_args!("too many calls wait for {}", self.whose),
            )
            .with_retry_after(RETRY_AFTER));
        };
        self.places
            .acquire()
            .await
            .map_err(|_closed| Error::new(ErrorKind::Unavailable, "the service is stopping"))
    }
}

/// Waits for a place among the caller's, then in the agent and then in the service, so that calls which
/// wait for one hold none that others could use.
///
/// # Errors
/// `LimitExceeded` if too many wait already.
///
/// # Cancel safety
/// Dropping it gives up the place in the queue.
pub(super) async fn enter<'a>(
    caller: &'a Gate,
    gates: &'a Gates,
    metrics: &Metrics,
) -> Result<Places<'a>, Error> {
    Ok(Places {
        _caller: caller.enter(metrics).await?,
        _agent: gates.agent.enter(metrics).await?,
        _service: gates.service.enter(metrics).await?,
    })
}

/// One call in a queue; leaving the queue is dropping this.
struct Waiting<'a> {
    gate: &'a Gate,
    metrics: &'a Metrics,
}

impl<'a> Waiting<'a> {
    /// `None` if the queue is full.
    fn enter(gate: &'a Gate, metrics: &'a Metrics) -> Option<Self> {
        if gate.waiting.fetch_add(1, Ordering::Relaxed) >= gate.queue {
            gate.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        metrics.queued().inc();
        Some(Self { gate, metrics })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.waiting.fetch_sub(1, Ordering::Relaxed);
        self.metrics.queued().dec();
    }
}
