//! Errors that a part of a call met, so that they say which part.

use crate::error::Error;
use crate::storage::Failure;

/// The same error, saying in its text and as the fact `fact` where it was met.
pub(super) fn within(fact: &'static str, place: String, error: &Error) -> Error {
    let text = error.message();
    let message =
        if text.starts_with(&place) { text.to_owned() } else { format!("{place}: {text}") };
    let mut outer = Error::new(error.kind(), message).with_fact(fact, place);
    for (name, value) in error.facts() {
        outer = outer.with_fact(name.clone(), value.as_str());
    }
    outer
}

/// The same for work in the store.
pub(super) fn failed(fact: &'static str, place: String, failure: Failure) -> Failure {
    match failure {
        Failure::Refused(error) => Failure::Refused(within(fact, place, &error)),
        Failure::Sqlite(error) => Failure::Sqlite(error),
    }
}
