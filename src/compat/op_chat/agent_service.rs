//! AgentService: sessions, and calls of any agent by name, one or several. What a name means is in
//! `names`, one execution in `execution`, the stream that holds a session in `session`.

use std::time::Duration;

use super::super::inner::{next, within};
use super::super::names::translate;
use super::OpChat;
use super::execution::response;
use crate::call::Context;
use crate::contract::{Replies, Requests, decode};
use crate::error::{Error, ErrorKind};
use crate::proto::op_chat::agents::{
    AgentService, BatchExecuteRequest, EndSessionRequest, EndSessionResponse, ExecuteChunk,
    ExecuteRequest, ExecuteResponse, SessionMessage, StartSessionRequest, StartSessionResponse,
};
use crate::proto::opdbus::v1 as own;

impl AgentService for OpChat {
    async fn start_session(
        &self,
        context: &Context,
        request: StartSessionRequest,
    ) -> Result<StartSessionResponse, Error> {
        if request.session_id.is_empty() {
            return Err(Error::invalid("session_id", "is missing"));
        }
        let start = own::StartSessionRequest {
            client_name: match request.client_name.as_str() {
                "" => "op-chat".to_owned(),
                name => name.to_owned(),
            },
            session_id: request.session_id.clone(),
            metadata: request.metadata,
            ..own::StartSessionRequest::default()
        };
        let started: Result<own::StartSessionResponse, Error> =
            self.inner.call(within(context, "", None), "sessions", "StartSession", &start).await;
        match started {
            Ok(started) => Ok(agents_started(&started.agents, "the session has started")),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.session_goes_on(context, &request.session_id).await
            }
            Err(error) => Err(error),
        }
    }

    async fn end_session(
        &self,
        context: &Context,
        request: EndSessionRequest,
    ) -> Result<EndSessionResponse, Error> {
        let end = own::EndSessionRequest { session_id: request.session_id };
        let _: own::EndSessionResponse =
            self.inner.call(within(context, "", None), "sessions", "EndSession", &end).await?;
        Ok(EndSessionResponse { success: true })
    }

    async fn execute(
        &self,
        context: &Context,
        request: ExecuteRequest,
    ) -> Result<ExecuteResponse, Error> {
        self.run(context, &request).await
    }

    async fn execute_stream(
        &self,
        context: &Context,
        request: ExecuteRequest,
        replies: Replies<ExecuteChunk>,
    ) -> Result<(), Error> {
        self.run_in_chunks(context, &request, &replies).await
    }

    async fn batch_execute(
        &self,
        context: &Context,
        request: BatchExecuteRequest,
        replies: Replies<ExecuteResponse>,
    ) -> Result<(), Error> {
        let BatchExecuteRequest { session_id, requests, parallel } = request;
        let mut batch = own::BatchCallRequest { parallel, ..own::BatchCallRequest::default() };
        // The position among `requests` of each call of the batch.
        let mut positions = Vec::new();
        let mut refused = Vec::new();
        for (position, request) in requests.iter().enumerate() {
            match self.item(request, &session_id) {
                Ok(item) => {
                    batch.items.push(item);
                    positions.push(position);
                }
                Err(error) => refused.push((position, error)),
            }
        }
        let mut refused = refused.into_iter().peekable();
        let mut answered = 0;
        if !batch.items.is_empty() {
            let inner = within(context, &session_id, None);
            let batch = own::BatchCallStreamRequest { batch: Some(batch) };
            let mut stream =
                self.inner.stream_of(inner, "calls", "BatchCallStream", &batch).await?;
            while let Some(payload) = next(&mut stream).await? {
                let message: own::BatchCallStreamResponse = decode(payload)?;
                let Some(result) = message.result else { continue };
                let position = usize::try_from(result.index).ok().and_then(|at| positions.get(at));
                let Some(&position) = position else { continue };
                while let Some((at, error)) = refused.next_if(|(at, _)| *at < position) {
                    replies.send(response(&requests[at], Err(error), Duration::ZERO)).await?;
                }
                replies.send(answer(&requests[position], result)).await?;
                answered += 1;
            }
        }
        if answered < positions.len() {
            return Err(Error::internal("the batch ended before all of its calls did"));
        }
        for (at, error) in refused {
            replies.send(response(&requests[at], Err(error), Duration::ZERO)).await?;
        }
        Ok(())
    }

    async fn session(
        &self,
        context: &Context,
        requests: Requests<SessionMessage>,
        replies: Replies<SessionMessage>,
    ) -> Result<(), Error> {
        self.hold_session(context, requests, replies).await
    }
}

