//! One task: what happens to it, in order, and who is told. Where it is kept afterwards is not known
//! here.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context as Polling, Poll, Waker};
use std::time::SystemTime;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::archive::Archive;
use super::memory::{Memory, Share, User};
use super::origin::{Origin, Surroundings};
use super::readers::{Changes, Reader, Readers};
use super::record;
use super::ring::{Bounds, Message, Ring};
use super::state::{End, Gauges, Progress, Snapshot, State};
use super::subscription::{Event, Reading, Subscription};
use crate::call::Reporter;
use crate::contract::{InputWatch, ReplySink};
use crate::error::{Error, ErrorKind};
use crate::metrics::StreamMetrics;

/// A call that may outlive its connection.
pub struct Task {
    pub(super) origin: Origin,
    bounds: Bounds,
    memory: Arc<Memory>,
    /// The memory of its user's tasks.
    of_user: Arc<User>,
    archive: Option<Arc<Archive>>,
    /// None for views, which are counted nowhere.
    gauges: Option<Arc<Gauges>>,
    stream: Option<StreamMetrics>,
    cancellation: CancellationToken,
    /// Cancelled when the service stops.
    stopping: CancellationToken,
    /// Cancelled once it has ended.
    over: CancellationToken,
    /// Why it was cancelled, if that is not that somebody asked for it.
    cause: OnceLock<Error>,
    inner: Mutex<Inner>,
}

/// What changes.
struct Inner {
    ring: Ring,
    share: Share,
    now: Snapshot,
    readers: Readers,
    changes: Changes,
    /// True if its messages are on disk.
    on_disk: bool,
}

/// What a reader finds.
pub(super) enum Look {
    /// Nothing; it will be woken.
    Nothing,
    Event(Event),
    /// The message with this number is on disk.
    OnDisk(u64),
}

impl Task {
    pub(super) fn new(origin: Origin, around: Surroundings) -> Arc<Self> {
        let now = Snapshot {
            state: State::Submitted,
            failure: None,
            progress: None,
            began_at: None,
            ended_at: None,
            first_seq: 1,
            next_seq: 1,
            bytes: 0,
        };
        if let Some(gauges) = &around.gauges {
            gauges.enter(now.state);
        }
        Self::with(origin, around, now)
    }

    /// A task that has ended and whose messages are on disk.
    pub(super) fn restored(origin: Origin, around: Surroundings, now: Snapshot) -> Arc<Self> {
        let task = Self::with(origin, around, now);
        task.over.cancel();
        task
    }

    fn with(origin: Origin, around: Surroundings, now: Snapshot) -> Arc<Self> {
        let of_user = around.memory.of(origin.caller.uid());
        let inner = Inner {
            ring: Ring::on_disk(now.first_seq, now.next_seq, now.bytes),
            share: Share::new(Arc::clone(&around.memory), Arc::clone(&of_user)),
            on_disk: now.state.is_final(),
            now,
            readers: Readers::default(),
            changes: Changes::default(),
        };
        Arc::new(Self {
            origin,
            bounds: around.bounds,
            memory: around.memory,
            of_user,
            archive: around.archive,
            gauges: around.gauges,
            stream: around.stream,
            cancellation: around.stopping.child_token(),
            stopping: around.stopping,
            over: CancellationToken::new(),
            cause: OnceLock::new(),
            inner: Mutex::new(inner),
        })
    }

