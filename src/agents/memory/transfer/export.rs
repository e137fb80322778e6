//! Export: keys as lines of text, in pieces.

use rusqlite::{Connection, params};

use super::line::{Line, json, time_text};
use crate::agents::memory::fields::{self, Owner};
use crate::agents::memory::watch::glob;
use crate::agents::memory::{Memory, time, value};
use crate::call::Context;
use crate::contract::Replies;
use crate::error::Error;
use crate::proto::opdbus::agent::memory::v1::{ExportRequest, ExportResponse};
use crate::storage::Failure;

/// How large a piece is at most, in bytes.
const PIECE: usize = 64 * 1024;

/// How many keys one read looks at, and how many bytes of lines it makes unless one alone has more.
const PAGE_KEYS: usize = 1024;
const PAGE_BYTES: usize = 256 * 1024;

/// A request that has been checked.
#[derive(Clone)]
struct Export {
    owner: Owner,
    namespaces: Vec<String>,
    pattern: String,
    tags: Vec<u8>,
}

/// Where a page ended: at this namespace, as it is stored, and key.
type Place = (String, String);

/// Some lines.
struct Page {
    text: Vec<u8>,
    keys: u64,
    /// `None` after the last one.
    end: Option<Place>,
}

pub(in super::super) async fn export(
    memory: &Memory,
    context: &Context,
    request: ExportRequest,
    replies: Replies<ExportResponse>,
) -> Result<(), Error> {
    super::check_format("format", request.format)?;
    let export = Export::check(context, request)?;
    let counted = export.clone();
    let total = memory.store.scan(move |database| counted.count(database, time::now())).await?;
    let (mut done, mut text, mut after) = (0, Vec::new(), None);
    context.progress(done, total, "keys");
    loop {
        let paged = export.clone();
        let page =
            memory.store.scan(move |database| paged.page(database, after, time::now())).await?;
        text.extend(page.text);
        let whole = if page.end.is_some() { text.len() / PIECE * PIECE } else { text.len() };
        for piece in text[..whole].chunks(PIECE) {
            replies.send(ExportResponse { data: piece.to_vec().into() }).await?;
        }
        text.drain(..whole);
        done += page.keys;
        // Keys that came meanwhile do not make it more than all.
        context.progress(done.min(total), total, "keys");
        if page.end.is_none() {
            return Ok(());
        }
        after = page.end;
    }
}

impl Export {
    fn check(context: &Context, request: ExportRequest) -> Result<Self, Error> {
        fields::namespaces(&request.namespaces)?;
        let pattern = if request.pattern.is_empty() { "*".to_owned() } else { request.pattern };
        fields::pattern("", "pattern", &pattern)?;
        Ok(Self {
            owner: Owner::of(context, "", request.scope)?,
            namespaces: request.namespaces,
            pattern,
            tags: fields::tags("", request.tags)?,
        })
    }

    /// True if a key is one of those to export.
    fn has(&self, namespace: &str, key: &str, tags: &[u8]) -> bool {
        let Some(namespace) = self.owner.namespace(namespace) else { return false };
        (self.namespaces.is_empty() || self.namespaces.iter().any(|chosen| chosen == namespace))
            && glob(&self.pattern, key)
            && fields::bears_tags(tags, &self.tags)
    }

    fn count(&self, database: &Connection, now: i64) -> Result<u64, Failure> {
        let mut select = database.prepare_cached(
            "SELECT namespace, key, tags FROM entry WHERE uid = ?1 AND batch IS NULL
             AND (expires_at IS NULL OR expires_at > ?2)",
        )?;
        let mut rows = select.query(params![self.owner.uid, now])?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            count += u64::from(self.has(text(row, 0)?, text(row, 1)?, blob(row, 2)?));
        }
        Ok(count)
    }

    fn page(&self, database: &Connection, after: Option<Place>, now: i64) -> Result<Page, Failure> {
        let mut select = database.prepare_cached(
            "SELECT namespace, key, tags, version, created_at, updated_at, expires_at, value
             FROM entry INDEXED BY entry_key WHERE uid = ?1 AND (namespace, key) > (?2, ?3)
             AND batch IS NULL AND (expires_at IS NULL OR expires_at > ?4) ORDER BY namespace, key",
        )?;
        let (namespace, key) = after.unwrap_or_default();
        let mut rows = select.query(params![self.owner.uid, namespace, key, now])?;
        let mut page = Page { text: Vec::new(), keys: 0, end: None };
        let mut seen = 0;
        while let Some(row) = rows.next()? {
            let (stored, key, tags) = (text(row, 0)?, text(row, 1)?, blob(row, 2)?);
            if self.has(stored, key, tags) {
                let line = Line {
                    key: key.to_owned(),
                    namespace: self.owner.namespace(stored).unwrap_or_default().to_owned(),
                    value: json(value::decode(blob(row, 7)?)?),
                    tags: fields::stored_tags(tags),
                    version: row.get::<_, i64>(3)?.unsigned_abs(),
                    created_at: Some(time_text(row.get(4)?)),
                    updated_at: Some(time_text(row.get(5)?)),
                    expires_at: row.get::<_, Option<i64>>(6)?.map(time_text),
                };
                line.write(&mut page.text)?;
                page.keys += 1;
            }
            seen += 1;
            if seen == PAGE_KEYS || page.text.len() >= PAGE_BYTES {
                page.end = Some((stored.to_owned(), key.to_owned()));
                break;
            }
        }
        Ok(page)
    }
}

fn text<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Result<&'a str, Failure> {
    Ok(row.get_ref(column)?.as_str().map_err(rusqlite::Error::from)?)
}

fn blob<'a>(row: &'a rusqlite::Row<'_>, column: usize) -> Result<&'a [u8], Failure> {
    Ok(row.get_ref(column)?.as_blob().map_err(rusqlite::Error::from)?)
}
