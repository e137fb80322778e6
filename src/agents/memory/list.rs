//! List: keys in order, a page at a time.

use rusqlite::types::Value;
use rusqlite::{Connection, Row, params_from_iter};

use super::fields::{self, Scope};
use super::time::timestamp;
use crate::error::Error;
use crate::proto::opdbus::agent::memory::v1::{KeyInfo, ListRequest, ListResponse};
use crate::storage::Failure;

const DEFAULT_PAGE: u32 = 100;
const MAX_PAGE: u32 = 1000;

/// A request that has been checked.
pub(super) struct List {
    pattern: String,
    /// As they are stored, each to be found.
    tags: Vec<u8>,
    page_size: usize,
    after: Option<String>,
    /// What a token of this listing must bear.
    mark: u64,
}

impl List {
    pub(super) fn check(scope: &Scope, request: ListRequest) -> Result<Self, Error> {
        let pattern = if request.pattern.is_empty() { "*".to_owned() } else { request.pattern };
        fields::pattern("", "pattern", &pattern)?;
        if request.page_size > MAX_PAGE {
            return Err(Error::invalid(
                "page_size",
                format_args!("must be {MAX_PAGE} at most, not {}", request.page_size),
            ));
        }
        let page_size = if request.page_size == 0 { DEFAULT_PAGE } else { request.page_size };
        let tags = fields::tags("", request.tags)?;
        let mark = mark(&[scope.namespace.as_bytes(), pattern.as_bytes(), &tags]);
        let after = match request.page_token.as_str() {
            "" => None,
            token => Some(read_token(token, mark).ok_or_else(|| {
                Error::invalid(
                    "page_token",
                    "is none that a list with this namespace, pattern and tags gave; begin without it",
                )
            })?),
        };
        let page_size = usize::try_from(page_size).unwrap_or(usize::MAX);
        Ok(Self { pattern, tags, page_size, after, mark })
    }

    pub(super) fn apply(
        &self,
        database: &Connection,
        scope: &Scope,
        now: i64,
    ) -> Result<ListResponse, Failure> {
        let range = Range::new(&self.pattern, self.after.as_deref());
        let mut select = database.prepare_cached(
            "SELECT key, version, length(value), updated_at, expires_at, tags FROM entry
             INDEXED BY entry_key WHERE uid = ?1 AND namespace = ?2 AND key >= ?3 AND key < ?4 AND key GLOB ?5
             AND batch IS NULL AND (expires_at IS NULL OR expires_at > ?6) ORDER BY key",
        )?;
        let parameters: [Value; 6] = [
            scope.uid.into(),
            scope.namespace.clone().into(),
            range.from,
            range.below,
            self.pattern.clone().into(),
            now.into(),
        ];
        let mut rows = select.query(params_from_iter(parameters))?;
        let mut keys: Vec<KeyInfo> = Vec::new();
        while let Some(row) = rows.next()? {
            if !fields::bears_tags(row.get_ref(5)?.as_blob().unwrap_or_default(), &self.tags) {
                continue;
            }
            if keys.len() == self.page_size {
                let next_page_token =
                    keys.last().map_or_else(String::new, |last| write_token(&last.key, self.mark));
                return Ok(ListResponse { keys, next_page_token });
            }
            keys.push(key_info(row)?);
        }
        Ok(ListResponse { keys, next_page_token: String::new() })
    }
}

fn key_info(row: &Row<'_>) -> Result<KeyInfo, rusqlite::Error> {
    Ok(KeyInfo {
        key: row.get(0)?,
        version: row.get::<_, i64>(1)?.unsigned_abs(),
        size_bytes: row.get::<_, i64>(2)?.unsigned_abs(),
        updated_at: Some(timestamp(row.get(3)?)),
        expires_at: row.get::<_, Option<i64>>(4)?.map(timestamp),
        tags: fields::stored_tags(&row.get::<_, Vec<u8>>(5)?),
    })
}

/// Where in the order of keys those are that a pattern can match.
pub(super) struct Range {
    pub(super) from: Value,
    pub(super) below: Value,
}

impl Range {
    /// The range of the keys after `after` that begin as `pattern` does.
    pub(super) fn new(pattern: &str, after: Option<&str>) -> Self {
        Self::of_prefix(pattern.split(['*', '?', '[']).next().unwrap_or_default(), after)
    }

    /// The range of one key.
    pub(super) fn one(key: &str) -> Self {
        Self { from: Value::Text(key.to_owned()), below: Value::Text(format!("{key}\0")) }
    }

    /// The range of the keys after `after` that begin with `prefix`.
    pub(super) fn of_prefix(prefix: &str, after: Option<&str>) -> Self {
        // No key has a NUL, so nothing is between a key and the same with one.
        let after = after.map_or_else(String::new, |after| format!("{after}\0"));
        let from = if after.as_str() > prefix { after } else { prefix.to_owned() };
        // For SQLite every text is less than every blob.
        let below = successor(prefix).map_or_else(|| Value::Blob(Vec::new()), Value::Text);
        Self { from: Value::Text(from), below }
    }
}

/// The least text that is greater than every text that begins with `prefix`, if there is one.
fn successor(prefix: &str) -> Option<String> {
    let mut text = prefix.to_owned();
    while let Some(last) = text.pop() {
        if let Some(next) = (last..=char::MAX).nth(1) {
            text.push(next);
            return Some(text);
        }
    }
    None
}

/// A number that tells one listing from another (FNV-1a). It guards against mistakes, not attacks: a
/// token leads only to keys that the caller may list anyway.
fn mark(parts: &[&[u8]]) -> u64 {
    let bytes = parts.iter().flat_map(|part| part.iter().copied().chain([0]));
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn write_token(key: &str, mark: u64) -> String {
    let hex = key.bytes().map(|byte| format!("{byte:02x}"));
    std::iter::once(format!("{mark:016x}")).chain(hex).collect()
}

fn read_token(token: &str, mark: u64) -> Option<String> {
    let key = token.strip_prefix(&format!("{mark:016x}"))?;
    let digits = key.as_bytes().chunks(2).map(|pair| {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
        u8::from_str_radix(pair, 16).ok()
    });
    let key = String::from_utf8(digits.collect::<Option<Vec<u8>>>()?).ok()?;
    fields::key("", &key).ok().map(|()| key)
}
