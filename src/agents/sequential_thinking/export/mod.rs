//! Export: a whole chain as one text. The forms are in a file each.

mod json;
mod markdown;
mod mermaid;

use rusqlite::Connection;

use super::chain::{Chain, ChainTexts};
use super::graph::{Graph, Node};
use super::steps::{self, Content};
use super::time::Moment;
use super::wire;
use crate::error::Error;
use crate::proto::opdbus::agent::sequential_thinking::v1::{ExportFormat, ExportRequest};
use crate::storage::Failure;

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
        Ok(Self { chain_id: request.chain_id, form })
    }

    pub(super) fn load(
        &self,
        database: &Connection,
        uid: u32,
        moment: Moment,
    ) -> Result<Whole, Failure> {
        let chain = Chain::find(database, uid, &self.chain_id, moment)?;
        let texts = chain.texts(database)?;
        let graph = steps::load(database, chain.row)?;
        let contents = (1..=graph.len())
            .map(|id| steps::content(database, chain.row, id))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Whole { chain, texts, graph, contents })
    }

    pub(super) fn write(&self, whole: &Whole) -> String {
        match self.form {
            Form::Markdown => markdown::write(whole),
            Form::Mermaid => mermaid::write(whole),
            Form::Json => json::write(whole),
        }
    }

    /// The media type of the text.
    pub(super) const fn media_type(&self) -> &'static str {
        match self.form {
            Form::Markdown => "text/markdown",
            Form::Mermaid => "text/vnd.mermaid",
            Form::Json => "application/json",
        }
    }
}
