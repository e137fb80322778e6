//! The requests of a call from the client's descriptor (option `input-fd`). The stream ends where the
//! descriptor does, if the client is still there; what breaks off before is an error to the agent.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use prost_reflect::MessageDescriptor;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::mpsc::{Sender, error::SendError};

use super::call::Shared;
use super::descriptor::Reader;
use super::options::Format;
use super::outgoing::Outgoing;
use crate::contract::{RawRequests, json_to_message};
use crate::error::{Error, ErrorKind};
use crate::wire::dbus::delimited::{self, Broken};

/// How many requests wait for the agent.
const MAX_WAITING: usize = 16;

/// The name of the option, for errors.
const OPTION: &str = "input-fd";

type Requests = Sender<Result<Bytes, Error>>;

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
    ) -> Result<(Self, RawRequests), Error> {
        // One place more, for how it ends.
        let (requests, stream) = RawRequests::bounded(MAX_WAITING + 1);
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
struct End(Option<tokio::sync::mpsc::OwnedPermit<Result<Bytes, Error>>>);

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
}

impl Lines {
    async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        self.count += 1;
        let next = match self.format {
            Format::Proto => {
                delimited::next(&mut self.bytes, self.max_bytes).await.map_err(Problem::from)
            }
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
            Problem::Json(error) => {
                let problem = format!("line {}: {}", self.count, error.message());
                Error::invalid(OPTION, problem)
            }
        })
    }

    /// The next line as a message; `None` at the end. The last one needs no line break.
    async fn line(&mut self) -> Result<Option<Bytes>, Problem> {
        loop {
            let mut line = Vec::new();
            let most = self.max_bytes as u64 + 1;
            (&mut self.bytes).take(most).read_until(b'\n', &mut line).await.map_err(Problem::Io)?;
            if line.is_empty() {
                return Ok(None);
            }
            let is_whole = line.ends_with(b"\n");
            if line.len() > self.max_bytes {
                return Err(Problem::TooLarge);
            }
            let text = std::str::from_utf8(&line)
                .map_err(|error| Problem::Json(Error::invalid("text", error)))?;
            if text.trim().is_empty() {
                self.count += 1;
                continue;
            }
            return match json_to_message(&self.message, text) {
                Ok(message) => Ok(Some(message.into())),
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
}
