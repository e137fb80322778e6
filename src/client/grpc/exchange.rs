//! Calls on one HTTP/2 connection: each request is written with its head, and each response is read by who
//! waits for it, with no task between. What the messages are, is gRPC's matter.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Error, Reason, RecvStream, SendStream};
use http::{Request, Response};
use http_body::{Body as _, Frame};
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::codegen::Service;

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
            Ok((response, stream)) => {
                Exchange::Open { response, outgoing: Outgoing::new(stream, body).start() }
            }
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
                Poll::Ready(Ok(response.map(|stream| Incoming { stream, _outgoing: outgoing })))
            }
            Self::Refused(error) => match error.take() {
                Some(error) => Poll::Ready(Err(error)),
                None => Poll::Pending,
            },
        }
    }
}

/// What is still to be sent of a request.
struct Outgoing {
    stream: SendStream<Bytes>,
    body: Body,
    /// What has been read of the body and waits for its turn.
    next: Option<Bytes>,
    began: bool,
}

impl Outgoing {
    const fn new(stream: SendStream<Bytes>, body: Body) -> Self {
        Self { stream, body, next: None, began: false }
    }

    /// Sends what is there, which of a call with one request is all, so that it leaves together with the
    /// head; the rest in a task.
    fn start(mut self) -> Option<JoinSet<()>> {
        let sent = Pin::new(&mut self).poll(&mut Context::from_waker(Waker::noop()));
        sent.is_pending().then(|| JoinSet::from_iter([self]))
    }

    /// The next of the body; `None` after its end.
    fn read(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        loop {
            match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Poll::Ready(Some(data));
                    }
                }
                Some(Err(_)) => {
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(None);
                }
                None => return Poll::Ready(None),
            }
        }
    }

    /// Waits until what was sent before has left, so that no more than one message is kept here. `None` if
    /// the service takes no more.
    fn turn(&mut self, context: &mut Context<'_>) -> Poll<Option<()>> {
        if self.began {
            self.stream.reserve_capacity(1);
            while self.stream.capacity() == 0 {
                match ready!(self.stream.poll_capacity(context)) {
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return Poll::Ready(None),
                }
            }
        }
        self.began = true;
        Poll::Ready(Some(()))
    }
}

impl Future for Outgoing {
    type Output = ();

    /// What goes wrong here, the response says.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.next.is_none() {
                self.next = ready!(self.read(context));
            }
            let Some(()) = ready!(self.turn(context)) else { return Poll::Ready(()) };
            let data = self.next.take().unwrap_or_default();
            let following = self.read(context);
            let is_last = matches!(following, Poll::Ready(None));
            if self.stream.send_data(data, is_last).is_err() || is_last {
                return Poll::Ready(());
            }
            if let Poll::Ready(following) = following {
                self.next = following;
            }
        }
    }
}

/// A response as it comes. Dropping it cancels the call, and what is still to be sent of its request.
pub(super) struct Incoming {
    stream: RecvStream,
    /// Whose tasks end with it.
    _outgoing: Option<JoinSet<()>>,
}

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match ready!(self.stream.poll_data(context)) {
            Some(Ok(data)) => {
                self.stream.flow_control().release_capacity(data.len())?;
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            // Said after a response that is whole by who wants no more of the request.
            Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => Poll::Ready(None),
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            None => {
                let trailers = ready!(self.stream.poll_trailers(context));
                Poll::Ready(trailers.map(|some| some.map(Frame::trailers)).transpose())
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }
}
