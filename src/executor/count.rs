//! A bound on something that one caller has, and how much of it is taken. Whose it is, and what is
//! done about who meets it, is not known here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::admit::RETRY_AFTER;
use crate::error::Error;

/// The bound, and what is taken.
#[derive(Debug)]
pub(super) struct Count {
    taken: AtomicUsize,
    limit: usize,
    /// Its key in the configuration.
    key: &'static str,
    /// What is said of it to who meets it.
    problem: &'static str,
}

impl Count {
    pub(super) fn new(key: &'static str, limit: usize, problem: &'static str) -> Arc<Self> {
        Arc::new(Self { taken: AtomicUsize::new(0), limit, key, problem })
    }

    /// Takes `amount` until what it gives is dropped.
    ///
    /// # Errors
    /// `LimitExceeded` if that is too much, unless nothing else is taken: how large one alone may be is
    /// decided elsewhere.
    pub(super) fn take(self: &Arc<Self>, amount: usize) -> Result<Taken, Error> {
        let mut taken = self.none();
        taken.set(amount).map(|()| taken)
    }

    /// What has taken nothing yet.
    pub(super) fn none(self: &Arc<Self>) -> Taken {
        Taken { count: Arc::clone(self), amount: 0 }
    }

    /// Checks that there is something left.
    ///
    /// # Errors
    /// `LimitExceeded` if there is nothing.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.taken.load(Ordering::Relaxed) < self.limit { Ok(()) } else { Err(self.refusal()) }
    }

    fn refusal(&self) -> Error {
        Error::limit(self.key, self.limit, self.problem).with_retry_after(RETRY_AFTER)
    }
}

/// What is taken; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Taken {
    count: Arc<Count>,
    amount: usize,
}

impl Taken {
    /// Has `amount` taken from here on, be it more or less than before.
    ///
    /// # Errors
    /// As [`Count::take`]; what was asked for counts as taken even so, until this is dropped.
    pub(super) fn set(&mut self, amount: usize) -> Result<(), Error> {
        let own = std::mem::replace(&mut self.amount, amount);
        let Some(more) = amount.checked_sub(own) else {
            self.count.taken.fetch_sub(own - amount, Ordering::Relaxed);
            return Ok(());
        };
        let before = self.count.taken.fetch_add(more, Ordering::Relaxed);
        let fits = before.saturating_add(more) <= self.count.limit || before <= own;
        if fits { Ok(()) } else { Err(self.count.refusal()) }
    }

    /// Something else to be counted by the same bound, which has taken nothing yet.
    pub(super) fn afresh(&self) -> Self {
        self.count.none()
    }

    /// Takes `amount` more, of what is there already, whether it fits or not.
    pub(super) fn add(&mut self, amount: usize) {
        self.count.taken.fetch_add(amount, Ordering::Relaxed);
        self.amount += amount;
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.count.taken.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

/// The same `bytes`, which count as taken until the last copy of them is dropped, whether they fit or
/// not.
pub(super) fn keep(count: &Arc<Count>, bytes: Bytes) -> Bytes {
    struct Kept(Bytes, #[expect(dead_code, reason = "dropped with the bytes")] Taken);

    impl AsRef<[u8]> for Kept {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    let mut taken = count.none();
    taken.add(bytes.len());
    Bytes::from_owner(Kept(bytes, taken))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_comes_back_also_from_the_refused() {
        let count = Count::new("limits.request_bytes", 100, "too many");
        let large = count.take(500).unwrap();
        assert!(count.take(1).is_err());
        drop(large);
        let first = count.take(60).unwrap();
        let refused = count.take(60).unwrap_err();
        assert_eq!(refused.fact("limit"), Some("limits.request_bytes"));
        assert!(refused.retry_after().is_some());
        drop(first);
        drop(count.take(60).unwrap());
        assert_eq!(count.taken.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_that_grows_alone_may_and_beside_others_may_not() {
        let count = Count::new("limits.request_bytes", 100, "too many");
        let mut one = count.take(60).unwrap();
        one.set(600).unwrap();
        one.set(60).unwrap();
        let other = count.take(30).unwrap();
        assert!(one.set(80).is_err());
        drop((one, other));
        assert!(count.check().is_ok());
        let kept = keep(&count, Bytes::from_static(&[0; 100]));
        let copy = kept.clone();
        drop(kept);
        assert!(count.check().is_err());
        drop(copy);
        assert!(count.check().is_ok());
    }
}
