//! One reader of a task: where it stands, and what comes next for it. Readers know nothing of each
//! other.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::ring::Message;
use super::{Look, Task};
use crate::call::OnDisconnect;
use crate::error::Error;

/// A reader hears of progress no more often than this.
pub const PROGRESS_PAUSE: Duration = Duration::from_millis(100);

/// What a reader is told.
#[derive(Clone, Debug)]
pub enum Event {
    /// The next message.
    Message(Message),
    /// Messages that were dropped before this reader came to them.
    Gap {
        /// The number of the first one.
        from: u64,
        /// The number of the last one.
        to: u64,
    },
    /// The state or the progress is another one. Only for readers that asked for it, and for progress
    /// no more often than every [`PROGRESS_PAUSE`].
    Changed,
    /// The task has ended; there is nothing more.
    Ended(Result<(), Error>),
}

/// How a reader reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The number of the first message; 0: the oldest that is kept.
    pub from: u64,
    /// True for the client of the call itself: unless the operation is lossy the work waits for it,
    /// and its going away may cancel the task.
    pub is_client: bool,
    /// True to hear of changes of state and progress.
    pub changes: bool,
}

/// A reader. Dropping it is the reader's going away.
pub struct Subscription {
    task: Arc<Task>,
    id: usize,
    is_client: bool,
    ended: bool,
    /// Why the messages on disk could not be read to their end.
    broken: Option<Error>,
    /// Until when it does not want to hear of progress.
    rest: Option<Pin<Box<Sleep>>>,
}

impl Subscription {
    pub(super) fn new(task: Arc<Task>, id: usize, is_client: bool) -> Self {
        Self { task, id, is_client, ended: false, broken: None, rest: None }
    }

    /// The task that is read.
    #[must_use]
    pub fn task(&self) -> &Arc<Task> {
        &self.task
    }

    /// Tells the end of the task from that of the reading.
    ///
    /// # Errors
    /// Why messages on disk could not be read; that is then also how the task seems to have ended.
    pub fn is_whole(&self) -> Result<(), Error> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    /// What comes next; `None` after the end.
    ///
    /// # Cancel safety
    /// Nothing is lost.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// What comes next, as a poll.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if self.rest.as_mut().is_some_and(|rest| rest.as_mut().poll(context).is_ready()) {
            self.rest = None;
        }
        let event = match self.task.look(self.id, self.rest.is_some(), context) {
            Look::Nothing => return Poll::Pending,
            Look::Event(event) => event,
            Look::OnDisk(seq) => self.read_back(seq),
        };
        match event {
            Event::Ended(_) => self.ended = true,
            Event::Changed => {
                let until = Instant::now() + PROGRESS_PAUSE;
                self.rest = Some(Box::pin(tokio::time::sleep_until(until)));
            }
            Event::Message(_) | Event::Gap { .. } => {}
        }
        Poll::Ready(Some(event))
    }

    fn read_back(&mut self, seq: u64) -> Event {
        match self.task.message_on_disk(seq) {
            Err(error) => {
                self.broken = Some(error.clone());
                Event::Ended(Err(error))
            }
            Ok(Some(message)) => {
                self.task.move_reader(self.id, seq + 1);
                Event::Message(message)
            }
            // It is not kept any longer: its time was over while it was being read.
            Ok(None) => {
                let next = self.task.end_of_messages();
                self.task.move_reader(self.id, next);
                Event::Gap { from: seq, to: next - 1 }
            }
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.task.remove_reader(self.id);
        if self.is_client && !self.ended && self.task.on_disconnect() == OnDisconnect::Cancel {
            self.task.cancel();
        }
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").field("task", &self.task).finish_non_exhaustive()
    }
}
