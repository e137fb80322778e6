//! MemoryAgent: texts under keys, which are the user's and outlive the session.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use prost::Message as _;
use prost_types::value::Kind;
use tokio::sync::mpsc;

use super::super::inner::{next, within};
use super::execution::text;
use super::{OpChat, count, found, number, seconds};
use crate::call::Context;
use crate::contract::{RawRequests, Replies, Requests, decode, message_to_json};
use crate::error::Error;
use crate::proto::op_chat::agents::{
    BulkRecallRequest, BulkResponse, ForgetRequest, ForgetResponse, ListRequest, ListResponse,
    MemoryAgent, MemoryEntry, RecallRequest, RecallResponse, RememberRequest, RememberResponse,
    SearchRequest, SearchResponse,
};
use crate::proto::opdbus::agent::memory::v1 as own;

const AGENT: &str = "memory";

/// How many requests of a BulkRemember wait for the agent.
const WAITING: usize = 64;

/// How many requests of a BulkRemember that were refused here are told one by one.
const MAX_ERRORS: usize = 100;

/// The largest page of keys that the agent gives.
const PAGE: u32 = 1000;

impl MemoryAgent for OpChat {
    async fn remember(
        &self,
        context: &Context,
        request: RememberRequest,
    ) -> Result<RememberResponse, Error> {
        let key = request.key.clone();
        let inner = within(context, &request.session_id, None);
        let remember = remembered(request)?;
        let _: own::RememberResponse = self.inner.call(inner, AGENT, "Remember", &remember).await?;
        Ok(RememberResponse { success: true, key })
    }

    async fn recall(
        &self,
        context: &Context,
        request: RecallRequest,
    ) -> Result<RecallResponse, Error> {
        let inner = within(context, &request.session_id, None);
        let recall =
            own::RecallRequest { key: request.key.clone(), ..own::RecallRequest::default() };
        let entry = found(self.inner.call(inner, AGENT, "Recall", &recall).await)?;
        self.recalled(request.key, entry)
    }

    async fn forget(
        &self,
        context: &Context,
        request: ForgetRequest,
    ) -> Result<ForgetResponse, Error> {
        let inner = within(context, &request.session_id, None);
        let forget = own::ForgetRequest { key: request.key, ..own::ForgetRequest::default() };
        let forgotten: own::ForgetResponse =
            self.inner.call(inner, AGENT, "Forget", &forget).await?;
        Ok(ForgetResponse { success: forgotten.count > 0 })
    }

    async fn list(&self, context: &Context, request: ListRequest) -> Result<ListResponse, Error> {
        let limit = match number("limit", request.limit)? {
            0 => usize::MAX,
            limit => usize::try_from(limit).unwrap_or(usize::MAX),
        };
        let mut list = own::ListRequest {
            pattern: request.pattern,
            page_size: PAGE,
            ..own::ListRequest::default()
        };
        let (mut keys, mut total) = (Vec::new(), 0);
        loop {
            let inner = within(context, &request.session_id, None);
            let page: own::ListResponse = self.inner.call(inner, AGENT, "List", &list).await?;
            total += page.keys.len();
            let room = limit - keys.len();
            keys.extend(page.keys.into_iter().take(room).map(|info| info.key));
            list.page_token = page.next_page_token;
            if list.page_token.is_empty() {
                return Ok(ListResponse { keys, total: count(total) });
            }
        }
    }

