//! What a search asks for: words, phrases and beginnings. Nothing that a user writes is syntax of FTS5.

use std::collections::BinaryHeap;
use std::fmt::Write as _;

use rusqlite::{Connection, params};

use crate::error::Error;
use crate::storage::Failure;

const MAX_QUERY_BYTES: usize = 4096;

/// How many words a query has at most: each is looked up.
const MAX_TERMS: usize = 32;

/// How many similar words one word stands for at most.
const MAX_SIMILAR: usize = 24;

/// From so many letters on a word may be similar to another, and differ in two letters.
const MIN_LETTERS: usize = 3;
const MANY_LETTERS: usize = 6;

/// One element of a query.
#[derive(Debug)]
enum Term {
    Word(String),
    Phrase(String),
    Beginning(String),
}

/// A query.
#[derive(Debug)]
pub(super) struct Query(Vec<Term>);

impl Query {
    pub(super) fn check(query: &str) -> Result<Self, Error> {
        if query.len() > MAX_QUERY_BYTES {
            return Err(Error::invalid(
                "query",
                format_args!("must have {MAX_QUERY_BYTES} bytes at most, not {}", query.len()),
            ));
        }
        if !query.matches('"').count().is_multiple_of(2) {
            return Err(Error::invalid("query", "has a \" without its end"));
        }
        let mut terms = Vec::new();
        for (index, part) in query.split('"').enumerate() {
            if index % 2 == 1 {
                terms.push(Term::Phrase(part.to_owned()));
                continue;
            }
            terms.extend(part.split_whitespace().map(|word| match word.strip_suffix('*') {
                Some(beginning) => Term::Beginning(beginning.to_owned()),
                None => Term::Word(word.to_owned()),
            }));
        }
        // What has no word in it would match nothing.
        terms.retain(|term| term.text().contains(char::is_alphanumeric));
        match terms.len() {
            0 => Err(Error::invalid("query", "must have a word to look for")),
            1..=MAX_TERMS => Ok(Self(terms)),
            _ => Err(Error::invalid("query", format_args!("must have {MAX_TERMS} words at most"))),
        }
    }

    /// As FTS5 takes it.
    pub(super) fn exact(&self) -> String {
        let terms: Vec<String> = self.0.iter().map(Term::exact).collect();
        terms.join(" AND ")
    }

    /// The same with the words that are similar to its words in `vocabulary`.
    pub(super) fn fuzzy(&self, database: &Connection, vocabulary: &str) -> Result<String, Failure> {
        let mut terms = Vec::new();
        for term in &self.0 {
            match term {
                Term::Phrase(_) | Term::Beginning(_) => terms.push(term.exact()),
                Term::Word(word) => {
                    for word in word.split(|c: char| !c.is_alphanumeric()) {
                        if !word.is_empty() {
                            terms.push(similar(database, vocabulary, &word.to_lowercase())?);
                        }
                    }
                }
            }
        }
        Ok(terms.join(" AND "))
    }
}

impl Term {
    fn text(&self) -> &str {
        match self {
            Self::Word(text) | Self::Phrase(text) | Self::Beginning(text) => text,
        }
    }

    fn exact(&self) -> String {
        match self {
            Self::Word(text) | Self::Phrase(text) => quoted(text),
            Self::Beginning(text) => format!("{}*", quoted(text)),
        }
    }
}

/// A word, and those in `vocabulary` that are similar, any of which will do.
fn similar(database: &Connection, vocabulary: &str, word: &str) -> Result<String, Failure> {
    let letters = word.chars().count();
    let most = match letters {
        0..MIN_LETTERS => return Ok(quoted(word)),
        MIN_LETTERS..MANY_LETTERS => 1,
        _ => 2,
    };
    let mut select = database.prepare_cached(&format!(
        "SELECT term FROM {vocabulary} WHERE length(term) BETWEEN ?1 AND ?2"
    ))?;
    let mut rows = select.query(params![letters - most, letters + most])?;
    // The farthest on top, to make room for nearer ones.
    let mut nearest: BinaryHeap<(usize, String)> = BinaryHeap::new();
    while let Some(row) = rows.next()? {
        let term = row.get_ref(0)?.as_str().map_err(rusqlite::Error::from)?;
        let distance = strsim::osa_distance(word, term);
        if distance <= most {
            nearest.push((distance, term.to_owned()));
            if nearest.len() > MAX_SIMILAR {
                nearest.pop();
            }
        }
    }
    let mut any = format!("({}", quoted(word));
    for (_, term) in nearest {
        // Writing to a String cannot fail.
        write!(any, " OR {}", quoted(&term)).ok();
    }
    any.push(')');
    Ok(any)
}

/// A phrase for FTS5.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('"', "\"\"").replace('\0', " "))
}
