//! The rows of chains: found for one user, begun, changed, removed. Steps are elsewhere.

use rusqlite::{Connection, OptionalExtension as _, Row, params};

use super::time::{self, Moment};
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::sequential_thinking::v1::{ChainInfo, ChainStatus};
use crate::storage::Failure;

/// How many characters of a problem a title has.
const TITLE: usize = 120;

/// A chain without its long texts.
#[derive(Clone, Debug)]
pub(super) struct Chain {
    pub(super) row: i64,
    pub(super) name: String,
    pub(super) status: ChainStatus,
    pub(super) steps: u32,
    pub(super) open: u32,
    pub(super) max_steps: u32,
    pub(super) revision: i64,
    pub(super) created_at: i64,
    pub(super) updated_at: i64,
    pub(super) tags: Vec<String>,
    pub(super) title: String,
}

/// A chain to begin.
pub(super) struct NewChain {
    pub(super) uid: u32,
    pub(super) problem: String,
    pub(super) context: String,
    pub(super) max_steps: u32,
    pub(super) goals: Vec<String>,
    pub(super) tags: Vec<String>,
    /// True if the form with nine fields begins it.
    pub(super) numbered: bool,
}

/// The texts that belong to a chain as a whole.
#[derive(Debug)]
pub(super) struct ChainTexts {
    pub(super) problem: String,
    pub(super) context: String,
    pub(super) goals: Vec<String>,
    pub(super) conclusion: String,
}

/// The columns that [`Chain::read`] reads.
macro_rules! chain_columns {
    () => {
        "id, name, status, steps, open, max_steps, revision, created_at, updated_at, tags,
         substr(problem, 1, 121)"
    };
}
pub(super) use chain_columns;

impl Chain {
    pub(super) fn read(row: &Row<'_>) -> Result<Self, rusqlite::Error> {
        Ok(Self {
            row: row.get(0)?,
            name: row.get(1)?,
            status: ChainStatus::try_from(row.get::<_, i32>(2)?).unwrap_or_default(),
            steps: row.get(3)?,
            open: row.get(4)?,
            max_steps: row.get(5)?,
            revision: row.get(6)?,
            created_at: row.get(7)?,
            updated_at: row.get(8)?,
            tags: list(&row.get::<_, String>(9)?),
            title: beginning(&row.get::<_, String>(10)?, TITLE),
        })
    }

    /// The chain `name` of a user.
    ///
    /// # Errors
    /// `NotFound` if he has none, whoever else has.
    pub(super) fn find(
        database: &Connection,
        uid: u32,
        name: &str,
        moment: Moment,
    ) -> Result<Self, Failure> {
        if name.is_empty() {
            return Err(Error::invalid("chain_id", "must not be empty").into());
        }
        database
            .prepare_cached(concat!(
                "SELECT ",
                chain_columns!(),
                " FROM chain WHERE name = ?1 AND uid = ?2 AND updated_at >= ?3"
            ))?
            .query_row(params![name, uid, moment.horizon()], Self::read)
            .optional()?
            .ok_or_else(|| {
                Error::new(
                    ErrorKind::NotFound,
                    "chain_id: you have no such chain; it may have been deleted, or was not changed \
                     for too long",
                )
                .with_fact("field", "chain_id")
                .into()
            })
    }

    /// The chain that the form with nine fields began last for a user.
    pub(super) fn find_numbered(
        database: &Connection,
        uid: u32,
        moment: Moment,
    ) -> Result<Option<Self>, rusqlite::Error> {
        database
            .prepare_cached(concat!(
                "SELECT ",
                chain_columns!(),
                " FROM chain WHERE uid = ?1 AND numbered AND updated_at >= ?2
                 ORDER BY created_at DESC, id DESC LIMIT 1"
            ))?
            .query_row(params![uid, moment.horizon()], Self::read)
            .optional()
    }

