//! Export and Import: contexts leave and enter the store as text, in pieces. A context is read or
//! written as a whole, so that no client that is slow or gone is waited for with the store.

use std::collections::VecDeque;

use rusqlite::Connection;

use super::ContextManager;
use super::fields;
use super::formats::{self, Document, Writer};
use super::item::{Draft, Item};
use super::save::Save;
use super::space::Space;
use super::tables::{self, Change};
use crate::call::Context;
use crate::contract::{Outgoing, Replies, Requests};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::context_manager::v1::{
    Cause, ExportRequest, ExportResponse, Format, ImportRequest, ImportResponse, ImportedContext,
};
use crate::storage::Failure;

/// How many contexts an Export names and an Import has at most.
const MAX_CONTEXTS: usize = 1000;

/// A request to export, checked.
pub(super) struct Export {
    names: Vec<String>,
    format: Format,
}

impl Export {
    pub(super) fn check(request: ExportRequest) -> Result<Self, Error> {
        let format = format(request.format)?;
        if request.names.len() > MAX_CONTEXTS {
            let problem = format!("must be {MAX_CONTEXTS} at most, not {}", request.names.len());
            return Err(Error::invalid("names", problem));
        }
        for (index, name) in request.names.iter().enumerate() {
            fields::name(&format!("names[{index}]"), name)?;
        }
        Ok(Self { names: request.names, format })
    }

    /// The names of the contexts to write, each of which is there.
    fn find(
        self,
        database: &Connection,
        space: &Space,
        now: i64,
    ) -> Result<VecDeque<String>, Failure> {
        let names = if self.names.is_empty() {
            let heads = tables::list(database, space, "", now, usize::MAX, |_| true)?;
            heads.into_iter().map(|head| head.name).collect()
        } else {
            for name in &self.names {
                tables::require(database, space, name, now)?;
            }
            self.names
        };
        if formats::holds_one(self.format) && names.len() != 1 {
            let problem = format!("must name one context for this format, not {}", names.len());
            return Err(Error::invalid("names", problem).into());
        }
        Ok(names.into())
    }
}

impl ContextManager {
    /// Writes contexts, one after the other.
    pub(super) async fn send(
        &self,
        context: &Context,
        space: Space,
        export: Export,
        replies: Replies<ExportResponse>,
    ) -> Result<(), Error> {
        let format = export.format;
        let find =
            move |database: &Connection, space: &Space, now| export.find(database, space, now);
        let mut names = self.query(space.clone(), find).await?;
        let total = names.len() as u64;
        let mut first = Some(formats::media_type(format).to_owned());
        let (mut outgoing, mut items) = (Outgoing::default(), 0_usize);
        let mut writer = Writer::new(format);
        outgoing.push(writer.beginning());
        let mut written = 0;
        while let Some(name) = names.pop_front() {
            let load = move |database: &Connection, space: &Space, now| {
                let written = match tables::find(database, space, &name, now)? {
                    Some(head) => {
                        let document = document(database, &head)?;
                        Some((writer.write(&document)?, document.items.len()))
                    }
                    None => None,
                };
                Ok((writer, written))
            };
            let (next, text) = self.long_query(space.clone(), load).await?;
            writer = next;
            if let Some((text, count)) = text {
                outgoing.push(&text);
                items += count;
                written += 1;
            }
            while let Some(data) = outgoing.next_piece() {
                let media_type = first.take().unwrap_or_default();
                replies
                    .send(ExportResponse { data, media_type, ..ExportResponse::default() })
                    .await?;
            }
            context.progress(total - names.len() as u64, total, "contexts");
        }
        outgoing.push(writer.end());
        let last = ExportResponse {
            data: outgoing.last_piece(),
            media_type: first.unwrap_or_default(),
            is_final: true,
            contexts: written,
            items: u32::try_from(items).unwrap_or(u32::MAX),
        };
        replies.send(last).await
    }

