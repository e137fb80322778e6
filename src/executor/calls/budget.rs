//! The bytes that a batch keeps: results that have not left, and those that its calls use.

use crate::error::Error;

/// A bound and what is used of it.
#[derive(Debug)]
pub(super) struct Budget {
    used: usize,
    limit: usize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Self {
        Self { used: 0, limit }
    }

    /// Takes `bytes`; `what` says of them that they do not fit.
    ///
    /// # Errors
    /// `LimitExceeded` if they do not fit.
    pub(super) fn take(&mut self, bytes: usize, what: &str) -> Result<(), Error> {
        if bytes > self.limit.saturating_sub(self.used) {
            return Err(Error::limit("batch.max_result_bytes", self.limit, what));
        }
        self.used += bytes;
        Ok(())
    }

    /// Takes `bytes` that must be kept, whether they fit or not: the text of an error, which is short.
    pub(super) fn overdraw(&mut self, bytes: usize) {
        self.used += bytes;
    }

    pub(super) fn release(&mut self, bytes: usize) {
        self.used = self.used.saturating_sub(bytes);
    }
}
