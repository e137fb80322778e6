//! Errors where they stand in an answer, as in the item of a batch or in a task that has ended. How a
//! call itself fails is each transport's own.

use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::proto::opdbus::v1::Failure;

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        let facts = error.facts().iter().map(|(name, value)| (name.to_string(), value.clone()));
        Self {
            reason: error.kind().reason().to_owned(),
            message: error.message().to_owned(),
            facts: facts.collect(),
            retry_after: error
                .retry_after()
                .and_then(|delay| prost_types::Duration::try_from(delay).ok()),
        }
    }
}

impl From<Failure> for Error {
    /// A reason that is none of today's is a fault of op-dbus itself.
    fn from(failure: Failure) -> Self {
        let kind = ErrorKind::ALL.into_iter().find(|kind| kind.reason() == failure.reason);
        let mut error = Self::new(kind.unwrap_or(ErrorKind::Internal), failure.message);
        for (name, value) in failure.facts {
            error = error.with_fact(name, value);
        }
        match failure.retry_after.map(Duration::try_from) {
            Some(Ok(delay)) => error.with_retry_after(delay),
            Some(Err(_)) | None => error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_the_same_after_the_way_there_and_back() {
        for kind in ErrorKind::ALL {
            let error = Error::new(kind, "a text")
                .with_fact("field", "key")
                .with_retry_after(Duration::from_millis(100));
            let back = Error::from(Failure::from(&error));
            assert_eq!(back.kind(), kind);
            assert_eq!((back.message(), back.fact("field")), ("a text", Some("key")));
            assert_eq!(back.retry_after(), error.retry_after());
        }
    }
}
