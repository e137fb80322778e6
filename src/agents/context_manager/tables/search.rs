//! Full-text search over one user's own index, so that neither ranks nor times tell of others' texts.

use rusqlite::{Connection, params};

use super::content::{has_words, words_table};
use super::schema::FOREVER;
use crate::agents::context_manager::fields::bears_tags;
use crate::agents::context_manager::space::Space;
use crate::error::Error;
use crate::proto::opdbus::agent::context_manager::v1::{Highlight, Match, Role};
use crate::storage::Failure;

/// How many words an excerpt has at most.
const EXCERPT_WORDS: u32 = 32;

/// How many words a query may have: each is looked up.
const MAX_TERMS: usize = 64;

/// Mark the words in an excerpt. Both are noncharacters, which no text is meant to have.
const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';

/// What to find.
pub(in super::super) struct Found {
    /// As FTS5 takes it.
    pub(in super::super) expression: String,
    /// Only in this context.
    pub(in super::super) name: Option<String>,
    /// Only in contexts with these labels, as they are stored.
    pub(in super::super) tags: Vec<u8>,
    pub(in super::super) limit: usize,
}

/// The items of current versions that match, best first.
pub(in super::super) fn search(
    database: &Connection,
    space: &Space,
    now: i64,
    wanted: &Found,
) -> Result<Vec<Match>, Failure> {
    if !has_words(database, space.uid)? {
        return Ok(Vec::new());
    }
    let table = words_table(space.uid);
    let mut select = database.prepare_cached(&format!(
        "SELECT context.name, place.item, content.role, -bm25({table}), context.tags, content.id
         FROM {table} JOIN content ON content.id = {table}.rowid
         JOIN place ON place.content = content.id AND place.until = ?2
         JOIN context ON context.id = place.context
         WHERE {table} MATCH ?1 AND context.uid = ?3 AND context.session = ?6
         AND context.undo IS NULL
         AND (expires_at IS NULL OR expires_at > ?4) AND context.name = ifnull(?5, context.name)
         ORDER BY bm25({table}), context.name, place.item"
    ))?;
    let mut rows = select.query(params![
        wanted.expression,
        FOREVER,
        space.uid,
        now,
        wanted.name,
        space.session
    ])?;
    let mut matches = Vec::new();
    while matches.len() < wanted.limit
        && let Some(row) = rows.next()?
    {
        if !bears_tags(&row.get::<_, Vec<u8>>(4)?, &wanted.tags) {
            continue;
        }
        let role: i32 = row.get(2)?;
        let marked = marked_excerpt(database, &table, &wanted.expression, row.get(5)?)?;
        let (excerpt, highlights) = highlights(&marked);
        matches.push(Match {
            name: row.get(0)?,
            id: row.get::<_, i64>(1)?.unsigned_abs(),
            role: Role::try_from(role).unwrap_or_default().into(),
            score: row.get(3)?,
            excerpt,
            highlights,
        });
    }
    Ok(matches)
}

/// The part of a text that matches best, with its marks. In the search itself it would be cut from
/// every text that matches, not only from those that are given.
fn marked_excerpt(
    database: &Connection,
    table: &str,
    expression: &str,
    content: i64,
) -> Result<String, Failure> {
    Ok(database
        .prepare_cached(&format!(
            "SELECT snippet({table}, 0, ?3, ?4, '…', {EXCERPT_WORDS}) FROM {table}
             WHERE {table} MATCH ?1 AND rowid = ?2"
        ))?
        .query_row(params![expression, content, OPEN.to_string(), CLOSE.to_string()], |row| {
            row.get(0)
        })?)
}

/// Takes the marks out of an excerpt and says where they were.
fn highlights(marked: &str) -> (String, Vec<Highlight>) {
    let mut excerpt = String::with_capacity(marked.len());
    let mut highlights = Vec::new();
    let (mut at, mut open) = (0_u32, None);
    for character in marked.chars() {
        match character {
            OPEN => open = Some(at),
            CLOSE => {
                if let Some(start) = open.take() {
                    highlights.push(Highlight { start, length: at - start });
                }
            }
            other => {
                excerpt.push(other);
                at += 1;
            }
        }
    }
    (excerpt, highlights)
}

/// How many of a query's words a text must have.
#[derive(Clone, Copy, Debug)]
pub(in super::super) enum Join {
    /// All of them.
    All,
    /// One of them; more make it rank higher.
    Any,
}

impl Join {
    const fn operator(self) -> &'static str {
        match self {
            Self::All => " AND ",
            Self::Any => " OR ",
        }
    }
}

/// A query of words, `"phrases"` and `begin*` as FTS5 takes it. Its operators have no meaning in it.
///
/// # Errors
/// `InvalidArgument` if there is no word in it, too many, or a quote without its end.
pub(in super::super) fn expression(query: &str, join: Join) -> Result<String, Error> {
    if !query.matches('"').count().is_multiple_of(2) {
        return Err(Error::invalid("query", "has a \" without its end"));
    }
    let mut terms = Vec::new();
    for (index, part) in query.split('"').enumerate() {
        if index % 2 == 1 {
            terms.extend(quoted(part, ""));
        } else {
            for word in part.split_whitespace() {
                terms.extend(match word.strip_suffix('*') {
                    Some(begin) => quoted(begin, "*"),
                    None => quoted(word, ""),
                });
            }
        }
    }
    match terms.len() {
        0 => Err(Error::invalid("query", "must have a word to look for")),
        count if count > MAX_TERMS => {
            Err(Error::invalid("query", format_args!("must have {MAX_TERMS} words at most")))
        }
        _ => Ok(terms.join(join.operator())),
    }
}

/// A phrase for FTS5; `None` if there is no word in it.
fn quoted(text: &str, suffix: &str) -> Option<String> {
    text.contains(char::is_alphanumeric).then(|| format!("\"{text}\"{suffix}"))
}
