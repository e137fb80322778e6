//! Lists that the service gives in pages, and one command for several ids. What is listed is the
//! commands' matter.

use std::io::Write as _;

use serde_json::Value;

use super::Outcome;
use super::args::Rows;
use super::output::Output;
use super::problem::Problem;
use super::table::Table;
use crate::client::{Error, Page};

/// The most rows that the service gives at a time of most lists.
const MAX_PAGE: usize = 1000;

/// The pages of a list, up to what the user wants.
#[derive(Debug)]
pub(super) struct Pages {
    /// How many rows are still wanted.
    left: usize,
    /// How many the service gives at a time.
    page: usize,
    /// Gives the next page; `None` when there is none.
    token: Option<String>,
    rows: Vec<Value>,
}

impl Pages {
    pub(super) fn new(wanted: Rows) -> Self {
        Self::of(wanted, MAX_PAGE)
    }

    /// The same for a list whose pages have `page` rows at most.
    pub(super) fn of(wanted: Rows, page: usize) -> Self {
        let left = if wanted.all { usize::MAX } else { wanted.limit };
        Self { left, page, token: Some(String::new()), rows: Vec::new() }
    }

    /// The page to ask for next; `None` if there are enough.
    pub(super) fn next(&self) -> Option<Page<'_>> {
        let token = self.token.as_deref().filter(|_| self.left > 0)?;
        let size = u32::try_from(self.left.min(self.page)).unwrap_or_default();
        Some(Page { size, token })
    }

    /// Takes a page of `count` rows, which stand at `name` in its JSON.
    pub(super) fn add(&mut self, json: &str, name: &str, count: usize, token: String) {
        self.left = self.left.saturating_sub(count);
        self.token = Some(token).filter(|token| !token.is_empty());
        let mut page: Value = serde_json::from_str(json).unwrap_or_default();
        if let Some(rows) = page.get_mut(name).and_then(Value::as_array_mut) {
            self.rows.append(rows);
        }
    }

    /// True if the service has rows that were not asked for.
    pub(super) fn has_more(&self) -> bool {
        self.token.is_some()
    }

    /// All rows, as the service gave them.
    pub(super) fn into_rows(self) -> Vec<Value> {
        self.rows
    }
}

/// Writes a table, or `none` if it has no rows, and says if there is `more`.
pub(super) fn write(
    table: &Table,
    count: usize,
    (none, more): (&str, bool),
    output: &mut Output,
) -> Result<Outcome, Problem> {
    if count == 0 {
        output.line(none)?;
        return Ok(Outcome::Done);
    }
    table.write(0, output)?;
    if more {
        let hint = format!("these are the newest {count}; --all lists the others too");
        output.line(&output.paint().dim(&hint))?;
    }
    Ok(Outcome::Done)
}

/// Tells that one of several failed. A service that cannot be reached ends the command.
pub(super) fn failed(error: Error, output: &mut Output) -> Result<Outcome, Problem> {
    let problem = Problem::from(error);
    if let Problem::Service(Error::Unreachable(_)) = problem {
        return Err(problem);
    }
    output.flush()?;
    problem.report(output);
    Ok(Outcome::Refused)
}
