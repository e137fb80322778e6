//! What a worker answers to one call: messages, still encoded, and how the call went. The worker belongs
//! to its user, so that nothing of it is trusted beyond that.

use std::future::poll_fn;

use bytes::Bytes;
use h2::RecvStream;
use http::{Response, StatusCode};
use tokio_util::task::AbortOnDropHandle;

use super::link::Link;
use super::outgoing::Broken;
use crate::error::{Error, ErrorKind};
use crate::wire::{self, Hear, Lost, Malformed, Messages, Received};

/// What a worker answers.
pub(super) struct Answer<'a> {
    link: &'a Link,
    messages: Messages<Received>,
    /// Sends the requests meanwhile, if they are a stream.
    _sending: Option<AbortOnDropHandle<()>>,
}

impl<'a> Answer<'a> {
    /// Has `hear` called with what the worker says of the call while it runs.
    pub(super) fn hear(&mut self, hear: Hear) {
        self.messages.hear(hear);
    }

    /// The answer whose head has come.
    ///
    /// # Errors
    /// The call's, if its outcome is in the head.
    pub(super) fn of(
        link: &'a Link,
        response: Response<RecvStream>,
        sending: Option<AbortOnDropHandle<()>>,
    ) -> Result<Self, Error> {
        if response.status() != StatusCode::OK {
            return Err(link.nonsense(&response.status().to_string()));
        }
        // An answer without messages may say so in its head.
        if let Some(outcome) = wire::outcome(response.headers()) {
            outcome?;
            return Err(link.nonsense("an end without a message"));
        }
        let messages = Messages::new(Received(response.into_body()), link.max_response_bytes());
        Ok(Self { link, messages, _sending: sending })
    }

    /// The next message; `None` at the end of a call that went well.
    ///
    /// # Errors
    /// What the worker says, or that it is gone.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        let next = poll_fn(|context| self.messages.poll_next(context)).await;
        match next {
            Ok(Some(message)) => Ok(Some(message)),
            Ok(None) => match self.messages.trailers().and_then(wire::outcome) {
                Some(outcome) => outcome.map(|()| None),
                None => Err(self.link.nonsense("no outcome")),
            },
            Err(Lost::BrokenOff) => Err(self.link.lost()),
            Err(Lost::Malformed(Malformed::TooLarge { length, limit })) => {
                let problem = format_args!("the response has {length} bytes, which is too large");
                Err(Error::limit("worker.max_response_bytes", limit, problem))
            }
            Err(Lost::Malformed(Malformed::Compressed)) => {
                Err(self.link.nonsense("a compressed message"))
            }
            Err(Lost::Malformed(Malformed::Broken(problem))) => Err(self.link.nonsense(&problem)),
        }
    }

    /// The one message of a call that gives one.
    ///
    /// # Errors
    /// As [`Answer::next`].
    pub(super) async fn only(mut self) -> Result<Bytes, Error> {
        let Some(message) = self.next().await? else {
            return Err(self.link.nonsense("no message"));
        };
        match self.next().await? {
            None => Ok(message),
            Some(_) => Err(self.link.nonsense("more than one message")),
        }
    }
}

impl Link {
    fn nonsense(&self, what: &str) -> Error {
        let text = format!("{} answers with {what}", self.name());
        Error::new(ErrorKind::BackendFailed, text)
    }
}

/// The error of a call whose client's stream broke is the client's, whatever the worker made of it.
pub(super) fn blame(broken: &Broken, error: Error) -> Error {
    broken.take().unwrap_or(error)
}
