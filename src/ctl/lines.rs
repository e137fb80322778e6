//! Requests from lines of JSON. A line that is wrong breaks the stream of requests: it does not end,
//! because the service would take an end for the whole.

use std::io::{BufRead, Read as _};
use std::task::Poll;

use bytes::Bytes;
use futures_util::Stream;
use prost_reflect::MessageDescriptor;
use tokio::sync::{mpsc, oneshot};

use super::problem::Problem;
use crate::contract::json_to_message;

/// How many requests are read ahead of the service.
const AHEAD: usize = 16;
/// The longest line in bytes, more than any service takes.
const MAX_LINE_BYTES: u64 = 128 << 20;

/// Requests, and what breaks them off; nothing does if the sender of that has gone.
pub(super) type Requests<S> = (S, oneshot::Receiver<Problem>);

/// Reads requests of the type `descriptor`, one on each line.
pub(super) fn read(
    input: impl BufRead + Send + 'static,
    descriptor: MessageDescriptor,
) -> Requests<impl Stream<Item = Bytes> + Send + 'static> {
    let (sender, mut receiver) = mpsc::channel(AHEAD);
    let (breaks, broken) = oneshot::channel();
    // A thread of its own, because reading a terminal cannot be stopped: the process ends over it.
    std::thread::spawn(move || match send(input, &descriptor, &sender) {
        Ok(()) => drop(sender.blocking_send(None)),
        Err(problem) => drop(breaks.send(problem)),
    });
    let requests =
        futures_util::stream::poll_fn(move |context| match receiver.poll_recv(context) {
            Poll::Ready(Some(request)) => Poll::Ready(request),
            // Broken off: no end.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        });
    (requests, broken)
}

fn send(
    mut input: impl BufRead,
    descriptor: &MessageDescriptor,
    requests: &mpsc::Sender<Option<Bytes>>,
) -> Result<(), Problem> {
    let mut line = Vec::new();
    for number in 1_u64.. {
        line.clear();
        let count = input.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        if count == 0 {
            break;
        }
        let wrong = |problem: String| {
            Problem::usage(format!("line {number}: {problem}"), "one JSON object on each line")
        };
        if line.len() as u64 == MAX_LINE_BYTES {
            return Err(wrong(format!("is longer than {MAX_LINE_BYTES} bytes")));
        }
        let text = std::str::from_utf8(&line).map_err(|error| wrong(error.to_string()))?;
        if text.trim().is_empty() {
            continue;
        }
        let request =
            json_to_message(descriptor, text).map_err(|error| wrong(error.to_string()))?;
        if requests.blocking_send(Some(request.into())).is_err() {
            // The call is over.
            break;
        }
    }
    Ok(())
}
