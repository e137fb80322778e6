//! Calls on one HTTP/2 connection: each request is written with its head, and each response is read by who
//! waits for it, with no task between. What the messages are, is gRPC's matter.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use futures_util::FutureExt as _;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Error, Reason, SendStream};
use http::{Request, Response};
use http_body::{Body as _, Frame};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::Service;

use crate::wire::{Received, takes_more, while_wanted};

/// A connection. Clones share it; it ends with the last of them and of their calls.
#[derive(Clone, Debug)]
pub(super) struct Connection(SendRequest<Bytes>);

impl Connection {
    pub(super) const fn new(requests: SendRequest<Bytes>) -> Self {
        Self(requests)
    }

    /// False if it takes no more calls, as after its end.
    pub(super) fn is_open(&mut self) -> bool {
        let state = self.0.poll_ready(&mut Context::from_waker(Waker::noop()));
        !matches!(state, Poll::Ready(Err(_)))
    }
}

impl Service<Request<Body>> for Connection {
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = Exchange;

    /// Always: HTTP/2 lets streams wait that are more than the service takes at a time.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Exchange {
        let (head, body) = request.into_parts();
        match self.0.send_request(Request::from_parts(head, ()), false) {
            Ok((response, stream)) => Exchange::Open { response, outgoing: send(stream, body) },
            Err(error) => Exchange::Refused(Some(error)),
        }
    }
}

/// A call whose response has not begun. Dropping it cancels the call.
pub(super) enum Exchange {
    Open { response: ResponseFuture, outgoing: Option<JoinSet<()>> },
    Refused(Option<Error>),
}

impl Future for Exchange {
    type Output = Result<Response<Incoming>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut *self {
            Self::Open { response, outgoing } => {
                let response = ready!(Pin::new(response).poll(context))?;
                let outgoing = outgoing.take();
                Poll::Ready(Ok(response
                    .map(|stream| Incoming { received: Received(stream), _outgoing: outgoing })))
            }
            Self::Refused(error) => match error.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            },
        }
    }
}

/// Sends what is there of a request, which of a call with one is all, so that it leaves together with its
/// head; the rest in a task.
fn send(stream: SendStream<Bytes>, body: Body) -> Option<JoinSet<()>> {
    let mut sending = Box::pin(pieces(stream, body));
    match (&mut sending).now_or_never() {
        Some(()) => None,
        None => Some(JoinSet::from_iter([sending])),
    }
}

/// Sends a request piece by piece, the first at once and each other one when the service takes more. What
/// goes wrong here, the response says.
async fn pieces(mut stream: SendStream<Bytes>, mut body: Body) {
    let mut next = piece(&mut stream, &mut body).await;
    while let Some(data) = next {
        let following = piece(&mut stream, &mut body).now_or_never();
        let is_last = matches!(following, Some(None));
        if stream.send_data(data, is_last).is_err() || is_last {
            return;
        }
        next = match following {
            Some(next) => next,
            None => piece(&mut stream, &mut body).await,
        };
        if !takes_more(&mut stream).await {
            return;
        }
    }
    // Nothing follows if the call is over.
    drop(stream.send_data(Bytes::new(), true));
}

/// The next piece of a request; `None` after the last, or once the call is over.
async fn piece(stream: &mut SendStream<Bytes>, body: &mut Body) -> Option<Bytes> {
    loop {
        match while_wanted(stream, |context| Pin::new(&mut *body).poll_frame(context)).await?? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(data);
                }
            }
            Err(_) => {
                stream.send_reset(Reason::INTERNAL_ERROR);
                return None;
            }
        }
    }
}

/// A response as it comes. Dropping it cancels the call, and what is still to be sent of its request.
pub(super) struct Incoming {
    received: Received,
    /// Whose task ends with it.
    _outgoing: Option<JoinSet<()>>,
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match ready!(Pin::new(&mut self.received).poll_frame(context)) {
            // Said after a response that is whole by who wants no more of the request.
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => Poll::Ready(None),
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.received.is_end_stream()
    }
}
