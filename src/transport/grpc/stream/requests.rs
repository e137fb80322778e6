//! The requests of a client stream, read from the connection as the agent takes them: what the agent
//! does not take stays with the client. It decodes nothing.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::Stream;
use http_body::Body;

use crate::error::Error;
use crate::executor::Executor;
use crate::transport::grpc::error::Refusal;
use crate::transport::grpc::value::{Deframer, Unread, given_up};

/// The messages in the body of a request.
pub(super) struct Incoming<B> {
    /// `None` after the end.
    body: Option<B>,
    deframer: Deframer,
    /// What came behind the last message.
    data: Bytes,
    executor: Arc<Executor>,
}

impl<B: Body<Data = Bytes> + Unpin> Incoming<B> {
    /// Reads messages of at most `limit` bytes; `executor` counts what is refused.
    pub(super) fn new(body: B, limit: usize, executor: Arc<Executor>) -> Self {
        Self { body: Some(body), deframer: Deframer::new(limit), data: Bytes::new(), executor }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Unread>> {
        loop {
            if !self.data.is_empty()
                && let Some(message) = self.deframer.take(&mut self.data)?
            {
                return Poll::Ready(Ok(Some(message)));
            }
            let Some(body) = &mut self.body else { return Poll::Ready(Ok(None)) };
            match ready!(Pin::new(&mut *body).poll_frame(context)) {
                Some(Ok(frame)) => self.data = frame.into_data().unwrap_or_default(),
                // A client may reset its stream in a way that hyper takes for its end.
                None if body.is_end_stream() => {
                    self.body = None;
                    return Poll::Ready(self.deframer.end().map(|()| None));
                }
                Some(Err(_)) | None => return Poll::Ready(Err(given_up())),
            }
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Stream for Incoming<B> {
    type Item = Result<Bytes, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let polled = ready!(this.poll(context));
        Poll::Ready(polled.map_err(|unread| this.broken(unread)).transpose())
    }
}

impl<B> Incoming<B> {
    /// Ends the stream with an error.
    fn broken(&mut self, unread: Unread) -> Error {
        self.body = None;
        self.data = Bytes::new();
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
