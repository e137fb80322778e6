//! Load and Diff: what a version has, and how two differ.

use std::time::Duration;

use rusqlite::Connection;
use similar::{ChangeTag, TextDiff};

use super::choice::select::select;
use super::fields;
use super::item::{Item, role_name};
use super::space::Space;
use super::tables;
use super::time::timestamp;
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::context_manager::v1::{
    DiffRequest, DiffResponse, LoadRequest, LoadResponse, Strategy,
};
use crate::storage::Failure;

const DEFAULT_LINES: u32 = 3;
const MAX_LINES: u32 = 100;

/// After this time the search for the shortest diff ends with a longer one.
const DIFF_TIME: Duration = Duration::from_secs(2);

/// A request to load, checked.
pub(super) struct Load {
    name: String,
    version: Option<i64>,
    budget: Option<u64>,
    strategy: Strategy,
    query: String,
    as_text: bool,
}

impl Load {
    pub(super) fn check(request: LoadRequest) -> Result<Self, Error> {
        fields::name("name", &request.name)?;
        fields::query("query", &request.query)?;
        let named = Strategy::try_from(request.strategy)
            .map_err(|_| Error::invalid("strategy", "is none that this version knows"))?;
        let budget = Some(request.budget_tokens).filter(|budget| *budget > 0);
        let has_query = !request.query.is_empty();
        let strategy = match named {
            Strategy::Unspecified if has_query => Strategy::Relevance,
            Strategy::Relevance if !has_query => {
                return Err(Error::invalid("query", "must be given with this strategy"));
            }
            Strategy::Tail | Strategy::HeadTail if has_query => {
                return Err(Error::invalid("query", "is only for the strategy of relevance"));
            }
            Strategy::Unspecified | Strategy::Tail | Strategy::HeadTail | Strategy::Relevance => {
                named
            }
        };
        if budget.is_none() && strategy != Strategy::Unspecified {
            let field = if has_query { "query" } else { "strategy" };
            return Err(Error::invalid(field, "is only for a load with budget_tokens"));
        }
        Ok(Self {
            name: request.name,
            version: fields::optional("version", request.version)?,
            budget,
            strategy,
            query: request.query,
            as_text: request.as_text,
        })
    }

    pub(super) fn apply(
        &self,
        database: &Connection,
        space: &Space,
        now: i64,
    ) -> Result<LoadResponse, Failure> {
        let head = tables::require(database, space, &self.name, now)?;
        let number = self.version.unwrap_or(head.version);
        let version = tables::version(database, &head, "version", number)?;
        // With a budget, only the texts that are taken are read, unless they decide what is.
        let is_outline = self.budget.is_some() && self.strategy != Strategy::Relevance;
        let read = if is_outline { tables::outlines } else { tables::items };
        let items = read(database, &head, number)?;
        let taken = match self.budget {
            Some(budget) => select(&items, budget, self.strategy, &self.query),
            None => vec![true; items.len()],
        };
        let mut response = LoadResponse {
            version: version.version,
            tags: fields::stored_tags(&head.tags),
            created_at: Some(timestamp(head.created_at)),
            updated_at: version.created_at,
            expires_at: head.expires_at.map(timestamp),
            ..LoadResponse::default()
        };
        let mut texts = Vec::new();
        for (mut item, taken) in items.into_iter().zip(taken) {
            if !taken {
                response.dropped.push(item.as_dropped());
                continue;
            }
            if is_outline {
                item.text = tables::text(database, &item)?;
            }
            response.tokens += item.tokens;
            if self.as_text {
                texts.push(item.text);
            } else {
                response.items.push(item.into_message());
            }
        }
        response.content = texts.join("\n\n");
        Ok(response)
    }
}

/// A request to compare, checked.
pub(super) struct Diff {
    name: String,
    from: Option<i64>,
    to: Option<i64>,
    lines: usize,
}

impl Diff {
    pub(super) fn check(request: DiffRequest) -> Result<Self, Error> {
        fields::name("name", &request.name)?;
        let lines = request.context_lines.unwrap_or(DEFAULT_LINES);
        if lines > MAX_LINES {
            let problem = format!("must be {MAX_LINES} at most, not {lines}");
            return Err(Error::invalid("context_lines", problem));
        }
        Ok(Self {
            name: request.name,
            from: fields::optional("from_version", request.from_version)?,
            to: fields::optional("to_version", request.to_version)?,
            lines: usize::try_from(lines).unwrap_or(usize::MAX),
        })
    }

    pub(super) fn apply(
        &self,
        database: &Connection,
        space: &Space,
        now: i64,
    ) -> Result<DiffResponse, Failure> {
        let head = tables::require(database, space, &self.name, now)?;
        let to = self.to.unwrap_or(head.version);
        tables::version(database, &head, "to_version", to)?;
        let from = match self.from {
            Some(from) => from,
            None => tables::versions(database, &head)?
                .into_iter()
                .filter_map(|version| i64::try_from(version.version).ok())
                .find(|number| *number < to)
                .ok_or_else(|| {
                    let problem = format!("from_version: no version before {to} is kept; name one");
                    Error::new(ErrorKind::NotFound, problem).with_fact("field", "from_version")
                })?,
        };
        tables::version(database, &head, "from_version", from)?;
        let old = render(&tables::items(database, &head, from)?);
        let new = render(&tables::items(database, &head, to)?);
        let name = |number| format!("{}@{number}", self.name);
        let (diff, added_lines, removed_lines) =
            unified(&old, &new, &name(from), &name(to), self.lines);
        Ok(DiffResponse {
            diff,
            from_version: from.unsigned_abs(),
            to_version: to.unsigned_abs(),
            added_lines,
            removed_lines,
        })
    }
}

/// A version as lines: a heading for each item, and its text.
fn render(items: &[Item]) -> String {
    let mut text = String::new();
    for item in items {
        let role = role_name(item.role);
        let role = if role.is_empty() { "text" } else { role };
        let pin = if item.pinned { " pinned" } else { "" };
        text += &format!("[{}] {role}{pin}\n{}", item.id, item.text);
        if !item.text.ends_with('\n') {
            text.push('\n');
        }
    }
    text
}

/// The unified diff, and how many lines it adds and removes.
fn unified(old: &str, new: &str, from: &str, to: &str, lines: usize) -> (String, u32, u32) {
    let diff = TextDiff::configure().timeout(DIFF_TIME).diff_lines(old, new);
    let (mut added, mut removed) = (0, 0);
    for change in diff.iter_all_changes() {
        match change.tag() {
            ChangeTag::Equal => {}
            ChangeTag::Insert => added += 1,
            ChangeTag::Delete => removed += 1,
        }
    }
    let text = diff.unified_diff().context_radius(lines).header(from, to).to_string();
    (text, added, removed)
}
