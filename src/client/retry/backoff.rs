//! How long to wait before a call is tried again: exponential backoff with full jitter. Whether it is
//! tried again is said elsewhere.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The longest that the first pause can be.
const FIRST: Duration = Duration::from_millis(100);

/// The longest that any pause can be.
pub(crate) const LONGEST: Duration = Duration::from_secs(10);

/// The pause before the retry with this number, counted from 0: anything up to twice as much as the one
/// before could be, so that clients that failed together do not come back together.
pub(crate) fn pause(retry: u32, random: &Random) -> Duration {
    random.below(bound(retry))
}

/// The longest that the pause before a retry can be.
fn bound(retry: u32) -> Duration {
    2_u32.checked_pow(retry).map_or(LONGEST, |factor| FIRST.saturating_mul(factor)).min(LONGEST)
}

/// Numbers that differ from process to process and from one to the next. Good for jitter and samples, not
/// for secrets.
#[derive(Debug, Default)]
pub(crate) struct Random {
    keys: RandomState,
    drawn: AtomicU64,
}

impl Random {
    /// The next number.
    pub(crate) fn next(&self) -> u64 {
        self.keys.hash_one(self.drawn.fetch_add(1, Ordering::Relaxed))
    }

    /// A time from 0 to `most`.
    pub(crate) fn below(&self, most: Duration) -> Duration {
        let most = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(match most.checked_add(1) {
            Some(count) => self.next() % count,
            None => self.next(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_the_longest_and_are_spread_over_the_whole() {
        let bounds: Vec<u128> = (0..5).map(|retry| bound(retry).as_millis()).collect();
        assert_eq!(bounds, [100, 200, 400, 800, 1600]);
        for retry in [8, 31, 32, u32::MAX] {
            assert_eq!(bound(retry), LONGEST);
        }
        let random = Random::default();
        let pauses: Vec<Duration> = (0..2000).map(|_| pause(3, &random)).collect();
        assert!(pauses.iter().all(|pause| *pause <= bound(3)));
        // Each quarter of the whole gets about 500.
        for quarter in 0..4 {
            let (from, to) = (bound(3) * quarter / 4, bound(3) * (quarter + 1) / 4);
            let within = pauses.iter().filter(|pause| **pause >= from && **pause < to).count();
            assert!((350..650).contains(&within), "quarter {quarter} has {within}");
        }
    }
}
