//! What goes to a worker as the body of a request: one message, or those of a stream as the worker
//! takes them. It decodes nothing.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use futures_util::stream::{BoxStream, unfold};
use futures_util::{Stream as _, StreamExt as _};
use http_body::{Body, Frame};

use crate::contract::RawRequests;
use crate::error::Error;
use crate::wire::{self, Parts};

/// The body of a request.
pub(super) enum Outgoing {
    One(Parts),
    Many(Many),
}

/// The messages of a stream.
pub(super) struct Many {
    requests: BoxStream<'static, Result<Bytes, Error>>,
    /// A large message whose prefix is sent.
    large: Option<Bytes>,
    broken: Broken,
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
        let parts = Parts::of(request, usize::MAX, false).map_err(too_large)?;
        Ok(Self::One(parts))
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
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if let Some(large) = self.large.take() {
            return Poll::Ready(Some(Ok(Frame::data(large))));
        }
        let next = match ready!(Pin::new(&mut self.requests).poll_next(context)) {
            None => return Poll::Ready(None),
            Some(next) => next,
        };
        let mut buffer = BytesMut::new();
        let put = next.and_then(|message| {
            wire::put_message(&mut buffer, message, usize::MAX).map_err(too_large)
        });
        Poll::Ready(Some(match put {
            Ok(large) => {
                self.large = large;
                Ok(Frame::data(buffer.freeze()))
            }
            Err(error) => {
                self.broken.set(error);
                Err(io::ErrorKind::BrokenPipe.into())
            }
        }))
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        match self.get_mut() {
            Self::One(parts) => Poll::Ready(parts.next().map(Ok)),
            Self::Many(many) => many.poll_next(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::One(parts) => parts.is_ended(),
            Self::Many(_) => false,
        }
    }
}
