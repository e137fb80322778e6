//! Texts and the index of their words. A text is stored once and goes when no version has it any more.

use rusqlite::{Connection, OptionalExtension as _, params};

use super::Change;
use crate::agents::context_manager::choice::tokens;
use crate::agents::context_manager::item::{Draft, IMPORTANCE, Item};
use crate::proto::opdbus::agent::context_manager::v1::Role;
use crate::storage::Failure;

/// What each text counts beside its own bytes: about what its row and its words' index take.
const ROW_BYTES: i64 = 128;

/// A stored text, as the places need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct Content {
    pub(in super::super) id: i64,
    pub(in super::super) tokens: u64,
    /// The bytes of the text.
    pub(in super::super) size: u64,
}

impl From<&Item> for Content {
    fn from(item: &Item) -> Self {
        Self { id: item.content, tokens: item.tokens, size: item.text.len() as u64 }
    }
}

struct Row<'a> {
    role: Role,
    created_at: i64,
    importance: f64,
    shortened: bool,
    source: &'a str,
    text: &'a str,
}

impl Change<'_> {
    /// Stores the text of a new item.
    pub(in super::super) fn add_content(&mut self, draft: &Draft) -> Result<Content, Failure> {
        self.insert(&Row {
            role: draft.role,
            created_at: draft.created_at.unwrap_or(self.now),
            importance: draft.importance.unwrap_or(IMPORTANCE),
            shortened: draft.shortened,
            source: &draft.source,
            text: &draft.text,
        })
    }

    /// Stores a shorter text of an item.
    pub(in super::super) fn add_shortened(
        &mut self,
        item: &Item,
        text: &str,
    ) -> Result<Content, Failure> {
        self.insert(&Row {
            role: item.role,
            created_at: item.created_at,
            importance: item.importance,
            shortened: true,
            source: &item.source,
            text,
        })
    }

    fn insert(&mut self, row: &Row<'_>) -> Result<Content, Failure> {
        let tokens = tokens::of_message(row.text);
        let size = row.text.len() as u64;
        self.database
            .prepare_cached(
                "INSERT INTO content
                 (uid, role, created_at, importance, tokens, size, shortened, source, text)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
            )?
            .execute(params![
                self.space.uid,
                i32::from(row.role),
                row.created_at,
                row.importance,
                tokens,
                size,
                row.shortened,
                row.source,
                row.text
            ])?;
        let id = self.database.last_insert_rowid();
        self.index()?.execute_insert(id, row.text)?;
        self.gained.bytes += weight(size, row.source.len());
        Ok(Content { id, tokens, size })
    }

    /// Removes texts that nothing refers to any more.
    pub(super) fn drop_contents(&mut self, mut ids: Vec<i64>) -> Result<(), Failure> {
        ids.sort_unstable();
        ids.dedup();
        for id in ids {
            let unused = self
                .database
                .prepare_cached(
                    "SELECT size, length(CAST(source AS BLOB)), text FROM content WHERE id = ?1
                     AND NOT EXISTS (SELECT 1 FROM place WHERE place.content = content.id)",
                )?
                .query_row([id], |row| {
                    Ok((row.get::<_, u64>(0)?, row.get::<_, usize>(1)?, row.get::<_, String>(2)?))
                })
                .optional()?;
            let Some((size, source, text)) = unused else { continue };
            self.index()?.execute_delete(id, &text)?;
            self.database.prepare_cached("DELETE FROM content WHERE id = ?1")?.execute([id])?;
            self.gained.bytes -= weight(size, source);
        }
        Ok(())
    }

    fn index(&mut self) -> Result<Words<'_>, Failure> {
        let words = Words { database: self.database, table: words_table(self.space.uid) };
        if !self.has_index {
            self.database.execute_batch(&format!(
                "CREATE VIRTUAL TABLE IF NOT EXISTS {} USING fts5(text, content='content',
                 content_rowid='id', tokenize='unicode61 remove_diacritics 2')",
                words.table
            ))?;
            self.has_index = true;
        }
        Ok(words)
    }
}

/// The index of one user's words.
pub(super) fn words_table(uid: u32) -> String {
    format!("words_{uid}")
}

/// True if the user has an index: it is made with his first text.
pub(super) fn has_words(database: &Connection, uid: u32) -> Result<bool, Failure> {
    let found = database
        .prepare_cached("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1")?
        .exists([words_table(uid)])?;
    Ok(found)
}

struct Words<'a> {
    database: &'a Connection,
    table: String,
}

impl Words<'_> {
    fn execute_insert(&self, id: i64, text: &str) -> Result<(), Failure> {
        let statement = format!("INSERT INTO {} (rowid, text) VALUES (?1, ?2)", self.table);
        self.database.prepare_cached(&statement)?.execute(params![id, text])?;
        Ok(())
    }

    fn execute_delete(&self, id: i64, text: &str) -> Result<(), Failure> {
        let table = &self.table;
        let statement =
            format!("INSERT INTO {table} ({table}, rowid, text) VALUES ('delete', ?1, ?2)");
        self.database.prepare_cached(&statement)?.execute(params![id, text])?;
        Ok(())
    }
}

fn weight(text: u64, source: usize) -> i64 {
    let bytes = text.saturating_add(source as u64);
    i64::try_from(bytes).unwrap_or(i64::MAX / 2) + ROW_BYTES
}