impl OpChat {
    /// The client starts a session that it has: the contract has no token to resume it with, but the
    /// session is the same user's.
    async fn session_goes_on(
        &self,
        context: &Context,
        session_id: &str,
    ) -> Result<StartSessionResponse, Error> {
        self.keep_alive(context, session_id).await?;
        let agents: own::ListAgentsResponse = self
            .inner
            .call(
                within(context, session_id, None),
                "agents",
                "ListAgents",
                &own::ListAgentsRequest {},
            )
            .await?;
        let running = agents.agents.into_iter().filter(|agent| {
            agent.activation() == own::Activation::RunOnConnection
                && matches!(agent.state(), own::AgentState::Running | own::AgentState::Busy)
        });
        Ok(StartSessionResponse {
            success: true,
            started_agents: running.map(|agent| agent.id).collect(),
            message: "the session was there already and goes on".to_owned(),
        })
    }

    pub(super) async fn keep_alive(
        &self,
        context: &Context,
        session_id: &str,
    ) -> Result<(), Error> {
        let alive = own::KeepAliveRequest { session_id: session_id.to_owned() };
        let _: own::KeepAliveResponse =
            self.inner.call(within(context, "", None), "sessions", "KeepAlive", &alive).await?;
        Ok(())
    }

    /// The call of a batch that an execution is.
    fn item(&self, request: &ExecuteRequest, session_id: &str) -> Result<own::BatchItem, Error> {
        if !request.session_id.is_empty() && request.session_id != session_id {
            return Err(Error::invalid(
                "session_id",
                "all executions of a batch belong to the batch's session",
            ));
        }
        let named = translate(&request.agent_id, &request.operation, &request.arguments_json)?;
        let route = self.inner.find(&named.agent, &named.operation)?;
        if route.operation.is_streaming() {
            return Err(Error::invalid("operation", "is a stream; ExecuteStream gives it"));
        }
        let timeout = super::execution::timeout(request.timeout_ms);
        Ok(own::BatchItem {
            agent: named.agent,
            operation: named.operation,
            arguments: named.arguments.to_string(),
            timeout: timeout.and_then(|timeout| timeout.try_into().ok()),
            ..own::BatchItem::default()
        })
    }
}

fn agents_started(agents: &[own::AgentStart], message: &str) -> StartSessionResponse {
    let (started, failed): (Vec<_>, Vec<_>) = agents.iter().partition(|agent| {
        matches!(agent.state(), own::AgentState::Running | own::AgentState::Busy)
    });
    let mut message = message.to_owned();
    for agent in failed {
        message.push_str(&format!("; {} is not ready: {}", agent.agent, agent.reason));
    }
    StartSessionResponse {
        success: true,
        started_agents: started.iter().map(|agent| agent.agent.clone()).collect(),
        message,
    }
}

/// What one call of a batch came to, as the contract says it.
fn answer(request: &ExecuteRequest, result: own::BatchResult) -> ExecuteResponse {
    let time = result.took.and_then(|took| took.try_into().ok()).unwrap_or_default();
    let success = result.status() == own::BatchStatus::Ok;
    let mut answer = response(request, Ok(result.result), time);
    if !success {
        let failure = result.failure.unwrap_or_default();
        answer.success = false;
        answer.result_json.clear();
        answer.error = format!("{}: {}", failure.reason, failure.message);
    }
    answer
}
