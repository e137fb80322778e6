//! A stream of HTTP/2 as the client and both sides of a worker's socket read and write it. What its bytes
//! mean is not known here.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http_body::{Body, Frame};

/// What comes on a stream. The other side may send on as it is read.
pub(crate) struct Received(pub(crate) RecvStream);

impl Body for Received {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let stream = &mut self.get_mut().0;
        if let Some(data) = ready!(stream.poll_data(context)) {
            return Poll::Ready(Some(data.and_then(|data| {
                stream.flow_control().release_capacity(data.len())?;
                Ok(Frame::data(data))
            })));
        }
        let trailers = ready!(stream.poll_trailers(context));
        Poll::Ready(trailers.transpose().map(|trailers| trailers.map(Frame::trailers)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// Waits until the other side takes something on `stream`; false if it never will. More may be sent then
/// than it has room for, but no more than one piece should be.
pub(crate) async fn takes_more(stream: &mut SendStream<Bytes>) -> bool {
    stream.reserve_capacity(1);
    while stream.capacity() == 0 {
        match poll_fn(|context| stream.poll_capacity(context)).await {
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return false,
        }
    }
    true
}

/// What `next` gives, or `None` once the other side wants nothing more on `stream`.
pub(crate) async fn while_wanted<T>(
    stream: &mut SendStream<Bytes>,
    mut next: impl FnMut(&mut Context<'_>) -> Poll<T>,
) -> Option<T> {
    poll_fn(|context| match stream.poll_reset(context) {
        Poll::Ready(_) => Poll::Ready(None),
        Poll::Pending => next(context).map(Some),
    })
    .await
}
