//! One execution: an operation by name with JSON arguments, as a whole or as chunks. It knows neither
//! sessions nor batches.

use std::time::{Duration, Instant};

use super::super::inner::{next, within};
use super::super::names::{Named, translate};
use super::OpChat;
use crate::call::Context;
use crate::contract::{Replies, json_to_message, message_to_json};
use crate::error::{Error, ErrorKind};
use crate::executor::Input;
use crate::proto::op_chat::agents::{ExecuteChunk, ExecuteRequest, ExecuteResponse};

/// The largest result of a stream that is given as a whole, in bytes.
const MAX_RESULT_BYTES: usize = 3 * 1024 * 1024;

/// A failure as a text for a contract that has no better place: the reason for programs first.
pub(super) fn text(error: &Error) -> String {
    format!("{}: {error}", error.kind().reason())
}

/// True if the failure is of the call and not of what it asked for; it then is the call's status.
pub(super) fn is_of_the_call(error: &Error) -> bool {
    super::is_about_session(error)
        || matches!(
            error.kind(),
            ErrorKind::Unauthenticated | ErrorKind::Unavailable | ErrorKind::Cancelled
        )
}

/// How long the client gives it; 0 and less is no time of its own.
pub(super) fn timeout(milliseconds: i64) -> Option<Duration> {
    u64::try_from(milliseconds).ok().filter(|time| *time > 0).map(Duration::from_millis)
}

fn milliseconds(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

/// What an execution came to.
pub(super) fn response(
    request: &ExecuteRequest,
    outcome: Result<String, Error>,
    time: Duration,
) -> ExecuteResponse {
    let (success, result_json, error) = match outcome {
        Ok(result) => (true, result, String::new()),
        Err(error) => (false, String::new(), text(&error)),
    };
    ExecuteResponse {
        agent_id: request.agent_id.clone(),
        operation: request.operation.clone(),
        success,
        result_json,
        error,
        execution_time_ms: milliseconds(time),
    }
}

impl OpChat {
    /// Executes an operation and gives its result as a whole.
    pub(super) async fn run(
        &self,
        context: &Context,
        request: &ExecuteRequest,
    ) -> Result<ExecuteResponse, Error> {
        let begun = Instant::now();
        match self.result(context, request).await {
            Err(error) if is_of_the_call(&error) => Err(error),
            outcome => Ok(response(request, outcome, begun.elapsed())),
        }
    }

    async fn result(&self, context: &Context, request: &ExecuteRequest) -> Result<String, Error> {
        let Named { agent, operation, arguments } =
            translate(&request.agent_id, &request.operation, &request.arguments_json)?;
        let route = self.inner.find(&agent, &operation)?;
        let inner = within(context, &request.session_id, timeout(request.timeout_ms));
        if !route.operation.is_streaming() {
            let executor = self.inner.executor()?;
            return executor.call_json(&agent, &operation, &arguments.to_string(), inner).await;
        }
        let message = json_to_message(&route.operation.input, &arguments.to_string())?;
        let mut stream = self.inner.stream(inner, &route, Input::One(message.into())).await?;
        let mut result = String::from("[");
        while let Some(payload) = next(&mut stream).await? {
            if result.len() > 1 {
                result.push(',');
            }
            result.push_str(&message_to_json(&route.operation.output, &payload)?);
            if result.len() > MAX_RESULT_BYTES {
                return Err(Error::limit(
                    "bytes of a result",
                    MAX_RESULT_BYTES,
                    "the stream is too large to be given as a whole; ExecuteStream gives it in chunks",
                ));
            }
        }
        result.push(']');
        Ok(result)
    }

    /// Executes an operation and gives its result in chunks, the last of which says how it ended.
    pub(super) async fn run_in_chunks(
        &self,
        context: &Context,
        request: &ExecuteRequest,
        replies: &Replies<ExecuteChunk>,
    ) -> Result<(), Error> {
        let last = match self.chunks(context, request, replies).await {
            Ok(()) => chunk(request, String::new(), "result"),
            Err(error) if is_of_the_call(&error) => return Err(error),
            Err(error) => ExecuteChunk { exit_code: 1, ..chunk(request, text(&error), "error") },
        };
        replies.send(ExecuteChunk { is_final: true, ..last }).await
    }

    async fn chunks(
        &self,
        context: &Context,
        request: &ExecuteRequest,
        replies: &Replies<ExecuteChunk>,
    ) -> Result<(), Error> {
        let Named { agent, operation, arguments } =
            translate(&request.agent_id, &request.operation, &request.arguments_json)?;
        let route = self.inner.find(&agent, &operation)?;
        let inner = within(context, &request.session_id, timeout(request.timeout_ms));
        let message = json_to_message(&route.operation.input, &arguments.to_string())?;
        let mut stream = self.inner.stream(inner, &route, Input::One(message.into())).await?;
        while let Some(payload) = next(&mut stream).await? {
            let json = message_to_json(&route.operation.output, &payload)?;
            replies.send(chunk(request, json, "result")).await?;
        }
        Ok(())
    }
}

fn chunk(request: &ExecuteRequest, chunk: String, stream_type: &str) -> ExecuteChunk {
    ExecuteChunk {
        agent_id: request.agent_id.clone(),
        chunk,
        stream_type: stream_type.to_owned(),
        is_final: false,
        exit_code: 0,
    }
}