    /// Gathers a text and stores what it holds.
    pub(super) async fn receive(
        &self,
        context: &Context,
        mut requests: Requests<ImportRequest>,
    ) -> Result<ImportResponse, Error> {
        let Some(first) = requests.next().await? else {
            return Err(Error::invalid("data", "must hold 1 context or more"));
        };
        let space = Space::of(context, first.scope)?;
        let format = format(first.format)?;
        formats::check_name(format, &first.name)?;
        let mut incoming = self.intake.begin(space.uid, first.size_bytes)?;
        incoming.add(context, &first.data)?;
        let ImportRequest { name, replace, .. } = first;
        while let Some(piece) = requests.next().await? {
            is_only_data(&piece)?;
            incoming.add(context, &piece.data)?;
        }
        let read = move || {
            let (text, place) = incoming.finish()?;
            Ok::<_, Error>((Import::read(format, &text, &name, replace)?, place))
        };
        let (import, _place) = tokio::task::spawn_blocking(read).await.map_err(|error| {
            Error::internal(format!("an import could not be read to its end: {error}"))
        })??;
        self.change(space, move |change| import.apply(change)).await
    }
}

fn document(database: &Connection, head: &tables::Head) -> Result<Document, Failure> {
    let items = tables::items(database, head, head.version)?;
    Ok(Document {
        name: head.name.clone(),
        tags: fields::stored_tags(&head.tags),
        items: items.into_iter().map(draft).collect(),
    })
}

fn format(number: i32) -> Result<Format, Error> {
    Format::try_from(number)
        .map_err(|_| Error::invalid("format", "is none that this version knows"))
}

fn draft(item: Item) -> Draft {
    Draft {
        role: item.role,
        text: item.text,
        created_at: Some(item.created_at),
        pinned: item.pinned,
        source: item.source,
        importance: Some(item.importance),
        shortened: item.shortened,
    }
}

/// Refuses a piece after the first one that says again what to do with the text.
fn is_only_data(piece: &ImportRequest) -> Result<(), Error> {
    let ImportRequest { data: _, format, name, replace, scope, size_bytes } = piece;
    let fields = [
        ("format", *format != 0),
        ("name", !name.is_empty()),
        ("replace", *replace),
        ("scope", *scope != 0),
        ("size_bytes", size_bytes.is_some()),
    ];
    match fields.into_iter().find(|(_, is_set)| *is_set) {
        Some((field, _)) => Err(Error::invalid(field, "is only for the first piece")),
        None => Ok(()),
    }
}

/// A text to import, checked and read.
struct Import {
    documents: Vec<Document>,
    replace: bool,
}

impl Import {
    fn read(format: Format, text: &str, name: &str, replace: bool) -> Result<Self, Error> {
        let documents = formats::read(format, text, name)?;
        if !(1..=MAX_CONTEXTS).contains(&documents.len()) {
            let count = documents.len();
            let problem = format!("must hold 1 to {MAX_CONTEXTS} contexts, not {count}");
            return Err(Error::invalid("data", problem));
        }
        let mut names: Vec<&str> =
            documents.iter().map(|document| document.name.as_str()).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            let problem = format!("has the context {:?} twice", twice[0]);
            return Err(Error::invalid("data", problem));
        }
        Ok(Self { documents, replace })
    }

    fn apply(self, change: &mut Change<'_>) -> Result<ImportResponse, Failure> {
        let mut contexts = Vec::with_capacity(self.documents.len());
        for document in self.documents {
            let save = Save {
                name: document.name,
                items: document.items,
                tags: fields::tags(document.tags)?,
                if_version: None,
                if_absent: !self.replace,
                ttl: None,
                cause: Cause::Import,
                auto_save: None,
            };
            let (head, created) = save.apply(change).map_err(|failure| match failure {
                Failure::Refused(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let text = format!("{}; set replace to make a new version", error.message());
                    Error::new(error.kind(), text).with_fact("field", "data").into()
                }
                other @ (Failure::Refused(_) | Failure::Sqlite(_)) => other,
            })?;
            contexts.push(ImportedContext {
                version: head.version.unsigned_abs(),
                items: u32::try_from(head.items).unwrap_or(u32::MAX),
                tokens: head.tokens,
                name: head.name,
                created,
            });
        }
        Ok(ImportResponse { contexts })
    }
}
