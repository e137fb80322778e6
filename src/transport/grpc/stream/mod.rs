//! Calls with a stream of messages on one side or both. Each is a task of the executor; this is the
//! client's view of it, which ends with the client. What the task does is not known here.

mod replies;
mod requests;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response};
use http_body::Body;

use super::error::Refusal;
use super::service::{Call, Service};
use super::value::{self, Reply};
use crate::contract::RawRequests;
use crate::error::Error;
use crate::executor::Input;
use crate::task::{Event, Subscription, Task};

pub(super) use replies::Replies;

use replies::gap;
use requests::Incoming;

/// The id of the task, in the headers of its call.
const TASK_ID: HeaderName = HeaderName::from_static("opdbus-task-id");

impl Service {
    /// Answers one call with a stream: with the headers at once if the responses are one, else when
    /// the one response is there.
    ///
    /// # Cancel safety
    /// Dropping the future is the client's going away.
    pub(super) async fn stream<B>(
        &self,
        mut call: Call,
        body: B,
    ) -> Result<Response<Reply>, Refusal>
    where
        B: Body<Data = Bytes> + Send + Unpin + 'static,
    {
        let input = if call.route.operation.client_streaming {
            let incoming = Incoming::new(
                body,
                self.max_request_bytes,
                call.peer.exchange.coming(),
                Arc::clone(&self.executor),
            );
            Input::Many(RawRequests::read(incoming))
        } else {
            let message;
            (message, call) = self.read(body, call).await?;
            Input::One(message)
        };
        let (route, context, peer) = call.into_context();
        let subscription = self.executor.start_reading(&route, context, input, false).await?;
        let task = Arc::clone(subscription.task());
        let limit = self.max_response_bytes;
        let response = if route.operation.server_streaming {
            value::response(Reply::Stream(Box::new(Replies::new(
                subscription,
                limit,
                peer.exchange,
            ))))
        } else {
            match only(subscription).await {
                Ok(message) => peer.answer(message, limit),
                Err(error) => Err(error),
            }
            .unwrap_or_else(|error| Refusal::from(error).into_response())
        };
        Ok(with_task(response, &task))
    }
}

/// The one message of a task.
async fn only(mut subscription: Subscription) -> Result<Bytes, Error> {
    let mut message = None;
    while let Some(event) = subscription.next().await {
        match event {
            Event::Message(next) => message = Some(next.payload),
            Event::Gap { from, to } => return Err(gap(subscription.task(), from, to)),
            Event::Changed => {}
            Event::Ended(outcome) => outcome?,
        }
    }
    message.ok_or_else(|| Error::internal("the agent ended without a response"))
}

/// The same response, which names the task if it can be found again.
fn with_task(mut response: Response<Reply>, task: &Task) -> Response<Reply> {
    if !task.is_transient()
        && let Ok(id) = HeaderValue::from_str(task.id())
    {
        response.headers_mut().insert(TASK_ID, id);
    }
    response
}
