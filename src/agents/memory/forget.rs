//! Forget: removes a key, or those that a pattern matches, and gives a token to undo it.

use rusqlite::{params_from_iter, types::Value};

use super::change::{Change, Entry, Removal, entry_columns};
use super::fields;
use super::list::Range;
use super::remember::require_version;
use crate::error::Error;
use crate::proto::opdbus::agent::memory::v1::{ForgetRequest, ForgetResponse};
use crate::storage::Failure;

/// What the tokens that undo a Forget begin with; the Forget's first version follows.
const TOKEN_PREFIX: &str = "undo-";

/// A request that has been checked.
pub(super) struct Forget {
    key: String,
    glob: bool,
    if_version: Option<u64>,
    dry_run: bool,
}

impl Forget {
    pub(super) fn check(at: &str, request: ForgetRequest) -> Result<Self, Error> {
        if request.glob {
            fields::pattern(at, "key", &request.key)?;
            if request.if_version.is_some() {
                return Err(Error::invalid(
                    format!("{at}if_version"),
                    "cannot be given together with glob",
                ));
            }
        } else {
            fields::key(at, &request.key)?;
        }
        let ForgetRequest { key, glob, if_version, dry_run, .. } = request;
        Ok(Self { key, glob, if_version, dry_run })
    }

    /// True if it removes what a pattern matches.
    pub(super) fn is_glob(&self) -> bool {
        self.glob
    }

    pub(super) fn apply(&self, change: &mut Change<'_>) -> Result<ForgetResponse, Failure> {
        let entries = if self.glob { self.matching(change)? } else { self.named(change)? };
        let mut first = None;
        if !self.dry_run {
            for entry in &entries {
                let version = change.remove(entry, Removal::Forgotten(first))?;
                first.get_or_insert(version);
            }
        }
        Ok(ForgetResponse {
            count: u32::try_from(entries.len()).unwrap_or(u32::MAX),
            undo_token: first.map_or_else(String::new, |first| format!("{TOKEN_PREFIX}{first}")),
        })
    }

    fn named(&self, change: &mut Change<'_>) -> Result<Vec<Entry>, Failure> {
        let Some(entry) = change.live(&self.key)? else { return Ok(Vec::new()) };
        if let Some(expected) = self.if_version {
            require_version(&self.key, expected, entry.version)?;
        }
        Ok(vec![entry])
    }

    fn matching(&self, change: &Change<'_>) -> Result<Vec<Entry>, Failure> {
        let most = change.config.max_forget;
        let range = Range::new(&self.key, None);
        let mut found = change.database.prepare_cached(concat!(
            "SELECT ",
            entry_columns!(),
            " FROM entry INDEXED BY entry_key WHERE uid = ?1 AND namespace = ?2 AND key >= ?3 AND key < ?4
             AND key GLOB ?5 AND batch IS NULL AND (expires_at IS NULL OR expires_at > ?6)
             ORDER BY key LIMIT ?7"
        ))?;
        let parameters: [Value; 7] = [
            change.scope.uid.into(),
            change.scope.namespace.clone().into(),
            range.from,
            range.below,
            self.key.clone().into(),
            change.now.into(),
            (i64::from(most) + 1).into(),
        ];
        let entries = found
            .query_map(params_from_iter(parameters), Entry::read)?
            .collect::<Result<Vec<_>, _>>()?;
        if entries.len() > usize::try_from(most).unwrap_or(usize::MAX) {
            return Err(Error::limit(
                "memory.max_forget",
                most,
                "the pattern matches more keys than one Forget removes; use narrower patterns",
            )
            .into());
        }
        Ok(entries)
    }
}

/// The first version of the Forget that gave `token`.
pub(super) fn read_token(token: &str) -> Option<i64> {
    token.strip_prefix(TOKEN_PREFIX)?.parse().ok().filter(|first| *first > 0)
}
