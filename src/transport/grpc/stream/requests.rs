//! The requests of a client stream, read from the connection as the agent takes them: what the agent
//! does not take stays with the client. It decodes nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use http_body::Body;

use crate::error::Error;
use crate::executor::{Coming, Executor};
use crate::transport::grpc::error::Refusal;
use crate::transport::grpc::value::Unread;
use crate::wire::Messages;

/// The messages in the body of a request.
pub(super) struct Incoming<B> {
    messages: Messages<B>,
    coming: Coming,
    executor: Arc<Executor>,
}

impl<B: Body<Data = Bytes> + Unpin> Incoming<B> {
    /// Reads messages of at most `limit` bytes; `coming` counts what is half-read, `executor` what is
    /// refused.
    pub(super) fn new(body: B, limit: usize, coming: Coming, executor: Arc<Executor>) -> Self {
        Self { messages: Messages::new(body, limit), coming, executor }
    }

    /// Ends the stream with an error.
    fn broken(&mut self, unread: Unread) -> Error {
        self.messages.close();
        let Unread { refusal, rejection } = unread;
        if let Some(rejection) = rejection {
            self.executor.reject(rejection);
        }
        match refusal {
            Refusal::Error(error) => error,
            Refusal::NotGrpc(_) | Refusal::Compressed | Refusal::CompressedSomehow => {
                Error::invalid("request", "a message is compressed, which is not served")
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Stream for Incoming<B> {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let polled = this.messages.poll_next(context);
        if let Err(error) = this.coming.holds(this.messages.buffered()) {
            return Poll::Ready(Some(Err(this.broken(Unread::of_caller(error)))));
        }
        let polled = ready!(polled);
        Poll::Ready(polled.map_err(|lost| this.broken(lost.into())).transpose())
    }
}
