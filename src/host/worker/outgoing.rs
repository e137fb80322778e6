//! What goes to a worker as the body of a request: one message, or those of a stream as the worker
//! takes them. It decodes nothing.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, unfold};
use futures_util::{Stream as _, StreamExt as _};
use h2::{Reason, SendStream};

use crate::contract::RawRequests;
use crate::error::Error;
use crate::wire;

/// The body of a request.
pub(super) enum Outgoing {
    /// One message: its prefix, with it if it is small, and it if it is large.
    One {
        prefix: Bytes,
        large: Option<Bytes>,
    },
    Many(Many),
}

/// The messages of a stream.
pub(super) struct Many {
    requests: BoxStream<'static, Result<Bytes, Error>>,
    /// A large message whose prefix is sent.
    large: Option<Bytes>,
    broken: Broken,
}

/// What follows on a stream.
enum Next {
    Data(Bytes),
    End,
    /// The client's stream broke.
    Broken,
}

/// Why the client's stream broke before its end, if it did.
#[derive(Clone, Default)]
pub(super) struct Broken(Arc<Mutex<Option<Error>>>);

impl Broken {
    /// Takes it.
    pub(super) fn take(&self) -> Option<Error> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    fn set(&self, error: Error) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }
}

impl Outgoing {
    /// The one message `request`.
    ///
    /// # Errors
    /// `LimitExceeded` if no message can be so large.
    pub(super) fn one(request: Bytes) -> Result<Self, Error> {
        let mut prefix = BytesMut::new();
        let large = wire::put_message(&mut prefix, request, usize::MAX).map_err(too_large)?;
        Ok(Self::One { prefix: prefix.freeze(), large })
    }

    /// The messages of `requests`. Should they break, `broken` says why.
    pub(super) fn many(requests: RawRequests, broken: Broken) -> Self {
        let requests = unfold(requests, async |mut requests| {
            let next = requests.next().await?;
            Some((next, requests))
        });
        Self::Many(Many { requests: requests.boxed(), large: None, broken })
    }
}

fn too_large(wire::TooLarge(bytes): wire::TooLarge) -> Error {
    let problem = format_args!("the request has {bytes} bytes");
    Error::limit("message bytes on gRPC", u32::MAX, problem)
}

impl Many {
    /// Sends the messages as they come and as the worker takes them, to their end or until the worker
    /// wants no more.
    pub(super) async fn send(mut self, mut stream: SendStream<Bytes>) {
        loop {
            if !wire::takes_more(&mut stream).await {
                return;
            }
            let next = wire::while_wanted(&mut stream, |context| self.poll_next(context));
            let sent = match next.await {
                Some(Next::Data(data)) => stream.send_data(data, false),
                Some(Next::End) => stream.send_data(Bytes::new(), true),
                Some(Next::Broken) => return stream.send_reset(Reason::CANCEL),
                None => return,
            };
            if sent.is_err() {
                return;
            }
        }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Next> {
        if let Some(large) = self.large.take() {
            return Poll::Ready(Next::Data(large));
        }
        let next = match ready!(Pin::new(&mut self.requests).poll_next(context)) {
            None => return Poll::Ready(Next::End),
            Some(next) => next,
        };
        let mut buffer = BytesMut::new();
        let put = next.and_then(|message| {
            wire::put_message(&mut buffer, message, usize::MAX).map_err(too_large)
        });
        Poll::Ready(match put {
            Ok(large) => {
                self.large = large;
                Next::Data(buffer.freeze())
            }
            Err(error) => {
                self.broken.set(error);
                Next::Broken
            }
        })
    }
}
