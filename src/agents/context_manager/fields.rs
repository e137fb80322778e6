//! What the fields of requests may hold. Each check takes where its field stands, so that the error
//! names the field as the client wrote it.

use super::config::MAX_ITEM_BYTES;
use super::item::Draft;
use crate::error::Error;
use crate::proto::opdbus::agent::context_manager::v1::{NewItem, Role, Scope};

const MAX_NAME_BYTES: usize = 256;
const MAX_SOURCE_BYTES: usize = 512;
const MAX_TAG_BYTES: usize = 64;
const MAX_TAGS: usize = 32;

/// The longest query: ranking takes time for each of its words.
const MAX_QUERY_BYTES: usize = 1024;

/// The latest time that protobuf's timestamps have, in microseconds since the epoch.
const MAX_TIME: i64 = 253_402_300_799_999_999;

/// The earliest one, the year 1.
const MIN_TIME: i64 = -62_135_596_800_000_000;

/// A name, which must be given.
pub(super) fn name(field: &str, name: &str) -> Result<(), Error> {
    line(field, name, MAX_NAME_BYTES)
}

/// Whether a context is to be saved with the end of its session, which it must have.
pub(super) fn auto_save(auto_save: bool, scope: Scope) -> Result<(), Error> {
    match scope {
        Scope::Unspecified | Scope::User if auto_save => {
            Err(Error::invalid("auto_save", "is only for the scope of a session"))
        }
        Scope::Unspecified | Scope::User | Scope::Session => Ok(()),
    }
}

/// Labels as they are stored: sorted, each once, each followed by a NUL.
pub(super) fn tags(mut tags: Vec<String>) -> Result<Vec<u8>, Error> {
    for (index, tag) in tags.iter().enumerate() {
        line(&format!("tags[{index}]"), tag, MAX_TAG_BYTES)?;
    }
    tags.sort_unstable();
    tags.dedup();
    if tags.len() > MAX_TAGS {
        return Err(Error::invalid("tags", format_args!("must be {MAX_TAGS} at most")));
    }
    Ok(tags.into_iter().flat_map(|tag| [tag.into_bytes(), vec![0]].concat()).collect())
}

/// The labels of a stored list.
pub(super) fn stored_tags(stored: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(stored).split_terminator('\0').map(str::to_owned).collect()
}

/// True if `own` has all of `wanted`; both are stored lists.
pub(super) fn bears_tags(own: &[u8], wanted: &[u8]) -> bool {
    let tags = |stored| <[u8]>::split(stored, |byte: &u8| *byte == 0).filter(|tag| !tag.is_empty());
    tags(wanted).all(|tag| tags(own).any(|own| own == tag))
}

/// A query, which may be empty.
pub(super) fn query(field: &str, query: &str) -> Result<(), Error> {
    if query.len() > MAX_QUERY_BYTES {
        return Err(Error::invalid(
            field,
            format_args!("must have {MAX_QUERY_BYTES} bytes at most, not {}", query.len()),
        ));
    }
    if query.contains('\0') {
        return Err(Error::invalid(field, "must not contain U+0000"));
    }
    Ok(())
}

/// How many are wanted: `default` when 0.
pub(super) fn count(field: &str, count: u32, default: u32, max: u32) -> Result<usize, Error> {
    if count > max {
        return Err(Error::invalid(field, format_args!("must be {max} at most, not {count}")));
    }
    Ok(usize::try_from(if count == 0 { default } else { count }).unwrap_or(usize::MAX))
}

/// A number as the tables have it.
pub(super) fn number(field: &str, number: u64) -> Result<i64, Error> {
    i64::try_from(number).map_err(|_| Error::invalid(field, "is larger than any there is"))
}

/// An optional number as the tables have it.
pub(super) fn optional(field: &str, value: Option<u64>) -> Result<Option<i64>, Error> {
    value.map(|value| number(field, value)).transpose()
}

/// The items of the field `items`.
pub(super) fn drafts(items: Vec<NewItem>) -> Result<Vec<Draft>, Error> {
    let checked = items.into_iter().enumerate().map(|(index, item)| {
        let at = format!("items[{index}].");
        let role = Role::try_from(item.role)
            .map_err(|_| Error::invalid(format!("{at}role"), "is none that this version knows"))?;
        let created_at = item.created_at.map(|time| micros(&at, &time)).transpose()?;
        let draft = Draft {
            role,
            text: item.text,
            created_at,
            pinned: item.pinned,
            source: item.source,
            importance: item.importance,
            shortened: false,
        };
        check_draft(&at, &draft)?;
        Ok(draft)
    });
    checked.collect()
}

/// What must hold of an item wherever it comes from; `at` is where it stands.
pub(super) fn check_draft(at: &str, draft: &Draft) -> Result<(), Error> {
    if draft.text.is_empty() {
        return Err(Error::invalid(format!("{at}text"), "must not be empty"));
    }
    check_text(&format!("{at}text"), &draft.text)?;
    if !draft.source.is_empty() {
        line(&format!("{at}source"), &draft.source, MAX_SOURCE_BYTES)?;
    }
    match draft.importance {
        Some(importance) if !(0.0..=1.0).contains(&importance) => {
            Err(Error::invalid(format!("{at}importance"), "must be between 0 and 1"))
        }
        _ => Ok(()),
    }
}

/// A text of an item.
pub(super) fn check_text(field: &str, text: &str) -> Result<(), Error> {
    if text.len() > MAX_ITEM_BYTES {
        return Err(Error::limit(
            "context_manager.max_item_bytes",
            MAX_ITEM_BYTES,
            format_args!("{field} has {} bytes; split it into several items", text.len()),
        )
        .with_fact("field", field));
    }
    if text.contains('\0') {
        return Err(Error::invalid(field, "must not contain U+0000"));
    }
    Ok(())
}

/// A time in microseconds since the epoch.
pub(super) fn micros(at: &str, time: &prost_types::Timestamp) -> Result<i64, Error> {
    let micros = time.seconds.checked_mul(1_000_000);
    micros
        .and_then(|micros| micros.checked_add(i64::from(time.nanos / 1000)))
        .filter(|micros| (MIN_TIME..=MAX_TIME).contains(micros))
        .filter(|_| (0..1_000_000_000).contains(&time.nanos))
        .ok_or_else(|| {
            Error::invalid(format!("{at}created_at"), "must be a time in the years 1 to 9999")
        })
}

fn line(field: &str, text: &str, max: usize) -> Result<(), Error> {
    if text.is_empty() || text.len() > max {
        return Err(Error::invalid(
            field,
            format_args!("must have 1 to {max} bytes, not {}", text.len()),
        ));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(field, "must not contain control characters"));
    }
    Ok(())
}
