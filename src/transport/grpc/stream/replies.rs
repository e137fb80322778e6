//! The responses of a task as a body: its messages as they come, then the status. It sends what there
//! is and waits for nobody but the task.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::Frame;

use crate::error::{Error, ErrorKind};
use crate::executor::Exchange;
use crate::task::{Event, Subscription, Task};
use crate::transport::grpc::value::put_message;
use crate::wire::{good, trailers};

/// Small messages that are ready together travel together, until there are so many bytes of them.
const TOGETHER_BYTES: usize = 16 * 1024;

/// What a reader of a task is sent.
pub(in crate::transport::grpc) struct Replies {
    /// `None` once the task has nothing more for this reader.
    subscription: Option<Subscription>,
    /// The largest message, in bytes.
    limit: usize,
    /// Where what the client has not taken is counted.
    exchange: Arc<Exchange>,
    /// A large message whose prefix is sent.
    large: Option<Bytes>,
    /// The trailers, once they are known.
    trailers: Option<HeaderMap>,
}

impl Replies {
    /// Sends what `subscription` gives, messages of at most `limit` bytes.
    pub(super) fn new(subscription: Subscription, limit: usize, exchange: Arc<Exchange>) -> Self {
        Self { subscription: Some(subscription), limit, exchange, large: None, trailers: None }
    }

    /// True if nothing more is sent.
    pub(in crate::transport::grpc) fn is_ended(&self) -> bool {
        self.subscription.is_none() && self.large.is_none() && self.trailers.is_none()
    }

    /// What is to be sent next; `None` after the trailers.
    pub(in crate::transport::grpc) fn poll_next(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Frame<Bytes>>> {
        if let Some(large) = self.large.take() {
            return Poll::Ready(Some(Frame::data(large)));
        }
        let mut small = BytesMut::new();
        while self.large.is_none()
            && small.len() < TOGETHER_BYTES
            && let Some(subscription) = &mut self.subscription
        {
            let event = match subscription.poll_next(context) {
                Poll::Ready(event) => event,
                Poll::Pending if small.is_empty() => return Poll::Pending,
                Poll::Pending => break,
            };
            match event {
                Some(Event::Message(message)) => {
                    match put_message(&mut small, message.payload, self.limit) {
                        Ok(large) => self.large = large.map(|large| self.exchange.unread(large)),
                        Err(error) => self.end(Err(error)),
                    }
                }
                Some(Event::Gap { from, to }) => {
                    let error = gap(subscription.task(), from, to);
                    self.end(Err(error));
                }
                Some(Event::Changed) => {}
                Some(Event::Ended(outcome)) => self.end(outcome),
                None => self.end(Ok(())),
            }
        }
        Poll::Ready(match small.is_empty() {
            false => Some(Frame::data(small.freeze())),
            true => self.trailers.take().map(Frame::trailers),
        })
    }

    fn end(&mut self, outcome: Result<(), Error>) {
        self.subscription = None;
        self.trailers = Some(match outcome {
            Ok(()) => good(),
            Err(error) => trailers(&error),
        });
    }
}

/// The end of a reader that was too slow to get everything.
pub(super) fn gap(task: &Task, from: u64, to: u64) -> Error {
    let next = to + 1;
    let text = format!(
        "messages {from} to {to} were dropped before this client read them; \
         TasksService.WatchTask goes on from_seq {next}"
    );
    Error::new(ErrorKind::LimitExceeded, text)
        .with_fact("from", from.to_string())
        .with_fact("to", to.to_string())
        .with_fact("task_id", task.id().to_string())
}
