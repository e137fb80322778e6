//! Export and Import: contexts leave and enter the store as text.

use rusqlite::Connection;

use super::config::MAX_TRANSFER_BYTES;
use super::fields;
use super::formats::{self, Document};
use super::item::{Draft, Item};
use super::save::Save;
use super::tables::{self, Change};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::context_manager::v1::{
    Cause, ExportRequest, ExportResponse, Format, ImportRequest, ImportResponse, ImportedContext,
};
use crate::storage::Failure;

/// How many contexts an Export or an Import has at most.
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

    pub(super) fn apply(
        &self,
        database: &Connection,
        uid: u32,
        now: i64,
    ) -> Result<ExportResponse, Failure> {
        let heads = if self.names.is_empty() {
            let heads = tables::list(database, uid, "", now, MAX_CONTEXTS + 1, |_| true)?;
            if heads.len() > MAX_CONTEXTS {
                let problem = format!("must name {MAX_CONTEXTS} contexts at most; there are more");
                return Err(Error::invalid("names", problem).into());
            }
            heads
        } else {
            let heads = self.names.iter().map(|name| tables::require(database, uid, name, now));
            heads.collect::<Result<_, _>>()?
        };
        check_size(heads.iter().map(|head| head.size).sum())?;
        let mut documents = Vec::with_capacity(heads.len());
        for head in &heads {
            let items = tables::items(database, head, head.version)?;
            documents.push(Document {
                name: head.name.clone(),
                tags: fields::stored_tags(&head.tags),
                items: items.into_iter().map(draft).collect(),
            });
        }
        let items = documents.iter().map(|document| document.items.len()).sum::<usize>();
        let data = formats::write(self.format, &documents)?;
        check_size(data.len() as u64)?;
        Ok(ExportResponse {
            data,
            media_type: formats::media_type(self.format).to_owned(),
            contexts: u32::try_from(documents.len()).unwrap_or(u32::MAX),
            items: u32::try_from(items).unwrap_or(u32::MAX),
        })
    }
}

fn format(number: i32) -> Result<Format, Error> {
    Format::try_from(number)
        .map_err(|_| Error::invalid("format", "is none that this version knows"))
}

fn check_size(bytes: u64) -> Result<(), Error> {
    if bytes > MAX_TRANSFER_BYTES as u64 {
        let problem = format!("names: the text would have {bytes} bytes; name fewer contexts");
        return Err(Error::limit(
            "context_manager.max_transfer_bytes",
            MAX_TRANSFER_BYTES,
            problem,
        )
        .with_fact("field", "names"));
    }
    Ok(())
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

/// A request to import, checked and read.
pub(super) struct Import {
    documents: Vec<Document>,
    replace: bool,
}

impl Import {
    pub(super) fn check(request: &ImportRequest) -> Result<Self, Error> {
        let format = format(request.format)?;
        if request.data.len() > MAX_TRANSFER_BYTES {
            let problem = format!("data has {} bytes; split it", request.data.len());
            return Err(Error::limit(
                "context_manager.max_transfer_bytes",
                MAX_TRANSFER_BYTES,
                problem,
            )
            .with_fact("field", "data"));
        }
        let documents = formats::read(format, &request.data, &request.name)?;
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
        Ok(Self { documents, replace: request.replace })
    }

    pub(super) fn apply(self, change: &mut Change<'_>) -> Result<ImportResponse, Failure> {
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
