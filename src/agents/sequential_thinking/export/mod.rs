//! Export: a whole chain as one text, given in parts if it is long. The forms are in a file each.

mod json;
mod markdown;
mod mermaid;

use rusqlite::Connection;

use super::chain::{Chain, ChainTexts};
use super::graph::{Graph, Node};
use super::steps::{self, Content};
use super::wire;
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::sequential_thinking::v1::{
    ExportFormat, ExportRequest, ExportResponse,
};
use crate::storage::Failure;

/// The size of a part at most, in bytes.
const PART_BYTES: usize = 512 * 1024;

/// Everything that there is of a chain.
pub(super) struct Whole {
    chain: Chain,
    texts: ChainTexts,
    graph: Graph,
    /// One for each step, by id.
    contents: Vec<Content>,
}

/// An Export that was found to make sense.
pub(super) struct Export {
    chain_id: String,
    form: Form,
    /// The chain's revision when the first part was given, and where the part begins.
    part: Option<(i64, usize)>,
}

#[derive(Clone, Copy)]
enum Form {
    Markdown,
    Mermaid,
    Json,
}

impl Whole {
    fn steps(&self) -> impl Iterator<Item = (&Node, &Content)> {
        self.graph.nodes.iter().zip(&self.contents)
    }
}

impl Export {
    pub(super) fn check(request: ExportRequest) -> Result<Self, Error> {
        let form = match wire::number::<ExportFormat>("format", request.format)? {
            ExportFormat::Unspecified | ExportFormat::Markdown => Form::Markdown,
            ExportFormat::Mermaid => Form::Mermaid,
            ExportFormat::Json => Form::Json,
        };
        let part = match request.page_token.as_str() {
            "" => None,
            token => Some(
                token
                    .split_once('-')
                    .and_then(|(revision, from)| Some((revision.parse().ok()?, from.parse().ok()?)))
                    .ok_or_else(not_a_token)?,
            ),
        };
        Ok(Self { chain_id: request.chain_id, form, part })
    }

    pub(super) fn load(&self, database: &Connection, uid: u32, now: i64) -> Result<Whole, Failure> {
        let chain = Chain::find(database, uid, &self.chain_id, now)?;
        if self.part.is_some_and(|(revision, _)| revision != chain.revision) {
            return Err(Error::new(
                ErrorKind::Conflict,
                "page_token: the chain has changed since the first part; export it again from the \
                 start",
            )
            .with_fact("field", "page_token")
            .into());
        }
        let texts = chain.texts(database)?;
        let graph = steps::load(database, chain.row)?;
        let contents = (1..=graph.len())
            .map(|id| steps::content(database, chain.row, id))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Whole { chain, texts, graph, contents })
    }

    pub(super) fn write(&self, whole: &Whole) -> Result<ExportResponse, Error> {
        let (mut text, media_type) = match self.form {
            Form::Markdown => (markdown::write(whole), "text/markdown"),
            Form::Mermaid => (mermaid::write(whole), "text/vnd.mermaid"),
            Form::Json => (json::write(whole), "application/json"),
        };
        let from = self.part.map_or(0, |(_, from)| from);
        if !text.is_char_boundary(from) || (from > 0 && from >= text.len()) {
            return Err(not_a_token());
        }
        let mut to = from.saturating_add(PART_BYTES).min(text.len());
        while !text.is_char_boundary(to) {
            to -= 1;
        }
        let next_page_token =
            if to < text.len() { format!("{}-{to}", whole.chain.revision) } else { String::new() };
        text.truncate(to);
        text.drain(..from);
        Ok(ExportResponse { text, media_type: media_type.to_owned(), next_page_token })
    }
}

fn not_a_token() -> Error {
    Error::invalid("page_token", "is not one that an earlier part gave")
}
