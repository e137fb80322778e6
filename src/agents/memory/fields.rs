//! What the fields of requests may hold. Each check takes where its field stands (`success[1].remember.`
//! or nothing), so that the error names the field as the client wrote it.

use std::sync::Arc;

use crate::call::Context;
use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::agent::memory::v1 as proto;

const MAX_KEY_BYTES: usize = 256;
const MAX_NAMESPACE_BYTES: usize = 64;
/// How many namespaces a request chooses at most.
const MAX_NAMESPACES: usize = 32;
const MAX_TAG_BYTES: usize = 64;
const MAX_TAGS: usize = 32;
const DEFAULT_NAMESPACE: &str = "default";

/// Whose keys, and which of them.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    pub(super) uid: u32,
    /// As it is stored.
    pub(super) namespace: String,
    /// The session that the keys are kept for.
    pub(super) session: Option<Arc<str>>,
}

impl Scope {
    /// The keys that a call names with the fields `scope` and `namespace`.
    pub(super) fn of(
        context: &Context,
        at: &str,
        scope: i32,
        namespace: &str,
    ) -> Result<Self, Error> {
        let Owner { uid, session } = Owner::of(context, at, scope)?;
        let namespace = if namespace.is_empty() { DEFAULT_NAMESPACE } else { namespace };
        text(at, "namespace", namespace, MAX_NAMESPACE_BYTES)?;
        let namespace = match &session {
            None => namespace.to_owned(),
            Some(session) => format!("{session}\0{namespace}"),
        };
        Ok(Self { uid, namespace, session })
    }
}

/// Whose keys: a user's, or those of one of his sessions.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) session: Option<Arc<str>>,
}

impl Owner {
    pub(super) fn of(context: &Context, at: &str, scope: i32) -> Result<Self, Error> {
        let uid = context.caller.uid().ok_or_else(|| {
            Error::new(ErrorKind::Unauthenticated, "the memory of nobody cannot be reached")
        })?;
        let session = match proto::Scope::try_from(scope) {
            Ok(proto::Scope::Unspecified | proto::Scope::User) => None,
            Ok(proto::Scope::Session) => Some(session(context, at)?),
            Err(_unknown) => return Err(Error::invalid(format!("{at}scope"), "is none there is")),
        };
        Ok(Self { uid, session })
    }

    /// The namespace that is stored as `stored`, if it is one of this owner's.
    pub(super) fn namespace<'a>(&self, stored: &'a str) -> Option<&'a str> {
        match (&self.session, stored.split_once('\0')) {
            (None, None) => Some(stored),
            (Some(own), Some((session, namespace))) => (**own == *session).then_some(namespace),
            (None, Some(_)) | (Some(_), None) => None,
        }
    }
}

fn session(context: &Context, at: &str) -> Result<Arc<str>, Error> {
    let session = context.session.as_ref().filter(|id| !id.is_empty() && !id.contains('\0'));
    session.cloned().ok_or_else(|| {
        Error::invalid(
            format!("{at}scope"),
            "is SESSION, but the call is in none; name it as metadata opdbus-session-id, or on D-Bus \
             as option session-id",
        )
    })
}

/// Namespaces to choose from; all when there are none.
pub(super) fn namespaces(namespaces: &[String]) -> Result<(), Error> {
    if namespaces.len() > MAX_NAMESPACES {
        let count = namespaces.len();
        return Err(Error::invalid(
            "namespaces",
            format_args!("must be {MAX_NAMESPACES} at most, not {count}"),
        ));
    }
    namespaces.iter().enumerate().try_for_each(|(index, namespace)| {
        text("", &format!("namespaces[{index}]"), namespace, MAX_NAMESPACE_BYTES)
    })
}

pub(super) fn key(at: &str, key: &str) -> Result<(), Error> {
    text(at, "key", key, MAX_KEY_BYTES)
}

/// What keys begin with.
pub(super) fn prefix(prefix: &str) -> Result<(), Error> {
    text("", "prefix", prefix, MAX_KEY_BYTES)
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

/// True if the stored labels `own` hold all of the stored labels `wanted`.
pub(super) fn bears_tags(own: &[u8], wanted: &[u8]) -> bool {
    let mut wanted = wanted.split(|byte| *byte == 0).filter(|tag| !tag.is_empty());
    wanted.all(|wanted| own.split(|byte| *byte == 0).any(|tag| tag == wanted))
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
