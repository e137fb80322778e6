//! The requests of a call from the client's descriptor (option `input-fd`). The stream ends where the
//! descriptor does, if the client is still there; what breaks off before is an error to the agent. What
//! comes in or waits for the agent is counted as the caller's; what he may have is not decided here.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::poll_fn;
use prost_reflect::MessageDescriptor;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::sync::mpsc::error::SendError;
use tokio::sync::mpsc::{OwnedPermit, Sender, channel};

use super::call::Shared;
use super::descriptor::Reader;
use super::options::Format;
use super::outgoing::Outgoing;
use crate::contract::{RawRequests, json_to_message};
use crate::error::{Error, ErrorKind};
use crate::executor::{Coming, Executor};
use crate::metrics::Rejection;
use crate::wire::dbus::delimited::{self, Broken};

/// How many requests wait for the agent.
const MAX_WAITING: usize = 16;

/// The name of the option, for errors.
const OPTION: &str = "input-fd";

/// A request, and what it takes of its caller's share until the agent has it.
type Waiting = (Bytes, Coming);

type Requests = Sender<Result<Waiting, Error>>;

/// A stream of requests of which at most `capacity` wait for the agent. The sender ends it by being
/// dropped, and breaks it by sending an error.
fn queue(capacity: usize) -> (Requests, RawRequests) {
    let (requests, mut waiting) = channel(capacity);
    let stream = poll_fn(move |context| waiting.poll_recv(context));
    let stream = stream.map(|next: Result<Waiting, Error>| next.map(|(request, _held)| request));
    (requests, RawRequests::read(stream))
}

/// A stream of the requests that came in the message of the call.
///
/// # Errors
/// `LimitExceeded` if the caller's requests have too many bytes.
pub(super) fn inline(requests: Vec<Bytes>, mut coming: Coming) -> Result<RawRequests, Error> {
    let (sender, stream) = queue(requests.len().max(1));
    for request in requests {
        coming.holds(request.len())?;
        let waiting = Ok((request, coming.whole()));
        let room = sender.try_send(waiting);
        room.map_err(|_| Error::internal("a stream of requests has no room"))?;
    }
    Ok(stream)
}

/// What reads the requests.
pub(super) struct Feed {
    shared: Arc<Shared>,
    client: Box<str>,
    reader: Lines,
    requests: Requests,
    end: End,
}

impl Feed {
    /// A stream of requests, of the type `message`, and what feeds it.
    ///
    /// # Errors
    /// `Internal` if the stream has no room at once, which it has.
    pub(super) fn new(
        shared: &Arc<Shared>,
        client: &str,
        reader: Reader,
        format: Format,
        message: MessageDescriptor,
        coming: Coming,
    ) -> Result<(Self, RawRequests), Error> {
        // One place more, for how it ends.
        let (requests, stream) = queue(MAX_WAITING + 1);
        let place = requests.clone().try_reserve_owned();
        let place = place.map_err(|_| Error::internal("a stream of requests has no room"))?;
        let feed = Self {
            shared: Arc::clone(shared),
            client: client.into(),
            reader: Lines {
                bytes: BufReader::new(reader.bytes),
                format,
                message,
                max_bytes: shared.max_body_bytes,
                count: 0,
                executor: Arc::clone(&shared.executor),
                coming,
            },
            requests,
            end: End(Some(place)),
        };
        Ok((feed, stream))
    }

    /// Feeds the stream until its end, or until the agent wants no more. Dropped before, it breaks it.
    pub(super) async fn run(mut self, outgoing: &Outgoing) {
        let unwanted = self.requests.clone();
        let read = async {
            loop {
                match self.reader.next().await {
                    Ok(Some(request)) => {
                        let request = (request, self.reader.coming.whole());
                        if let Err(SendError(_)) = self.requests.send(Ok(request)).await {
                            return Ok(());
                        }
                    }
                    Ok(None) if is_meant(&self.shared, &self.client, outgoing).await => {
                        return Ok(());
                    }
                    Ok(None) => return Err(gone()),
                    Err(error) => return Err(error),
                }
            }
        };
        let outcome = tokio::select! {
            biased;
            () = unwanted.closed() => Ok(()),
            outcome = read => outcome,
        };
        self.end.come(outcome);
    }
}

