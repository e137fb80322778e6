//! List and Budget: contexts without their items.

use rusqlite::Connection;

use super::fields::{self, bears_tags};
use super::space::Space;
use super::tables;
use crate::error::Error;
use crate::proto::opdbus::agent::context_manager::v1::{
    BudgetRequest, BudgetResponse, ContextUse, Level, ListRequest, ListResponse,
};
use crate::storage::Failure;

const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;

/// How many contexts a Budget names at most.
const MAX_NAMES: usize = 100;

/// From which part of the window on a Budget warns.
const WARN_AT: f64 = 0.8;

/// A request to list, checked.
pub(super) struct List {
    tags: Vec<u8>,
    query: String,
    page_size: usize,
    after: String,
}

impl List {
    pub(super) fn check(request: ListRequest) -> Result<Self, Error> {
        fields::query("query", &request.query)?;
        if !request.page_token.is_empty() {
            // A token is the last name of its page, so it holds whatever changes between two pages.
            fields::name("page_token", &request.page_token)?;
        }
        Ok(Self {
            tags: fields::tags(request.tags)?,
            query: request.query.to_ascii_lowercase(),
            page_size: fields::count("page_size", request.page_size, DEFAULT_PAGE, MAX_PAGE)?,
            after: request.page_token,
        })
    }

    pub(super) fn apply(
        &self,
        database: &Connection,
        space: &Space,
        now: i64,
    ) -> Result<ListResponse, Failure> {
        let limit = self.page_size + 1;
        let mut heads = tables::list(database, space, &self.after, now, limit, |head| {
            bears_tags(&head.tags, &self.tags)
                && head.name.to_ascii_lowercase().contains(&self.query)
        })?;
        let is_last = heads.len() <= self.page_size;
        heads.truncate(self.page_size);
        let next = heads.last().filter(|_| !is_last);
        Ok(ListResponse {
            next_page_token: next.map_or_else(String::new, |head| head.name.clone()),
            contexts: heads.into_iter().map(tables::Head::into_info).collect(),
            tokens_exact: false,
        })
    }
}

/// A request to count, checked.
pub(super) struct Budget {
    names: Vec<String>,
    window: u64,
    reserve: u64,
    warn_at: f64,
}

impl Budget {
    pub(super) fn check(request: BudgetRequest) -> Result<Self, Error> {
        if !(1..=MAX_NAMES).contains(&request.names.len()) {
            let problem = format!("must be 1 to {MAX_NAMES}, not {}", request.names.len());
            return Err(Error::invalid("names", problem));
        }
        for (index, name) in request.names.iter().enumerate() {
            fields::name(&format!("names[{index}]"), name)?;
        }
        if request.context_window_tokens == 0 {
            return Err(Error::invalid("context_window_tokens", "must be more than 0"));
        }
        if request.reserve_tokens >= request.context_window_tokens {
            return Err(Error::invalid("reserve_tokens", "must be less than the window"));
        }
        let warn_at = request.warn_at.unwrap_or(WARN_AT);
        if !(warn_at > 0.0 && warn_at <= 1.0) {
            return Err(Error::invalid("warn_at", "must be more than 0 and at most 1"));
        }
        Ok(Self {
            names: request.names,
            window: request.context_window_tokens,
            reserve: request.reserve_tokens,
            warn_at,
        })
    }

    pub(super) fn apply(
        &self,
        database: &Connection,
        space: &Space,
        now: i64,
    ) -> Result<BudgetResponse, Failure> {
        let mut contexts = Vec::with_capacity(self.names.len());
        for name in &self.names {
            let head = tables::require(database, space, name, now)?;
            contexts.push(ContextUse {
                name: name.clone(),
                tokens: head.tokens,
                fixed_tokens: tables::fixed_tokens(database, &head)?,
            });
        }
        let used_tokens = contexts.iter().map(|context| context.tokens).sum();
        let room = self.window - self.reserve;
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a part of a window needs no more digits than a double has"
        )]
        let warn_tokens = (room as f64 * self.warn_at) as u64;
        let level = match used_tokens {
            used if used > room => Level::Over,
            used if used >= warn_tokens => Level::Warn,
            _ => Level::Ok,
        };
        Ok(BudgetResponse {
            used_tokens,
            left_tokens: room.saturating_sub(used_tokens),
            level: level.into(),
            warn_tokens,
            tokens_exact: false,
            contexts,
        })
    }
}
