//! Which keys a stream watches. Patterns mean here what they mean to SQLite's GLOB.

use crate::agents::memory::fields;
use crate::agents::memory::list::Range;
use crate::error::Error;
use crate::proto::opdbus::agent::memory::v1::watch_request;

/// Which keys of a namespace.
#[derive(Clone, Debug, Default)]
pub(in super::super) enum Keys {
    #[default]
    All,
    One(String),
    Prefix(String),
    Pattern(String),
}

impl Keys {
    pub(super) fn check(keys: Option<watch_request::Keys>) -> Result<Self, Error> {
        Ok(match keys {
            None => Self::All,
            Some(watch_request::Keys::Key(key)) => {
                fields::key("", &key)?;
                Self::One(key)
            }
            Some(watch_request::Keys::Prefix(prefix)) => {
                fields::prefix(&prefix)?;
                Self::Prefix(prefix)
            }
            Some(watch_request::Keys::Pattern(pattern)) => {
                fields::pattern("", "pattern", &pattern)?;
                Self::Pattern(pattern)
            }
        })
    }

    pub(super) fn matches(&self, key: &str) -> bool {
        match self {
            Self::All => true,
            Self::One(one) => one == key,
            Self::Prefix(prefix) => key.starts_with(prefix),
            Self::Pattern(pattern) => glob(pattern, key),
        }
    }

    /// Where in the order of keys they are.
    pub(super) fn range(&self, after: Option<&str>) -> Range {
        match self {
            Self::All => Range::of_prefix("", after),
            Self::One(key) => Range::one(key),
            Self::Prefix(prefix) => Range::of_prefix(prefix, after),
            Self::Pattern(pattern) => Range::new(pattern, after),
        }
    }
}

/// True if `key` matches `pattern`.
pub(in super::super) fn glob(pattern: &str, key: &str) -> bool {
    let (mut pattern, mut key) = (pattern, key);
    // Where to go on if what follows the last `*` does not match here.
    let mut again: Option<(&str, &str)> = None;
    loop {
        let mut rest = pattern.chars();
        let step = match rest.next() {
            Some('*') => {
                again = Some((rest.as_str(), key));
                Some((rest.as_str(), key))
            }
            None if key.is_empty() => return true,
            None => None,
            Some(first) => match_one(first, rest.as_str(), key),
        };
        (pattern, key) = match step {
            Some(next) => next,
            None => {
                let Some((after_star, from)) = again else { return false };
                let mut characters = from.chars();
                if characters.next().is_none() {
                    return false;
                }
                again = Some((after_star, characters.as_str()));
                (after_star, characters.as_str())
            }
        };
    }
}

/// Matches one character of `key` with the element of a pattern that begins with `first`; gives what is
/// left of both.
fn match_one<'a>(first: char, rest: &'a str, key: &'a str) -> Option<(&'a str, &'a str)> {
    let mut characters = key.chars();
    let character = characters.next()?;
    let rest = match first {
        '?' => rest,
        '[' => in_set(rest, character)?,
        literal if literal == character => rest,
        _ => return None,
    };
    Some((rest, characters.as_str()))
}

/// What follows the set that `set` begins with, if `character` is in it. A `]` that comes first is one
/// of the set.
fn in_set(set: &str, character: char) -> Option<&str> {
    let (inverted, set) = match set.strip_prefix('^') {
        Some(set) => (true, set),
        None => (false, set),
    };
    let mut characters = set.chars();
    let mut found = false;
    let mut before: Option<char> = None;
    let mut is_first = true;
    loop {
        let next = characters.next()?;
        if next == ']' && !is_first {
            return (found != inverted).then_some(characters.as_str());
        }
        let mut ahead = characters.clone();
        match (next, before, ahead.next()) {
            ('-', Some(low), Some(high)) if high != ']' => {
                found |= (low..=high).contains(&character);
                characters = ahead;
                before = None;
            }
            _ => {
                found |= next == character;
                // As in SQLite, a range does not begin with the bracket that is a member.
                before = (next != ']').then_some(next);
            }
        }
        is_first = false;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rusqlite::Connection;

    use super::glob;

    #[test]
    fn a_bracket_that_is_a_member_begins_no_range() {
        for (key, expected) in [("]", true), ("-", true), ("b", true), ("a", false)] {
            assert_eq!(glob("[]-b]", key), expected, "{key}");
        }
    }

    proptest! {
        #[test]
        fn a_pattern_matches_as_in_sqlite(
            pattern in "[ab*?\\[\\]^é-]{0,8}",
            key in "[ab\\]^é-]{0,8}",
        ) {
            let database = Connection::open_in_memory().unwrap();
            let expected: bool =
                database.query_row("SELECT ?1 GLOB ?2", [&key, &pattern], |row| row.get(0)).unwrap();
            prop_assert_eq!(glob(&pattern, &key), expected);
        }
    }
}