/// True if the end of a descriptor is one that the client meant. When a client is killed, its
/// descriptor may close before the bus sees it go, so it is asked for a sign of life first.
async fn is_meant(shared: &Shared, client: &str, outgoing: &Outgoing) -> bool {
    outgoing.until_settled(client).await;
    shared.callers.is_here(client).await
}

fn gone() -> Error {
    Error::new(ErrorKind::Cancelled, "the client went away before all its messages came")
}

/// The place in the stream for how it ends.
struct End(Option<OwnedPermit<Result<Waiting, Error>>>);

impl End {
    fn come(&mut self, outcome: Result<(), Error>) {
        if let (Some(place), Err(error)) = (self.0.take(), outcome) {
            place.send(Err(error));
        }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        // A stream whose sender is dropped has ended well, which this one has not.
        self.come(Err(gone()));
    }
}

/// The messages on a descriptor.
struct Lines {
    bytes: BufReader<Box<dyn AsyncRead + Send + Unpin>>,
    format: Format,
    message: MessageDescriptor,
    /// The largest message.
    max_bytes: usize,
    count: u64,
    executor: Arc<Executor>,
    /// What is there of the message that is read.
    coming: Coming,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.count += 1;
        let next = match self.format {
            Format::Proto => self.delimited().await,
            Format::Json => self.line().await,
        };
        next.map_err(|problem| match problem {
            Problem::Io(error) => Error::invalid(OPTION, error),
            Problem::Half => {
                Error::invalid(OPTION, format!("ends in the middle of message {}", self.count))
            }
            Problem::Length => {
                Error::invalid(OPTION, format!("message {} has no valid length", self.count))
            }
            Problem::TooLarge => Error::limit(
                "dbus.max_body_bytes",
                self.max_bytes,
                format_args!("{OPTION}: message {} is too large", self.count),
            ),
            Problem::Share(error) => error,
            Problem::Json(error) => {
                let problem = format!("line {}: {}", self.count, error.message());
                Error::invalid(OPTION, problem)
            }
        })
    }

    /// Notes that so much of a message is there.
    fn hold(&mut self, bytes: usize) -> Result<(), Problem> {
        let held = self.coming.holds(bytes).map_err(Problem::Share);
        held.inspect_err(|_| self.executor.reject(Rejection::CallerBytes))
    }

    /// The next message after its length; `None` at the end. The whole of it counts from there on.
    async fn delimited(&mut self) -> Result<Option<Bytes>, Problem> {
        let Some(length) = delimited::length(&mut self.bytes, self.max_bytes).await? else {
            return Ok(None);
        };
        self.hold(length)?;
        Ok(Some(delimited::payload(&mut self.bytes, length).await?))
    }

    /// The bytes up to and with the next line break, or to the end, which count as they come.
    async fn bytes(&mut self) -> Result<Vec<u8>, Problem> {
        let mut line = Vec::new();
        loop {
            let there = self.bytes.fill_buf().await.map_err(Problem::Io)?;
            let end = there.iter().position(|byte| *byte == b'\n');
            let read = end.map_or(there.len(), |end| end + 1);
            line.extend_from_slice(&there[..read]);
            self.bytes.consume(read);
            if line.len() > self.max_bytes {
                return Err(Problem::TooLarge);
            }
            self.hold(line.len())?;
            if read == 0 || end.is_some() {
                return Ok(line);
            }
        }
    }

    /// The next line as a message; `None` at the end. The last one needs no line break.
    async fn line(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let line = self.bytes().await?;
            if line.is_empty() {
                return Ok(None);
            }
            let is_whole = line.ends_with(b"\n");
            let text = std::str::from_utf8(&line)
                .map_err(|error| Problem::Json(Error::invalid("text", error)))?;
            if text.trim().is_empty() {
                self.count += 1;
                continue;
            }
            return match json_to_message(&self.message, text) {
                Ok(message) => {
                    self.hold(message.len())?;
                    Ok(Some(message.into()))
                }
                Err(_) if !is_whole => Err(Problem::Half),
                Err(error) => Err(Problem::Json(error)),
            };
        }
    }
}

impl From<Broken> for Problem {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Io(error) => Self::Io(error),
            Broken::Half => Self::Half,
            Broken::Length => Self::Length,
            Broken::TooLarge => Self::TooLarge,
        }
    }
}

/// Why there is no next message.
enum Problem {
    Io(io::Error),
    Half,
    Length,
    TooLarge,
    Json(Error),
    /// The caller has too much.
    Share(Error),
}
