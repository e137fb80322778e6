//! The stream that holds a session: executions one after the other, heartbeats meanwhile.

use std::collections::VecDeque;
use std::time::{SystemTime, UNIX_EPOCH};

use futures_util::future::OptionFuture;

use super::OpChat;
use crate::call::Context;
use crate::contract::{Replies, Requests};
use crate::error::Error;
use crate::proto::op_chat::agents::session_message::Content;
use crate::proto::op_chat::agents::{
    ErrorMessage, ExecuteRequest, HeartbeatMessage, SessionMessage,
};

/// How many executions wait behind the one that runs; the client is not read any further then.
const MAX_WAITING: usize = 64;

impl OpChat {
    /// Answers the messages of a session until the client ends the stream and every execution has
    /// ended. Executions answer in the order in which they came; heartbeats at once.
    pub(super) async fn hold_session(
        &self,
        context: &Context,
        mut requests: Requests<SessionMessage>,
        replies: Replies<SessionMessage>,
    ) -> Result<(), Error> {
        let mut waiting: VecDeque<(String, ExecuteRequest)> = VecDeque::new();
        let mut running = std::pin::pin!(OptionFuture::default());
        let mut is_running = false;
        let mut is_open = true;
        while is_open || is_running || !waiting.is_empty() {
            if !is_running && let Some((session_id, request)) = waiting.pop_front() {
                running.set(Some(self.answer(context, session_id, request)).into());
                is_running = true;
            }
            tokio::select! {
                biased;
                answer = &mut running, if is_running => {
                    is_running = false;
                    if let Some(answer) = answer {
                        replies.send(answer).await?;
                    }
                }
                message = requests.next(), if is_open && waiting.len() < MAX_WAITING => {
                    let Some(message) = message? else {
                        is_open = false;
                        continue;
                    };
                    let session_id = message.session_id;
                    match message.content {
                        Some(Content::Execute(execute)) => waiting.push_back((session_id, execute)),
                        Some(Content::Heartbeat(_)) => {
                            let answer = self.beat(context, &session_id).await;
                            let answer = answer.unwrap_or_else(|error| failed(&error));
                            replies.send(said(session_id, answer)).await?;
                        }
                        Some(Content::Error(ErrorMessage { code, message })) => {
                            tracing::debug!(code, message, "an op-chat client reports an error");
                        }
                        Some(Content::Result(_) | Content::Chunk(_)) | None => {
                            let error = Error::invalid(
                                "content",
                                "a client sends execute, heartbeat or error",
                            );
                            replies.send(said(session_id, failed(&error))).await?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// A heartbeat keeps its session alive.
    async fn beat(&self, context: &Context, session_id: &str) -> Result<Content, Error> {
        if !session_id.is_empty() {
            self.keep_alive(context, session_id).await?;
        }
        Ok(heartbeat())
    }

    async fn answer(
        &self,
        context: &Context,
        session_id: String,
        mut request: ExecuteRequest,
    ) -> SessionMessage {
        if request.session_id.is_empty() {
            request.session_id.clone_from(&session_id);
        }
        let content = match self.run(context, &request).await {
            Ok(response) => Content::Result(response),
            Err(error) => failed(&error),
        };
        said(session_id, content)
    }
}

fn said(session_id: String, content: Content) -> SessionMessage {
    SessionMessage { session_id, content: Some(content) }
}

fn failed(error: &Error) -> Content {
    Content::Error(ErrorMessage {
        code: error.kind().reason().to_owned(),
        message: error.to_string(),
    })
}

/// The time here, in seconds since the epoch.
fn heartbeat() -> Content {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let timestamp = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
    Content::Heartbeat(HeartbeatMessage { timestamp })
}
