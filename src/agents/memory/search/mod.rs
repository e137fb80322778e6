//! Search: keys by the words in them, in their values and labels, best first.

mod index;
mod lens;
mod query;
mod text;

use std::sync::Arc;

use prost::Message as _;
use rusqlite::{Connection, params};

use super::Memory;
use super::fields::{self, Owner};
use super::time::{self, timestamp};
use super::value;
use crate::call::Context;
use crate::error::Error;
use crate::proto::opdbus::agent::memory::v1::{
    SearchHit, SearchMode, SearchRequest, SearchResponse,
};
use crate::storage::Failure;

pub(super) use index::{Index, catch_up_some};

use lens::Lens;
use query::Query;

const DEFAULT_LIMIT: u32 = 10;
const MAX_LIMIT: u32 = 100;

/// How many bytes of values one answer has at most.
const MAX_VALUES_BYTES: usize = 256 * 1024;

/// A request that has been checked.
struct Search {
    owner: Owner,
    query: Query,
    namespaces: Vec<String>,
    tags: Vec<u8>,
    limit: usize,
    mode: SearchMode,
    values: bool,
}

pub(super) async fn search(
    memory: &Memory,
    context: &Context,
    request: SearchRequest,
) -> Result<SearchResponse, Error> {
    let search = Search::check(context, request)?;
    let uid = search.owner.uid;
    // One at a time, so that the store always has a place for short reads.
    let place = Arc::clone(&memory.searches)
        .acquire_owned()
        .await
        .map_err(|_closed| Error::internal("the memory takes no more searches"))?;
    let (revision, mut known) = memory.store.read(|database| positions(database, uid))?;
    if revision == 0 {
        return Ok(SearchResponse { hits: Vec::new(), mode: SearchMode::Exact.into() });
    }
    while known < revision {
        let advance = move |database: &Connection| {
            index::catch_up(database, uid)?;
            positions(database, uid)
        };
        (_, known) = memory.store.write(advance, |_| ()).await?;
    }
    memory
        .store
        .scan(move |database| {
            // It is held to the search's end, which may come after the caller went away.
            let _place = place;
            search.apply(database, time::now())
        })
        .await
}

/// The revision of a user, and that of his index.
fn positions(database: &Connection, uid: u32) -> Result<(i64, i64), Failure> {
    let revision = super::watch::revision(database, uid)?;
    Ok((revision, index::known(database, uid)?.unwrap_or(-1)))
}

impl Search {
    fn check(context: &Context, request: SearchRequest) -> Result<Self, Error> {
        let mode = match SearchMode::try_from(request.mode) {
            Ok(SearchMode::Unspecified) => SearchMode::Auto,
            Ok(mode) => mode,
            Err(_unknown) => return Err(Error::invalid("mode", "is none there is")),
        };
        if request.limit > MAX_LIMIT {
            return Err(Error::invalid(
                "limit",
                format_args!("must be {MAX_LIMIT} at most, not {}", request.limit),
            ));
        }
        let limit = if request.limit == 0 { DEFAULT_LIMIT } else { request.limit };
        fields::namespaces(&request.namespaces)?;
        Ok(Self {
            owner: Owner::of(context, "", request.scope)?,
            query: Query::check(&request.query)?,
            namespaces: request.namespaces,
            tags: fields::tags("", request.tags)?,
            limit: usize::try_from(limit).unwrap_or(usize::MAX),
            mode,
            values: request.values,
        })
    }

    fn apply(&self, database: &Connection, now: i64) -> Result<SearchResponse, Failure> {
        if matches!(self.mode, SearchMode::Exact | SearchMode::Auto) {
            let hits = self.find(database, &self.query.exact(), now)?;
            if !hits.is_empty() || self.mode == SearchMode::Exact {
                return Ok(SearchResponse { hits, mode: SearchMode::Exact.into() });
            }
        }
        let vocabulary = index::vocabulary(self.owner.uid);
        let expression = self.query.fuzzy(database, &vocabulary)?;
        let hits = self.find(database, &expression, now)?;
        Ok(SearchResponse { hits, mode: SearchMode::Fuzzy.into() })
    }

    /// What `expression` finds. The index may be behind the keys by what was written since the search
    /// began, so it only proposes.
    fn find(
        &self,
        database: &Connection,
        expression: &str,
        now: i64,
    ) -> Result<Vec<SearchHit>, Failure> {
        let table = index::table(self.owner.uid);
        let rank = format!("bm25({table}, 4.0, 1.0, 2.0)");
        let mut select = database.prepare_cached(&format!(
            "SELECT entry.id, -{rank}, entry.namespace, entry.tags FROM {table}
             JOIN entry ON entry.id = {table}.rowid
             WHERE {table} MATCH ?1 AND uid = ?2 AND batch IS NULL
             AND (expires_at IS NULL OR expires_at > ?3)
             ORDER BY {rank}, entry.namespace, entry.key"
        ))?;
        let mut rows = select.query(params![expression, self.owner.uid, now])?;
        let lens = Lens::new()?;
        let (mut hits, mut room) = (Vec::new(), MAX_VALUES_BYTES);
        while hits.len() < self.limit
            && let Some(row) = rows.next()?
        {
            let stored = row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)?;
            let tags = row.get_ref(3)?.as_blob().map_err(rusqlite::Error::from)?;
            let Some(namespace) = self.owner.namespace(stored) else { continue };
            let chosen = self.namespaces.is_empty()
                || self.namespaces.iter().any(|chosen| chosen == namespace);
            if !chosen || !fields::bears_tags(tags, &self.tags) {
                continue;
            }
            let score = row.get(1)?;
            if let Some(mut hit) = look(database, &lens, expression, row.get(0)?)? {
                namespace.clone_into(&mut hit.namespace);
                hit.score = score;
                self.limit_value(&mut hit, &mut room);
                hits.push(hit);
            }
        }
        Ok(hits)
    }

    fn limit_value(&self, hit: &mut SearchHit, room: &mut usize) {
        let size = hit.value.as_ref().map_or(0, prost_types::Value::encoded_len);
        match room.checked_sub(size).filter(|_| self.values) {
            Some(left) => *room = left,
            None => hit.value = None,
        }
    }
}

/// What `expression` finds in the entry `id`.
fn look(
    database: &Connection,
    lens: &Lens,
    expression: &str,
    id: i64,
) -> Result<Option<SearchHit>, Failure> {
    let (mut hit, tags, stored) = database
        .prepare_cached("SELECT key, version, updated_at, tags, value FROM entry WHERE id = ?1")?
        .query_row([id], |row| {
            let hit = SearchHit {
                key: row.get(0)?,
                version: row.get::<_, i64>(1)?.unsigned_abs(),
                updated_at: Some(timestamp(row.get(2)?)),
                ..SearchHit::default()
            };
            Ok((hit, row.get::<_, Vec<u8>>(3)?, row.get::<_, Vec<u8>>(4)?))
        })?;
    hit.tags = fields::stored_tags(&tags);
    let value = value::decode(&stored)?;
    let tags = hit.tags.join("\n");
    let Some(sight) = lens.look(expression, &hit.key, &text::of(&value), &tags)? else {
        return Ok(None);
    };
    hit.key_highlights = sight.key;
    hit.excerpt = sight.excerpt;
    hit.highlights = sight.highlights;
    hit.value = Some(value);
    Ok(Some(hit))
}
