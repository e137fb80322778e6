//! The record of a call that may outlive its connection: its state, its last messages, who reads them,
//! and how it ended. What the call does and whether it may is not known here.

mod describe;
mod ring;
mod subscription;
mod tasks;

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context as Polling, Poll, Waker};
use std::time::SystemTime;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use crate::call::{Caller, Context, OnDisconnect, Reporter, Transport};
use crate::contract::{InputWatch, Operation, ReplySink};
use crate::error::{Error, ErrorKind};

pub use ring::{Bounds, Message};
pub use subscription::{Event, Reading, Subscription};
pub use tasks::{Config, Tasks};

use ring::Ring;

/// What has become of a task; the states of A2A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// It waits for a place.
    Submitted,
    /// It runs.
    Working,
    /// It runs, and waits for its client's next message.
    InputRequired,
    /// It has done what was asked.
    Completed,
    /// It has ended with an error.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It was refused before it began.
    Rejected,
}

impl State {
    /// True if nothing more happens.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Rejected)
    }
}

/// How far a task is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// How much is done.
    pub done: u64,
    /// How much there is to do.
    pub total: u64,
    /// What is counted.
    pub unit: &'static str,
}

/// A call that may outlive its connection.
pub struct Task {
    id: Arc<str>,
    operation: Arc<Operation>,
    caller: Arc<Caller>,
    transport: Transport,
    session: Option<Arc<str>>,
    on_disconnect: OnDisconnect,
    started_at: SystemTime,
    /// True if it is a mere view that nobody attaches to again: what was read is dropped.
    is_transient: bool,
    cancellation: CancellationToken,
    inner: Mutex<Inner>,
}

/// What changes.
struct Inner {
    ring: Ring,
    state: State,
    failure: Option<Error>,
    progress: Option<Progress>,
    ended_at: Option<SystemTime>,
    readers: Vec<Reader>,
    next_reader: u64,
    /// Who waits for room in the ring.
    writers: Vec<Waker>,
    /// Counts changes of state and progress.
    changes: u64,
}

/// Where one reader stands.
struct Reader {
    id: u64,
    next: u64,
    /// True if messages that it has not read must not be dropped.
    holds: bool,
    /// The last change that it was told; `None` if it does not want to know.
    told: Option<u64>,
    waker: Option<Waker>,
}

impl Task {
    /// A task for a call of `operation`. `is_transient`: see [`Task::is_transient`].
    #[must_use]
    pub fn new(
        id: Arc<str>,
        operation: Arc<Operation>,
        context: &Context,
        bounds: Bounds,
        is_transient: bool,
    ) -> Arc<Self> {
        let ends_with_client = operation.waits || is_transient;
        let default = if ends_with_client { OnDisconnect::Cancel } else { OnDisconnect::Continue };
        Arc::new(Self {
            id,
            caller: Arc::clone(&context.caller),
            transport: context.transport,
            session: context.session.clone(),
            on_disconnect: context.on_disconnect.unwrap_or(default),
            started_at: SystemTime::now(),
            is_transient,
            cancellation: CancellationToken::new(),
            inner: Mutex::new(Inner {
                ring: Ring::new(bounds),
                state: State::Submitted,
                failure: None,
                progress: None,
                ended_at: None,
                readers: Vec::new(),
                next_reader: 0,
                writers: Vec::new(),
                changes: 0,
            }),
            operation,
        })
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// The operation that was called.
    #[must_use]
    pub fn operation(&self) -> &Arc<Operation> {
        &self.operation
    }

    /// Who called.
    #[must_use]
    pub fn caller(&self) -> &Arc<Caller> {
        &self.caller
    }

    /// Over which transport.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.transport
    }

    /// The session that it was called in.
    #[must_use]
    pub fn session(&self) -> Option<&Arc<str>> {
        self.session.as_ref()
    }

    /// What becomes of it when its client goes away.
    #[must_use]
    pub fn on_disconnect(&self) -> OnDisconnect {
        self.on_disconnect
    }

