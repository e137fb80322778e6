//! One reader of a task: where it stands, and what comes next for it. Readers know nothing of each
//! other.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::Task;
use super::ring::Message;
use crate::call::OnDisconnect;
use crate::error::Error;

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
    /// The state or the progress is another one. Only for readers that asked for it.
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
#[derive(Debug)]
pub struct Subscription {
    task: Arc<Task>,
    id: u64,
    is_client: bool,
    ended: bool,
}

impl Subscription {
    pub(super) fn new(task: Arc<Task>, id: u64, is_client: bool) -> Self {
        Self { task, id, is_client, ended: false }
    }

    /// The task that is read.
    #[must_use]
    pub fn task(&self) -> &Arc<Task> {
        &self.task
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
        let event = self.task.poll_reader(self.id, context);
        if let Poll::Ready(Event::Ended(_)) = event {
            self.ended = true;
        }
        event.map(Some)
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
