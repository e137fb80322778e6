//! Shows where the words of a query are in a text, with the index's own rules. The index keeps no
//! texts, so each that was found is looked at once more, alone.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::index::TOKENIZER;
use crate::proto::opdbus::agent::memory::v1::Highlight;

/// How many words an excerpt has at most.
const EXCERPT_WORDS: u32 = 32;

/// Mark the words. Both are noncharacters, which no text is meant to have.
const OPEN: char = '\u{fdd0}';
const CLOSE: char = '\u{fdd1}';

/// An index of one text at a time, in memory.
pub(super) struct Lens(Connection);

/// What a query finds in one entry.
pub(super) struct Sight {
    pub(super) key: Vec<Highlight>,
    pub(super) excerpt: String,
    pub(super) highlights: Vec<Highlight>,
}

impl Lens {
    pub(super) fn new() -> Result<Self, rusqlite::Error> {
        let database = Connection::open_in_memory()?;
        database.execute_batch(&format!(
            "CREATE VIRTUAL TABLE lens USING fts5(key, text, tags, {TOKENIZER})"
        ))?;
        Ok(Self(database))
    }

    /// What `expression` finds; nothing if it does not match.
    pub(super) fn look(
        &self,
        expression: &str,
        key: &str,
        text: &str,
        tags: &str,
    ) -> Result<Option<Sight>, rusqlite::Error> {
        let plain = |text: &str| text.replace([OPEN, CLOSE], "\u{fffd}");
        self.0.prepare_cached("DELETE FROM lens")?.execute([])?;
        self.0
            .prepare_cached("INSERT INTO lens (key, text, tags) VALUES (?1, ?2, ?3)")?
            .execute(params![plain(key), plain(text), plain(tags)])?;
        let marked: Option<(String, String)> = self
            .0
            .prepare_cached(&format!(
                "SELECT highlight(lens, 0, ?2, ?3), snippet(lens, 1, ?2, ?3, '…', {EXCERPT_WORDS})
                 FROM lens WHERE lens MATCH ?1"
            ))?
            .query_row(params![expression, OPEN.to_string(), CLOSE.to_string()], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        Ok(marked.map(|(key, excerpt)| {
            let (_, key) = highlights(&key);
            let (excerpt, highlights) = highlights(&excerpt);
            Sight { key, excerpt, highlights }
        }))
    }
}

/// Takes the marks out of a text and says where they were.
fn highlights(marked: &str) -> (String, Vec<Highlight>) {
    let mut text = String::with_capacity(marked.len());
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
                text.push(other);
                at += 1;
            }
        }
    }
    (text, highlights)
}