    /// When it was started.
    #[must_use]
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }

    /// True if it is a mere view that nobody attaches to again: it is in no list, and what its client
    /// has read is dropped.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        self.is_transient
    }

    /// What has become of it.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner().state
    }

    /// Asks it to end.
    pub fn cancel(&self) {
        self.cancellation.cancel();
    }

    /// Resolves when it has been asked to end.
    pub async fn cancelled(&self) {
        self.cancellation.cancelled().await;
    }

    /// A new reader.
    ///
    /// # Errors
    /// `InvalidArgument` if `from` is a number that no message has yet, and is not the next one's.
    pub fn read(self: &Arc<Self>, reading: Reading) -> Result<Subscription, Error> {
        let mut inner = self.inner();
        let next = inner.ring.next();
        if reading.from > next {
            return Err(Error::invalid(
                "from_seq",
                format!("{} lies in the future; the next message is {next}", reading.from),
            ));
        }
        let id = inner.next_reader;
        inner.next_reader += 1;
        let reader = Reader {
            id,
            next: if reading.from == 0 { inner.ring.first() } else { reading.from },
            holds: reading.is_client && !self.operation.lossy,
            told: reading.changes.then_some(inner.changes),
            waker: None,
        };
        inner.readers.push(reader);
        drop(inner);
        Ok(Subscription::new(Arc::clone(self), id, reading.is_client))
    }

    /// Notes that the work has begun.
    pub fn begin(&self) {
        self.change(|inner| {
            if !inner.state.is_final() {
                inner.state = State::Working;
            }
        });
    }

    /// Notes how it ended. Only the first end counts.
    pub fn end(&self, outcome: Result<(), Error>) {
        self.change(|inner| {
            if inner.state.is_final() {
                return;
            }
            inner.state = match &outcome {
                Ok(()) => State::Completed,
                Err(_) if inner.state == State::Submitted => State::Rejected,
                Err(error) if error.kind() == ErrorKind::Cancelled => State::Cancelled,
                Err(_) => State::Failed,
            };
            inner.failure = outcome.err();
            inner.ended_at = Some(SystemTime::now());
        });
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner();
        change(&mut inner);
        inner.changes += 1;
        let wakers = inner.all_wakers();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
    }

    pub(self) fn poll_reader(&self, id: u64, polling: &mut Polling<'_>) -> Poll<Event> {
        let mut inner = self.inner();
        let inner = &mut *inner;
        let Some(reader) = inner.readers.iter_mut().find(|reader| reader.id == id) else {
            return Poll::Ready(Event::Ended(Ok(())));
        };
        let first = inner.ring.first();
        if reader.next < first {
            let from = std::mem::replace(&mut reader.next, first);
            return Poll::Ready(Event::Gap { from, to: first - 1 });
        }
        if let Some(message) = inner.ring.get(reader.next) {
            let message = message.clone();
            reader.next += 1;
            let holds = reader.holds;
            if self.is_transient {
                inner.ring.discard_before(message.seq + 1);
            }
            if holds {
                inner.writers.drain(..).for_each(Waker::wake);
            }
            return Poll::Ready(Event::Message(message));
        }
        if inner.state.is_final() {
            return Poll::Ready(Event::Ended(match &inner.failure {
                None => Ok(()),
                Some(error) => Err(error.clone()),
            }));
        }
        if let Some(told) = &mut reader.told
            && *told != inner.changes
        {
            *told = inner.changes;
            return Poll::Ready(Event::Changed);
        }
        match &mut reader.waker {
            Some(waker) => waker.clone_from(polling.waker()),
            empty => *empty = Some(polling.waker().clone()),
        }
        Poll::Pending
    }

    pub(self) fn remove_reader(&self, id: u64) {
        let mut inner = self.inner();
        inner.readers.retain(|reader| reader.id != id);
        let writers = std::mem::take(&mut inner.writers);
        drop(inner);
        writers.into_iter().for_each(Waker::wake);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // No use of it leaves it half-changed, whatever panics elsewhere.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn all_wakers(&mut self) -> Vec<Waker> {
        let readers = self.readers.iter_mut().filter_map(|reader| reader.waker.take());
        readers.chain(self.writers.drain(..)).collect()
    }
}

impl ReplySink for Task {
    fn poll_take(
        &self,
        polling: &mut Polling<'_>,
        reply: &mut Option<Bytes>,
    ) -> Poll<Result<(), Error>> {
        let mut inner = self.inner();
        if inner.state.is_final() {
            let error = Error::new(ErrorKind::Cancelled, "nobody reads the replies any more");
            return Poll::Ready(Err(error));
        }
        let Some(payload) = reply.take() else { return Poll::Ready(Ok(())) };
        let first = inner.ring.first_after(payload.len());
        if inner.readers.iter().any(|reader| reader.holds && reader.next < first) {
            inner.writers.push(polling.waker().clone());
            *reply = Some(payload);
            return Poll::Pending;
        }
        inner.ring.push(payload);
        let wakers: Vec<Waker> =
            inner.readers.iter_mut().filter_map(|reader| reader.waker.take()).collect();
        drop(inner);
        wakers.into_iter().for_each(Waker::wake);
        Poll::Ready(Ok(()))
    }
}

impl InputWatch for Task {
    fn waits_for_input(&self, waits: bool) {
        self.change(|inner| {
            inner.state = match (inner.state, waits) {
                (State::Working, true) => State::InputRequired,
                (State::InputRequired, false) => State::Working,
                (state, _) => state,
            };
        });
    }
}

impl Reporter for Task {
    fn progress(&self, done: u64, total: u64, unit: &'static str) {
        self.change(|inner| inner.progress = Some(Progress { done, total, unit }));
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.id).finish_non_exhaustive()
    }
}
