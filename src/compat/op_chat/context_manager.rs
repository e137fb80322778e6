//! ContextManagerAgent: named contexts as texts.

use bytes::Bytes;
use prost::Message as _;
use tokio::sync::mpsc;

use super::super::inner::{next, within};
use super::{OpChat, count, found, seconds};
use crate::call::Context;
use crate::contract::{RawRequests, Replies, Requests, decode};
use crate::error::{Error, ErrorKind};
use crate::proto::op_chat::agents::{
    ContextInfo, ContextManagerAgent, DeleteContextRequest, DeleteContextResponse, ExportChunk,
    ExportRequest, ImportChunk, ImportResponse, ListContextsRequest, ListContextsResponse,
    LoadContextRequest, LoadContextResponse, SaveContextRequest, SaveContextResponse,
};
use crate::proto::opdbus::agent::context_manager::v1 as own;

const AGENT: &str = "context_manager";

/// How many pieces of an import wait for the agent.
const PIECES: usize = 4;

impl ContextManagerAgent for OpChat {
    async fn save(
        &self,
        context: &Context,
        request: SaveContextRequest,
    ) -> Result<SaveContextResponse, Error> {
        let save = own::SaveRequest {
            name: request.name.clone(),
            content: Some(request.content),
            tags: request.tags,
            ..own::SaveRequest::default()
        };
        let inner = within(context, &request.session_id, None);
        let saved: own::SaveResponse = self.inner.call(inner, AGENT, "Save", &save).await?;
        Ok(SaveContextResponse {
            success: true,
            name: request.name,
            size_bytes: i64::try_from(saved.size_bytes).unwrap_or(i64::MAX),
        })
    }

    async fn load(
        &self,
        context: &Context,
        request: LoadContextRequest,
    ) -> Result<LoadContextResponse, Error> {
        let load = own::LoadRequest {
            name: request.name.clone(),
            as_text: true,
            ..own::LoadRequest::default()
        };
        let inner = within(context, &request.session_id, None);
        let loaded = found(self.inner.call(inner, AGENT, "Load", &load).await)?;
        let Some(loaded) = loaded else {
            return Ok(LoadContextResponse {
                name: request.name,
                ..LoadContextResponse::default()
            });
        };
        let loaded: own::LoadResponse = loaded;
        Ok(LoadContextResponse {
            found: true,
            name: request.name,
            content: loaded.content,
            tags: loaded.tags,
            created_at: seconds(loaded.created_at),
            updated_at: seconds(loaded.updated_at),
        })
    }

    async fn list(
        &self,
        context: &Context,
        request: ListContextsRequest,
    ) -> Result<ListContextsResponse, Error> {
        let mut list = own::ListRequest { page_size: 1000, ..own::ListRequest::default() };
        if !request.tag_filter.is_empty() {
            list.tags = vec![request.tag_filter];
        }
        let mut contexts = Vec::new();
        loop {
            let inner = within(context, &request.session_id, None);
            let page: own::ListResponse = self.inner.call(inner, AGENT, "List", &list).await?;
            contexts.extend(page.contexts.into_iter().map(|context| ContextInfo {
                name: context.name,
                size_bytes: i64::try_from(context.size_bytes).unwrap_or(i64::MAX),
                tags: context.tags,
                updated_at: seconds(context.updated_at),
            }));
            list.page_token = page.next_page_token;
            if list.page_token.is_empty() {
                return Ok(ListContextsResponse { contexts });
            }
        }
    }

    async fn delete(
        &self,
        context: &Context,
        request: DeleteContextRequest,
    ) -> Result<DeleteContextResponse, Error> {
        let delete = own::DeleteRequest { name: request.name, ..own::DeleteRequest::default() };
        let inner = within(context, &request.session_id, None);
        let deleted: Option<own::DeleteResponse> =
            found(self.inner.call(inner, AGENT, "Delete", &delete).await)?;
        Ok(DeleteContextResponse { success: deleted.is_some() })
    }

    async fn export(
        &self,
        context: &Context,
        request: ExportRequest,
        replies: Replies<ExportChunk>,
    ) -> Result<(), Error> {
        let export = own::ExportRequest {
            names: request.names,
            format: format(&request.format)?.into(),
            ..own::ExportRequest::default()
        };
        let inner = within(context, &request.session_id, None);
        let mut stream = self.inner.stream_of(inner, AGENT, "Export", &export).await?;
        while let Some(payload) = next(&mut stream).await? {
            let piece: own::ExportResponse = decode(payload)?;
            let chunk = ExportChunk { data: piece.data, is_final: piece.is_final };
            replies.send(chunk).await?;
        }
        Ok(())
    }

    async fn import(
        &self,
        context: &Context,
        mut requests: Requests<ImportChunk>,
    ) -> Result<ImportResponse, Error> {
        let Some(first) = requests.next().await? else {
            return Err(Error::invalid("data", "there is no chunk"));
        };
        let head = own::ImportRequest {
            data: first.data,
            format: format(&first.format)?.into(),
            replace: true,
            ..own::ImportRequest::default()
        };
        let (sender, pieces) = RawRequests::bounded(PIECES);
        let inner = within(context, "", None);
        let mut imported = self.inner.feed(inner, AGENT, "Import", pieces).await?;
        let feed = feed(sender, head, first.is_final, &mut requests);
        // Polled together: the agent takes pieces while they come, and may refuse before the last.
        let outcome = tokio::join!(feed, next(&mut imported)).1;
        match outcome {
            Ok(Some(payload)) => {
                let imported: own::ImportResponse = decode(payload)?;
                let imported_count = count(imported.contexts.len());
                Ok(ImportResponse { imported_count, errors: Vec::new() })
            }
            Ok(None) => Err(Error::internal("the import ended without a result")),
            Err(error) if error.kind() == ErrorKind::InvalidArgument => Ok(ImportResponse {
                imported_count: 0,
                errors: vec![super::execution::text(&error)],
            }),
            Err(error) => Err(error),
        }
    }
}

/// Passes the chunks on until the last one, the end of the stream or until nobody takes them.
async fn feed(
    sender: mpsc::Sender<Result<Bytes, Error>>,
    head: own::ImportRequest,
    mut is_final: bool,
    requests: &mut Requests<ImportChunk>,
) {
    let mut piece = Ok(Bytes::from(head.encode_to_vec()));
    while sender.send(piece).await.is_ok() && !is_final {
        piece = match requests.next().await {
            Ok(None) => return,
            Err(error) => Err(error),
            Ok(Some(chunk)) => {
                is_final = chunk.is_final;
                let piece =
                    own::ImportRequest { data: chunk.data, ..own::ImportRequest::default() };
                Ok(piece.encode_to_vec().into())
            }
        };
    }
}

/// The format by the name that clients use.
fn format(name: &str) -> Result<own::Format, Error> {
    match name.to_ascii_lowercase().as_str() {
        "" | "json" => Ok(own::Format::Json),
        "jsonl" | "json_lines" => Ok(own::Format::JsonLines),
        "markdown" | "md" => Ok(own::Format::Markdown),
        "openai" => Ok(own::Format::Openai),
        "anthropic" => Ok(own::Format::Anthropic),
        _ => Err(Error::invalid("format", "must be json, jsonl, markdown, openai or anthropic")),
    }
}
