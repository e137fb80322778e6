//! Search: steps by their words, best match first, in the caller's chains only.

use rusqlite::{Connection, params};

use super::chain::Chain;
use super::limits;
use super::time::Moment;
use crate::error::Error;
use crate::proto::opdbus::agent::sequential_thinking::v1::{
    SearchHit, SearchRequest, SearchResponse,
};
use crate::storage::Failure;

/// How many words a query has at most.
const MAX_WORDS: usize = 64;

/// A Search that was found to make sense.
pub(super) struct Search {
    chain_id: String,
    words: Vec<String>,
    any_word: bool,
    limit: u32,
}

impl Search {
    pub(super) fn check(request: SearchRequest) -> Result<Self, Error> {
        limits::query("query", &request.query)?;
        // What the index would not take as a word would make the whole query match nothing.
        let words: Vec<String> = request
            .query
            .split_whitespace()
            .filter(|word| word.chars().any(char::is_alphanumeric))
            .map(|word| format!("\"{}\"", word.replace('"', "\"\"")))
            .collect();
        if words.is_empty() {
            return Err(Error::invalid("query", "must have one word or more"));
        }
        if words.len() > MAX_WORDS {
            return Err(Error::limit(
                "sequential_thinking.max_query_words",
                MAX_WORDS,
                format_args!("query: has {} words, too many", words.len()),
            )
            .with_fact("field", "query"));
        }
        Ok(Self {
            chain_id: request.chain_id,
            words,
            any_word: request.any_word,
            limit: limits::HITS.check("limit", request.limit)?,
        })
    }

    pub(super) fn apply(
        &self,
        database: &Connection,
        uid: u32,
        moment: Moment,
    ) -> Result<SearchResponse, Failure> {
        let scope = if self.chain_id.is_empty() {
            format!("u{uid}")
        } else {
            format!("c{}", Chain::find(database, uid, &self.chain_id, moment)?.row)
        };
        let words = self.words.join(if self.any_word { " OR " } else { " AND " });
        let mut hits = database
            .prepare_cached(
                "SELECT chain.name, step.step, step.kind, step.status,
                     snippet(words, 1, '**', '**', '…', 24)
                 FROM words
                 JOIN step ON step.id = words.rowid
                 JOIN chain ON chain.id = step.chain
                 WHERE words MATCH ?1 AND chain.uid = ?2 AND chain.updated_at >= ?3
                 ORDER BY bm25(words, 0.0, 1.0), step.id DESC LIMIT ?4",
            )?
            .query_map(
                params![
                    format!("scope : {scope} AND thought : ({words})"),
                    uid,
                    moment.horizon(),
                    self.limit + 1,
                ],
                |row| {
                    Ok(SearchHit {
                        chain_id: row.get(0)?,
                        step: row.get(1)?,
                        kind: row.get(2)?,
                        status: row.get(3)?,
                        snippet: row.get(4)?,
                    })
                },
            )?
            .collect::<Result<Vec<_>, _>>()?;
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let more = hits.len() > limit;
        hits.truncate(limit);
        Ok(SearchResponse { hits, more })
    }
}