    /// What has become of it.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner().now.state
    }

    /// Asks it to end, because its user wants that.
    pub fn cancel(&self) {
        self.cancellation.cancel();
    }

    /// Asks it to end, and says why.
    pub(super) fn cancel_because(&self, cause: Error) {
        // Only the first cause counts, and a task that was cancelled already has one.
        if !self.cancellation.is_cancelled() {
            self.cause.set(cause).ok();
        }
        self.cancellation.cancel();
    }

    /// Resolves when it has been asked to end, to why.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn cancelled(&self) -> Error {
        self.cancellation.cancelled().await;
        match self.cause.get() {
            Some(cause) => cause.clone(),
            None if self.stopping.is_cancelled() => {
                Error::new(ErrorKind::Unavailable, "the service is stopping")
            }
            None => Error::new(ErrorKind::Cancelled, "the task was cancelled"),
        }
    }

    /// Resolves once it has ended.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn over(&self) {
        self.over.cancelled().await;
    }

    /// What is known of it now, as the contract has it.
    #[must_use]
    pub fn record(&self) -> crate::proto::opdbus::v1::Task {
        record::contract(&self.origin, &self.snapshot())
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
        let first = if reading.from == 0 { inner.ring.first() } else { reading.from };
        let holds = reading.is_client && !self.operation().lossy;
        let told = reading.changes.then_some(inner.changes);
        let id = inner.readers.add(Reader::new(first, holds, told));
        drop(inner);
        Ok(Subscription::new(Arc::clone(self), id, reading.is_client))
    }

    /// Notes that the work has begun.
    pub(crate) fn begin(&self) {
        let mut inner = self.inner();
        if inner.now.state != State::Submitted {
            return;
        }
        self.enter(&mut inner, State::Working);
        inner.now.began_at = Some(SystemTime::now());
        inner.changes.states += 1;
        let wakers = inner.readers.waiting_for(|reader| reader.told.is_some());
        drop(inner);
        wake(wakers);
    }

    /// Notes how it ended; false if it had ended before. Only the first end counts.
    pub(super) fn end(&self, end: End) -> bool {
        let mut inner = self.inner();
        if inner.now.state.is_final() {
            return false;
        }
        let (state, failure) = match end {
            End::Completed => (State::Completed, None),
            End::Cancelled(error) => (State::Cancelled, Some(error)),
            End::Failed(error) if error.kind() == ErrorKind::Cancelled => {
                (State::Cancelled, Some(error))
            }
            End::Failed(error) if inner.now.state == State::Submitted => {
                (State::Rejected, Some(error))
            }
            End::Failed(error) => (State::Failed, Some(error)),
        };
        self.enter(&mut inner, state);
        inner.now.failure = failure;
        inner.now.ended_at = Some(SystemTime::now());
        inner.ring.shrink();
        let (readers, writers) = (inner.readers.waiting(), inner.readers.writers());
        drop(inner);
        self.over.cancel();
        wake(readers);
        wake(writers);
        true
    }

    fn enter(&self, inner: &mut Inner, state: State) {
        if let Some(gauges) = &self.gauges {
            gauges.leave(inner.now.state);
            gauges.enter(state);
        }
        inner.now.state = state;
    }

    pub(super) fn ended_at(&self) -> Option<SystemTime> {
        self.inner().now.ended_at
    }

    /// Notes that its messages may leave memory when that is needed elsewhere.
    pub(super) fn may_leave_memory(self: &Arc<Self>) {
        self.of_user.may_leave(self);
    }

    /// What has become of it so far.
    pub(super) fn snapshot(&self) -> Snapshot {
        let inner = self.inner();
        Snapshot {
            first_seq: inner.ring.first(),
            next_seq: inner.ring.next(),
            bytes: inner.ring.total(),
            ..inner.now.clone()
        }
    }

    /// The messages in memory.
    pub(super) fn loaded(&self) -> Vec<Message> {
        self.inner().ring.iter().cloned().collect()
    }

    /// Notes that its end and its messages are on disk.
    pub(super) fn is_written(&self) {
        self.inner().on_disk = true;
    }

    /// Takes its messages out of memory. Those that are not on disk are gone.
    pub(super) fn unload(&self) {
        let mut inner = self.inner();
        let inner = &mut *inner;
        if !inner.on_disk {
            inner.ring.discard_before(inner.ring.next());
        }
        inner.ring.unload();
        inner.share.set(inner.ring.cost());
    }

    /// What is next for a reader; it hears of no progress while it `rests`.
    pub(super) fn look(&self, id: usize, rests: bool, polling: &Polling<'_>) -> Look {
        let mut inner = self.inner();
        let Inner { ring, share, now, readers, changes, .. } = &mut *inner;
        let Some(reader) = readers.get_mut(id) else { return Look::Event(Event::Ended(Ok(()))) };
        let first = ring.first();
        if reader.next < first {
            let from = std::mem::replace(&mut reader.next, first);
            return Look::Event(Event::Gap { from, to: first - 1 });
        }
        if reader.next < ring.next() {
            let Some(message) = ring.get(reader.next).cloned() else {
                return Look::OnDisk(reader.next);
            };
            reader.next += 1;
            let writers = if reader.holds { readers.writers() } else { Vec::new() };
            if self.origin.is_transient {
                ring.discard_before(message.seq + 1);
                share.set(ring.cost());
            }
            drop(inner);
            wake(writers);
            return Look::Event(Event::Message(message));
        }
        if now.state.is_final() {
            return Look::Event(Event::Ended(now.failure.clone().map_or(Ok(()), Err)));
        }
        if let Some(told) = &mut reader.told
            && (told.states != changes.states || (!rests && told.steps != changes.steps))
        {
            *told = *changes;
            return Look::Event(Event::Changed);
        }
        reader.rests = rests;
        readers.wait(id, polling.waker());
        Look::Nothing
    }

    pub(super) fn message_on_disk(&self, seq: u64) -> Result<Option<Message>, Error> {
        match &self.archive {
            Some(archive) => archive.message(self.origin.key, seq),
            None => Ok(None),
        }
    }

    /// The number after the last message.
    pub(super) fn end_of_messages(&self) -> u64 {
        self.inner().ring.next()
    }

    pub(super) fn move_reader(&self, id: usize, next: u64) {
        if let Some(reader) = self.inner().readers.get_mut(id) {
            reader.next = next;
        }
    }

    pub(super) fn remove_reader(&self, id: usize) {
        let writers = self.inner().readers.remove(id);
        wake(writers);
    }

    /// Notes something that may happen often and that readers hear of now and then.
    fn step(&self, change: impl FnOnce(&mut Inner) -> bool) {
        let mut inner = self.inner();
        if inner.now.state.is_final() || !change(&mut inner) {
            return;
        }
        inner.changes.steps += 1;
        let wakers = inner.readers.waiting_for(|reader| reader.told.is_some() && !reader.rests);
        drop(inner);
        wake(wakers);
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // No use of it leaves it half-changed, whatever panics elsewhere.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Never under a lock: whoever is woken may run at once.
fn wake(wakers: Vec<Waker>) {
    wakers.into_iter().for_each(Waker::wake);
}

impl ReplySink for Task {
    fn poll_take(
        &self,
        polling: &mut Polling<'_>,
        reply: &mut Option<Bytes>,
    ) -> Poll<Result<(), Error>> {
        let Some(length) = reply.as_ref().map(Bytes::len) else { return Poll::Ready(Ok(())) };
        self.memory.admit(length)?;
        // While the memory of all or of its user is full, a task that runs keeps as little as it can.
        let room = self.memory.make_room(&self.of_user);
        let bounds = room.map_or(Bounds::NEWEST, |()| self.bounds);
        let mut inner = self.inner();
        let Inner { ring, share, now, readers, .. } = &mut *inner;
        if now.state.is_final() {
            let error = Error::new(ErrorKind::Cancelled, "nobody reads the replies any more");
            return Poll::Ready(Err(error));
        }
        let first = ring.first_after(length, bounds);
        if readers.hold(first) {
            readers.wait_for_room(polling.waker());
            return Poll::Pending;
        }
        ring.discard_before(first);
        ring.push(reply.take().unwrap_or_default());
        share.set(ring.cost());
        let wakers = readers.waiting();
        drop(inner);
        if let Some(stream) = &self.stream {
            stream.message(length);
        }
        wake(wakers);
        Poll::Ready(Ok(()))
    }
}

impl InputWatch for Task {
    fn waits_for_input(&self, waits: bool) {
        self.step(|inner| {
            let (from, to) = match waits {
                true => (State::Working, State::InputRequired),
                false => (State::InputRequired, State::Working),
            };
            let applies = inner.now.state == from;
            if applies {
                self.enter(inner, to);
            }
            applies
        });
    }
}

impl Reporter for Task {
    fn progress(&self, done: u64, total: u64, unit: &str) {
        self.step(|inner| {
            let progress = Some(Progress { done: done.min(total), total, unit: unit.into() });
            let is_further = inner.now.progress != progress;
            inner.now.progress = progress;
            is_further
        });
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        // Work that was dropped with the runtime never said how it ended.
        if let Some(gauges) = &self.gauges {
            gauges.leave(self.inner().now.state);
        }
    }
}

impl fmt::Debug for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("id", &self.origin.id).finish_non_exhaustive()
    }
}
