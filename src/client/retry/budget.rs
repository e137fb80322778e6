//! The share of calls that may be retries, so that clients of a service that is down do not keep it down.

use std::sync::atomic::{AtomicU64, Ordering};

/// What one retry takes.
const RETRY: u64 = 1000;

/// What each call that is made brings: a tenth of a retry.
const CALL: u64 = RETRY / 10;

/// The most retries that can be saved up, and how many there are at the start.
pub(crate) const MAX_SAVED: u64 = 10;

/// A bucket of retries. Over any time there are no more of them than a tenth of the calls made in it and
/// [`MAX_SAVED`].
#[derive(Debug)]
pub(crate) struct Budget(AtomicU64);

impl Default for Budget {
    fn default() -> Self {
        Self(AtomicU64::new(MAX_SAVED * RETRY))
    }
}

impl Budget {
    /// Counts a call, retries apart.
    pub(crate) fn call(&self) {
        let add = |saved: u64| {
            let full = saved.saturating_add(CALL).min(MAX_SAVED * RETRY);
            (full != saved).then_some(full)
        };
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add).ok();
    }

    /// Takes a retry, if there is one.
    pub(crate) fn take(&self) -> bool {
        let take = |saved: u64| saved.checked_sub(RETRY);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_tenth_of_the_calls_once_what_was_saved_is_used_up() {
        let budget = Budget::default();
        let taken = |calls: u64| {
            (0..calls)
                .map(|_| {
                    budget.call();
                    u64::from(budget.take()) + u64::from(budget.take())
                })
                .sum::<u64>()
        };
        assert!(taken(100) >= MAX_SAVED);
        let later = taken(1000);
        assert!((99..=101).contains(&later), "{later} of 1000");
    }

    #[test]
    fn no_more_is_saved_than_the_most() {
        let budget = Budget::default();
        for _ in 0..1000 {
            budget.call();
        }
        let taken = (0..100).filter(|_| budget.take()).count() as u64;
        assert_eq!(taken, MAX_SAVED);
    }
}
