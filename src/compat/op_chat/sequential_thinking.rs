//! SequentialThinkingAgent: chains of thought. Nobody thinks here: ThinkStream gives the thoughts that
//! are added to its chain by others.

use super::super::inner::{next, within};
use super::{OpChat, count, number};
use crate::call::Context;
use crate::contract::{Replies, decode};
use crate::error::Error;
use crate::proto::op_chat::agents::{
    ConcludeRequest, ConcludeResponse, GetChainRequest, GetChainResponse, SequentialThinkingAgent,
    StartChainRequest, StartChainResponse, ThinkRequest, ThinkResponse,
};
use crate::proto::opdbus::agent::sequential_thinking::v1 as own;
use own::watch_chain_response::Event;

const AGENT: &str = "sequential_thinking";

/// The most steps of one chain that are given as a whole; the agent keeps no more.
const MAX_STEPS: usize = 1000;

impl SequentialThinkingAgent for OpChat {
    async fn start_chain(
        &self,
        context: &Context,
        request: StartChainRequest,
    ) -> Result<StartChainResponse, Error> {
        let chain_id = self.new_chain(context, request).await?;
        Ok(StartChainResponse { chain_id, started: true })
    }

    async fn think(
        &self,
        context: &Context,
        request: ThinkRequest,
    ) -> Result<ThinkResponse, Error> {
        let think = own::ThinkRequest {
            chain_id: request.chain_id.clone(),
            thought: request.thought.clone(),
            if_step: number("step", request.step)?,
            ..own::ThinkRequest::default()
        };
        let inner = within(context, &request.session_id, None);
        let added: own::ThinkResponse = self.inner.call(inner, AGENT, "Think", &think).await?;
        Ok(ThinkResponse {
            chain_id: request.chain_id,
            step: wide(added.step),
            thought: request.thought,
            status: "active".to_owned(),
            is_final: false,
        })
    }

    async fn think_stream(
        &self,
        context: &Context,
        request: StartChainRequest,
        replies: Replies<ThinkResponse>,
    ) -> Result<(), Error> {
        let inner = within(context, &request.session_id, None);
        let chain_id = self.new_chain(context, request).await?;
        let watch = own::WatchChainRequest {
            chain_id: chain_id.clone(),
            ..own::WatchChainRequest::default()
        };
        // The client learns the chain's id at once, so that it can add thoughts.
        replies.send(answer(&chain_id, &own::Step::default(), "started")).await?;
        let mut stream = self.inner.stream_of(inner, AGENT, "WatchChain", &watch).await?;
        while let Some(payload) = next(&mut stream).await? {
            let event: own::WatchChainResponse = decode(payload)?;
            if let Some(Event::Step(step)) = &event.event {
                replies.send(answer(&chain_id, step, status(step))).await?;
            }
        }
        let last = answer(&chain_id, &own::Step::default(), "concluded");
        replies.send(ThinkResponse { is_final: true, ..last }).await
    }

    async fn conclude(
        &self,
        context: &Context,
        request: ConcludeRequest,
    ) -> Result<ConcludeResponse, Error> {
        let inner = || within(context, &request.session_id, None);
        let conclude = own::ConcludeRequest {
            chain_id: request.chain_id.clone(),
            ..own::ConcludeRequest::default()
        };
        let concluded: own::ConcludeResponse =
            self.inner.call(inner(), AGENT, "Conclude", &conclude).await?;
        let (_, steps) = self.steps(context, &request.session_id, &request.chain_id).await?;
        Ok(ConcludeResponse {
            chain_id: request.chain_id,
            conclusion: concluded.conclusion,
            total_steps: wide(concluded.stats.unwrap_or_default().total_steps),
            steps: steps.into_iter().map(|step| step.thought).collect(),
        })
    }

    async fn get_chain(
        &self,
        context: &Context,
        request: GetChainRequest,
    ) -> Result<GetChainResponse, Error> {
        let (chain, steps) = self.steps(context, &request.session_id, &request.chain_id).await?;
        let is_concluded =
            chain.chain.is_some_and(|chain| chain.status() == own::ChainStatus::Concluded);
        Ok(GetChainResponse {
            thoughts: steps
                .iter()
                .map(|step| answer(&request.chain_id, step, status(step)))
                .collect(),
            chain_id: request.chain_id,
            problem: chain.problem,
            status: if is_concluded { "concluded" } else { "open" }.to_owned(),
        })
    }
}

impl OpChat {
    async fn new_chain(
        &self,
        context: &Context,
        request: StartChainRequest,
    ) -> Result<String, Error> {
        let start = own::StartChainRequest {
            problem: request.problem,
            context: request.context,
            max_steps: number("max_steps", request.max_steps)?,
            ..own::StartChainRequest::default()
        };
        let inner = within(context, &request.session_id, None);
        let started: own::StartChainResponse =
            self.inner.call(inner, AGENT, "StartChain", &start).await?;
        Ok(started.chain_id)
    }

    /// A chain and its steps that stand, up to the most that a chain may have.
    async fn steps(
        &self,
        context: &Context,
        session_id: &str,
        chain_id: &str,
    ) -> Result<(own::GetChainResponse, Vec<own::Step>), Error> {
        let mut request = own::GetChainRequest {
            chain_id: chain_id.to_owned(),
            ..own::GetChainRequest::default()
        };
        let mut steps = Vec::new();
        loop {
            let inner = within(context, session_id, None);
            let mut page: own::GetChainResponse =
                self.inner.call(inner, AGENT, "GetChain", &request).await?;
            steps.append(&mut page.steps);
            request.page_token.clone_from(&page.next_page_token);
            if request.page_token.is_empty() || steps.len() >= MAX_STEPS {
                return Ok((page, steps));
            }
        }
    }
}

fn answer(chain_id: &str, step: &own::Step, status: &str) -> ThinkResponse {
    ThinkResponse {
        chain_id: chain_id.to_owned(),
        step: wide(step.step),
        thought: step.thought.clone(),
        status: status.to_owned(),
        is_final: false,
    }
}

/// What became of a step, as `active` or `confirmed`.
fn status(step: &own::Step) -> &'static str {
    match step.status() {
        own::StepStatus::Unspecified | own::StepStatus::Active => "active",
        own::StepStatus::Open => "open",
        own::StepStatus::Confirmed => "confirmed",
        own::StepStatus::Refuted => "refuted",
        own::StepStatus::Answered => "answered",
        own::StepStatus::Dropped => "dropped",
        own::StepStatus::Superseded => "superseded",
    }
}

fn wide(number: u32) -> i32 {
    count(usize::try_from(number).unwrap_or(usize::MAX))
}
