//! The replies of a call between the agent that gives them and the connection that takes them: a few,
//! so that an agent runs no further ahead than its client reads. Beside them, the last of what the agent
//! notes of the call.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use prost::Message as _;
use tokio::task::AbortHandle;

use crate::call::Reporter;
use crate::contract::{InputWatch, ReplySink};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::worker::v1::{self, Note};
use crate::wire;

/// The bytes of replies that wait; one larger reply may wait alone.
const WAITING_BYTES: usize = 256 * 1024;

/// Small replies that are ready together travel together, until there are so many bytes of them.
const TOGETHER_BYTES: usize = 16 * 1024;

/// What both sides share.
#[derive(Debug, Default)]
pub(super) struct Outbox(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    replies: VecDeque<Bytes>,
    bytes: usize,
    outcome: Option<Result<(), Error>>,
    /// Each of its kind takes the place of the one before.
    progress: Option<v1::Progress>,
    waits_for_input: Option<bool>,
    /// True once nobody reads.
    abandoned: bool,
    reader: Option<Waker>,
    /// An agent may send from several places at once.
    writers: Vec<Waker>,
}

impl State {
    fn wake_writers(&mut self) {
        self.writers.drain(..).for_each(Waker::wake);
    }

    fn wake_reader(&mut self) {
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    /// Writes down what was noted since the last time.
    fn put_notes(&mut self, buffer: &mut BytesMut) {
        let waits = self.waits_for_input.take().map(v1::note::Note::WaitsForInput);
        let progress = self.progress.take().map(v1::note::Note::Progress);
        for note in waits.into_iter().chain(progress) {
            wire::put_note(buffer, &Note { note: Some(note) }.encode_to_vec());
        }
    }
}

impl Outbox {
    /// Says how the agent's work has ended.
    pub(super) fn end(&self, outcome: Result<(), Error>) {
        let mut state = self.lock();
        state.outcome = Some(outcome);
        state.wake_reader();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change leaves a state that is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReplySink for Outbox {
    fn poll_take(
        &self,
        context: &mut Context<'_>,
        reply: &mut Option<Bytes>,
    ) -> Poll<Result<(), Error>> {
        let mut state = self.lock();
        if state.abandoned {
            return Poll::Ready(Err(Error::new(ErrorKind::Cancelled, "nobody reads the replies")));
        }
        let size = reply.as_ref().map_or(0, Bytes::len);
        if !state.replies.is_empty() && state.bytes + size > WAITING_BYTES {
            state.writers.push(context.waker().clone());
            return Poll::Pending;
        }
        state.bytes += size;
        state.replies.extend(reply.take());
        state.wake_reader();
        Poll::Ready(Ok(()))
    }
}

impl Reporter for Outbox {
    fn progress(&self, done: u64, total: u64, unit: &str) {
        let mut state = self.lock();
        state.progress = Some(v1::Progress { done, total, unit: unit.to_owned() });
        state.wake_reader();
    }
}

impl InputWatch for Outbox {
    fn waits_for_input(&self, waits: bool) {
        let mut state = self.lock();
        state.waits_for_input = Some(waits);
        state.wake_reader();
    }
}

/// The connection's side. Dropping it ends the agent's work.
pub(super) struct Replies {
    outbox: Arc<Outbox>,
    work: AbortHandle,
    /// A large reply whose prefix is sent.
    large: Option<Bytes>,
    ended: bool,
}

impl Replies {
    pub(super) fn new(outbox: Arc<Outbox>, work: AbortHandle) -> Self {
        Self { outbox, work, large: None, ended: false }
    }

    /// What is to be sent next; `None` after the trailers.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        if let Some(large) = self.large.take() {
            return Poll::Ready(Some(Frame::data(large)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let mut state = self.outbox.lock();
        let mut small = BytesMut::new();
        state.put_notes(&mut small);
        while self.large.is_none()
            && small.len() < TOGETHER_BYTES
            && let Some(reply) = state.replies.pop_front()
        {
            state.bytes -= reply.len();
            match wire::put_message(&mut small, reply, usize::MAX) {
                Ok(large) => self.large = large,
                Err(wire::TooLarge(bytes)) => {
                    let text = format!("a reply has {bytes} bytes, which no message can have");
                    state.outcome = Some(Err(Error::internal(text)));
                    state.replies.clear();
                }
            }
        }
        state.wake_writers();
        if !small.is_empty() {
            return Poll::Ready(Some(Frame::data(small.freeze())));
        }
        let Some(outcome) = state.outcome.take() else {
            state.reader = Some(context.waker().clone());
            return Poll::Pending;
        };
        drop(state);
        self.ended = true;
        Poll::Ready(Some(Frame::trailers(match outcome {
            Ok(()) => wire::good(),
            Err(error) => wire::trailers(&error),
        })))
    }
}

impl Drop for Replies {
    fn drop(&mut self) {
        self.work.abort();
        let mut state = self.outbox.lock();
        state.abandoned = true;
        state.replies.clear();
        state.wake_writers();
    }
}
