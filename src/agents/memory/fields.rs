//! What the fields of requests may hold. Each check takes where its field stands (`success[1].remember.`
//! or nothing), so that the error names the field as the client wrote it.

use crate::error::Error;

const MAX_KEY_BYTES: usize = 256;
const MAX_NAMESPACE_BYTES: usize = 64;
const MAX_TAG_BYTES: usize = 64;
const MAX_TAGS: usize = 32;
const DEFAULT_NAMESPACE: &str = "default";

/// Whose keys, and which of them.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) uid: u32,
    pub(super) namespace: String,
}

pub(super) fn namespace(at: &str, namespace: String) -> Result<String, Error> {
    if namespace.is_empty() {
        return Ok(DEFAULT_NAMESPACE.to_owned());
    }
    text(at, "namespace", &namespace, MAX_NAMESPACE_BYTES)?;
    Ok(namespace)
}

pub(super) fn key(at: &str, key: &str) -> Result<(), Error> {
    text(at, "key", key, MAX_KEY_BYTES)
}

/// The element `index` of the field `keys`.
pub(super) fn key_of_list(index: usize, key: &str) -> Result<(), Error> {
    text("", &format!("keys[{index}]"), key, MAX_KEY_BYTES)
}

/// A pattern: no longer than a key, and each set in it is closed.
pub(super) fn pattern(at: &str, field: &str, pattern: &str) -> Result<(), Error> {
    text(at, field, pattern, MAX_KEY_BYTES)?;
    if has_open_set(pattern) {
        return Err(Error::invalid(
            format!("{at}{field}"),
            "has a [ without its ]; a [ to be found as such is written [[]",
        ));
    }
    Ok(())
}

/// Labels as they are stored: sorted, each once, each followed by a NUL.
pub(super) fn tags(at: &str, mut tags: Vec<String>) -> Result<Vec<u8>, Error> {
    tags.sort_unstable();
    tags.dedup();
    if tags.len() > MAX_TAGS {
        return Err(Error::invalid(
            format!("{at}tags"),
            format_args!("must be {MAX_TAGS} at most"),
        ));
    }
    let mut stored = Vec::new();
    for tag in tags {
        text(at, "tags", &tag, MAX_TAG_BYTES)?;
        stored.extend_from_slice(tag.as_bytes());
        stored.push(0);
    }
    Ok(stored)
}

/// The labels of a stored list.
pub(super) fn stored_tags(stored: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(stored);
    text.split_terminator('\0').map(str::to_owned).collect()
}

fn text(at: &str, field: &str, text: &str, max: usize) -> Result<(), Error> {
    if text.is_empty() || text.len() > max {
        return Err(Error::invalid(
            format!("{at}{field}"),
            format_args!("must have 1 to {max} bytes, not {}", text.len()),
        ));
    }
    if text.contains('\0') {
        return Err(Error::invalid(format!("{at}{field}"), "must not contain U+0000"));
    }
    Ok(())
}

/// True if a `[` has no `]` that ends its set; the first character of a set is never its end.
fn has_open_set(pattern: &str) -> bool {
    let mut rest = pattern;
    while let Some((_, set)) = rest.split_once('[') {
        let set = set.strip_prefix('^').unwrap_or(set);
        let mut characters = set.chars();
        if characters.next().is_none() {
            return true;
        }
        let Some((_, after)) = characters.as_str().split_once(']') else { return true };
        rest = after;
    }
    false
}