    async fn search(
        &self,
        context: &Context,
        request: SearchRequest,
    ) -> Result<SearchResponse, Error> {
        let inner = within(context, &request.session_id, None);
        let search = own::SearchRequest {
            query: request.query,
            limit: number("limit", request.limit)?,
            values: true,
            ..own::SearchRequest::default()
        };
        let answer: own::SearchResponse = self.inner.call(inner, AGENT, "Search", &search).await?;
        let entries = answer.hits.into_iter().map(|hit| {
            Ok(MemoryEntry {
                value: self.text(hit.value)?,
                key: hit.key,
                #[expect(
                    clippy::cast_possible_truncation,
                    reason = "a score needs no more digits"
                )]
                score: hit.score as f32,
                tags: hit.tags,
            })
        });
        Ok(SearchResponse { entries: entries.collect::<Result<_, Error>>()? })
    }

    async fn bulk_remember(
        &self,
        context: &Context,
        mut requests: Requests<RememberRequest>,
    ) -> Result<BulkResponse, Error> {
        let (sender, pieces) = RawRequests::bounded(WAITING);
        let inner = within(context, "", None);
        let mut stored = self.inner.feed(inner, AGENT, "BulkRemember", pieces).await?;
        // Polled together: the agent takes requests while they come, and may refuse before the last.
        let (refused, outcome) = tokio::join!(feed(sender, &mut requests), next(&mut stored));
        let payload =
            outcome?.ok_or_else(|| Error::internal("BulkRemember ended without a result"))?;
        let stored: own::BulkRememberResponse = decode(payload)?;
        let number = |number: u64| count(usize::try_from(number).unwrap_or(usize::MAX));
        let errors = stored.errors.into_iter().map(|error| {
            format!("{} ({:?}): {}: {}", error.number, error.key, error.reason, error.message)
        });
        Ok(BulkResponse {
            success_count: number(stored.remembered),
            failure_count: number(stored.failed).saturating_add(refused.count),
            errors: errors.chain(refused.errors).collect(),
        })
    }

    async fn bulk_recall(
        &self,
        context: &Context,
        request: BulkRecallRequest,
        replies: Replies<RecallResponse>,
    ) -> Result<(), Error> {
        let inner = within(context, &request.session_id, None);
        let recall =
            own::BulkRecallRequest { keys: request.keys, ..own::BulkRecallRequest::default() };
        let mut stream = self.inner.stream_of(inner, AGENT, "BulkRecall", &recall).await?;
        while let Some(payload) = next(&mut stream).await? {
            let page: own::BulkRecallResponse = decode(payload)?;
            for item in page.items {
                replies.send(self.recalled(item.key, item.entry)?).await?;
            }
        }
        Ok(())
    }
}

impl OpChat {
    fn recalled(
        &self,
        key: String,
        entry: Option<own::RecallResponse>,
    ) -> Result<RecallResponse, Error> {
        let Some(entry) = entry else {
            return Ok(RecallResponse { key, ..RecallResponse::default() });
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(RecallResponse {
            found: true,
            key,
            value: self.text(entry.value)?,
            created_at: seconds(entry.created_at),
            // This is an access; the agent keeps no other.
            accessed_at: i64::try_from(now.as_secs()).unwrap_or(i64::MAX),
            tags: entry.tags,
        })
    }

    /// A value as the text that this contract has: a text itself, anything else as JSON.
    fn text(&self, value: Option<prost_types::Value>) -> Result<String, Error> {
        match value {
            Some(prost_types::Value { kind: Some(Kind::StringValue(text)) }) => Ok(text),
            None => Ok(String::new()),
            Some(value) => {
                let remember = self.inner.find(AGENT, "Remember")?;
                let field = remember.operation.input.get_field_by_name("value");
                let kind = field.map(|field| field.kind());
                let descriptor = kind.as_ref().and_then(|kind| kind.as_message());
                let descriptor =
                    descriptor.ok_or_else(|| Error::internal("the memory has no values"))?;
                message_to_json(descriptor, &value.encode_to_vec())
            }
        }
    }
}

fn remembered(request: RememberRequest) -> Result<own::RememberRequest, Error> {
    if request.ttl_secs < 0 {
        return Err(Error::invalid("ttl_secs", "must not be negative"));
    }
    let ttl = prost_types::Duration { seconds: request.ttl_secs, nanos: 0 };
    Ok(own::RememberRequest {
        key: request.key,
        value: Some(prost_types::Value { kind: Some(Kind::StringValue(request.value)) }),
        ttl: (request.ttl_secs > 0).then_some(ttl),
        tags: request.tags,
        ..own::RememberRequest::default()
    })
}

/// The requests of a BulkRemember that never reached the agent.
#[derive(Default)]
struct Refused {
    count: i32,
    errors: Vec<String>,
}

/// Passes the requests on until their end, or until nobody takes them.
async fn feed(
    sender: mpsc::Sender<Result<Bytes, Error>>,
    requests: &mut Requests<RememberRequest>,
) -> Refused {
    let mut refused = Refused::default();
    loop {
        let piece = match requests.next().await {
            Ok(None) => return refused,
            Err(error) => Err(error),
            Ok(Some(request)) => {
                let key = request.key.clone();
                match remembered(request) {
                    Ok(remember) => {
                        let remember = Some(remember);
                        Ok(own::BulkRememberRequest { remember, atomic: false }
                            .encode_to_vec()
                            .into())
                    }
                    Err(error) => {
                        refused.count = refused.count.saturating_add(1);
                        if refused.errors.len() < MAX_ERRORS {
                            refused.errors.push(format!("({key:?}): {}", text(&error)));
                        }
                        continue;
                    }
                }
            }
        };
        if sender.send(piece).await.is_err() {
            return refused;
        }
    }
}