    /// Begins a chain without steps.
    ///
    /// # Errors
    /// `LimitExceeded` if the user has as many as he may have.
    pub(super) fn begin(
        database: &Connection,
        new: &NewChain,
        max_chains: u32,
        moment: Moment,
    ) -> Result<Self, Failure> {
        let count: u32 = database
            .prepare_cached("SELECT count(*) FROM chain WHERE uid = ?1 AND updated_at >= ?2")?
            .query_row(params![new.uid, moment.horizon()], |row| row.get(0))?;
        if count >= max_chains {
            return Err(Error::limit(
                "sequential_thinking.max_chains",
                max_chains,
                "you have as many chains as you may have; delete some with DeleteChain",
            )
            .into());
        }
        let chain = database
            .prepare_cached(concat!(
                "INSERT INTO chain (name, uid, status, numbered, steps, open, max_steps, revision,
                     created_at, updated_at, tags, goals, problem, context, conclusion)
                 VALUES (lower(hex(randomblob(8))), ?1, ?2, ?3, 0, 0, ?4, 1, ?5, ?5, ?6, ?7, ?8, ?9,
                     '')
                 RETURNING ",
                chain_columns!()
            ))?
            .query_row(
                params![
                    new.uid,
                    i32::from(ChainStatus::Open),
                    new.numbered,
                    new.max_steps,
                    moment.now,
                    array(&new.tags),
                    array(&new.goals),
                    new.problem,
                    new.context,
                ],
                Self::read,
            )?;
        Ok(chain)
    }

    /// Stores what can change of a chain, as of `moment`.
    pub(super) fn save(
        &mut self,
        database: &Connection,
        moment: Moment,
    ) -> Result<(), rusqlite::Error> {
        // A clock that was set back must not make a chain look older than it is.
        self.updated_at = moment.now.max(self.updated_at);
        database
            .prepare_cached(
                "UPDATE chain SET status = ?2, steps = ?3, open = ?4, max_steps = ?5, revision = ?6,
                     updated_at = ?7 WHERE id = ?1",
            )?
            .execute(params![
                self.row,
                i32::from(self.status),
                self.steps,
                self.open,
                self.max_steps,
                self.revision,
                self.updated_at,
            ])
            .map(drop)
    }

    pub(super) fn set_conclusion(
        &self,
        database: &Connection,
        conclusion: &str,
    ) -> Result<(), rusqlite::Error> {
        database
            .prepare_cached("UPDATE chain SET conclusion = ?2 WHERE id = ?1")?
            .execute(params![self.row, conclusion])
            .map(drop)
    }

    /// Ends the chain's time: it is gone for every caller, and its rows are removed with those of
    /// other chains whose time is over.
    pub(super) fn end(&self, database: &Connection) -> Result<(), rusqlite::Error> {
        database
            .prepare_cached("UPDATE chain SET updated_at = 0 WHERE id = ?1")?
            .execute([self.row])
            .map(drop)
    }

    pub(super) fn texts(&self, database: &Connection) -> Result<ChainTexts, rusqlite::Error> {
        database
            .prepare_cached("SELECT problem, context, goals, conclusion FROM chain WHERE id = ?1")?
            .query_row([self.row], |row| {
                Ok(ChainTexts {
                    problem: row.get(0)?,
                    context: row.get(1)?,
                    goals: list(&row.get::<_, String>(2)?),
                    conclusion: row.get(3)?,
                })
            })
    }

    /// The chain as the contract has it.
    pub(super) fn info(&self, moment: Moment) -> ChainInfo {
        ChainInfo {
            chain_id: self.name.clone(),
            title: self.title.clone(),
            status: self.status.into(),
            steps: self.steps,
            max_steps: self.max_steps,
            open_steps: self.open,
            tags: self.tags.clone(),
            created_at: Some(time::timestamp(self.created_at)),
            updated_at: Some(time::timestamp(self.updated_at)),
            expires_at: Some(time::timestamp(moment.expiry(self.updated_at))),
        }
    }
}

/// The first `most` characters of the first line, with an ellipsis if something is missing.
pub(super) fn beginning(text: &str, most: usize) -> String {
    let line = text.trim_start().lines().next().unwrap_or_default().trim_end();
    let cut = line.len() < text.trim().len();
    let mut shown: String = line.chars().take(most).collect();
    if cut || shown.len() < line.len() {
        shown = line.chars().take(most.saturating_sub(1)).collect();
        shown.push('…');
    }
    shown
}

/// A list as it is stored.
pub(super) fn array(texts: &[String]) -> String {
    serde_json::Value::from(texts.to_vec()).to_string()
}

fn list(stored: &str) -> Vec<String> {
    // What is there was written by `array`.
    serde_json::from_str(stored).unwrap_or_default()
}
