//! Errors where they stand in an answer. How a call itself fails is for each transport to say.

use crate::error::Error;
use crate::proto::opdbus::v1::Failure;

/// An error as the contract has it.
#[must_use]
pub fn failure(error: &Error) -> Failure {
    let facts = error.facts().iter();
    Failure {
        reason: error.kind().reason().to_owned(),
        message: error.message().to_owned(),
        facts: facts.map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
        retry_after: error.retry_after().and_then(|delay| delay.try_into().ok()),
    }
}
