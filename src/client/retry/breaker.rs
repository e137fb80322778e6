//! One way's circuit breaker: after several failures in a row the way is left alone for a time, then
//! tried by one call. What is a failure of the way, and which way is taken instead, is said elsewhere.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::client::Attempt;

/// The failures in a row, with no success between, after which a way is left alone.
pub const BREAKER_FAILURES: u32 = 5;

/// How long it is left alone at first. Each time that the call which then tries it fails, it is twice as
/// long.
pub const BREAKER_FIRST_REST: Duration = Duration::from_millis(500);

/// The longest that it is left alone.
pub const BREAKER_LONGEST_REST: Duration = Duration::from_secs(15);

/// How a way's breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls take the way.
    Closed,
    /// One call tries it; the others do not take it.
    HalfOpen,
    /// No call takes it.
    Open,
}

impl BreakerState {
    /// Every state, as the metrics number them.
    pub const ALL: [Self; 3] = [Self::Closed, Self::HalfOpen, Self::Open];

    /// The name in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::HalfOpen => "half-open",
            Self::Open => "open",
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    Closed { failures: u32 },
    Open { until: Instant, rest: Duration },
    Trying { rest: Duration },
}

/// A way's breaker.
#[derive(Debug, Default)]
pub(crate) struct Breaker(Mutex<Standing>);

#[derive(Debug)]
struct Standing {
    state: State,
    /// The last failure, once there was one.
    last: Arc<[Attempt]>,
}

impl Default for Standing {
    fn default() -> Self {
        Self { state: State::Closed { failures: 0 }, last: Arc::default() }
    }
}

/// Why a call may not take the way.
#[derive(Debug)]
pub(crate) struct Rest {
    /// For how long it is left alone; zero while another call tries it.
    pub(crate) left: Duration,
    /// How it failed the last time.
    pub(crate) last: Arc<[Attempt]>,
}

/// That a call may take the way. Dropped without a word, as by a caller who gave up, it says nothing for
/// or against the way.
#[derive(Debug)]
pub(crate) struct Permit<'a> {
    breaker: &'a Breaker,
    tries: bool,
}

impl Breaker {
    /// Lets a call take the way.
    ///
    /// # Errors
    /// For how long it is left alone, and why.
    pub(crate) fn admit(&self) -> Result<Permit<'_>, Rest> {
        let mut standing = self.locked();
        let alone = |left| Err(Rest { left, last: Arc::clone(&standing.last) });
        let tries = match standing.state {
            State::Closed { .. } => false,
            State::Trying { .. } => return alone(Duration::ZERO),
            State::Open { until, rest } => {
                let left = until.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    return alone(left);
                }
                standing.state = State::Trying { rest };
                true
            }
        };
        Ok(Permit { breaker: self, tries })
    }

    /// How it stands.
    pub(crate) fn standing(&self) -> BreakerState {
        match self.locked().state {
            State::Closed { .. } => BreakerState::Closed,
            State::Trying { .. } => BreakerState::HalfOpen,
            // Its time is over, and the next call tries the way.
            State::Open { until, .. } if until <= Instant::now() => BreakerState::HalfOpen,
            State::Open { .. } => BreakerState::Open,
        }
    }

    fn locked(&self) -> MutexGuard<'_, Standing> {
        // A panic while the lock is held cannot leave the state half-changed.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// True for the call that tries a way which was left alone.
    pub(crate) const fn tries(&self) -> bool {
        self.tries
    }

    /// The way gave an answer, whatever the answer was.
    pub(crate) fn worked(mut self) {
        let mut standing = self.breaker.locked();
        // A call that began before the way was left alone says nothing of how the way is now.
        if self.tries || matches!(standing.state, State::Closed { .. }) {
            standing.state = State::Closed { failures: 0 };
        }
        self.tries = false;
    }

    /// The way failed, so.
    pub(crate) fn failed(mut self, how: impl Into<Arc<[Attempt]>>) {
        let mut standing = self.breaker.locked();
        standing.last = how.into();
        let state = &mut standing.state;
        let opened = |rest| State::Open { until: Instant::now() + rest, rest };
        match *state {
            State::Closed { failures } if failures + 1 < BREAKER_FAILURES => {
                *state = State::Closed { failures: failures + 1 };
            }
            State::Closed { .. } => *state = opened(BREAKER_FIRST_REST),
            State::Trying { rest } if self.tries => {
                *state = opened(rest.saturating_mul(2).min(BREAKER_LONGEST_REST));
            }
            State::Trying { .. } | State::Open { .. } => {}
        }
        self.tries = false;
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.tries {
            let mut standing = self.breaker.locked();
            if let State::Trying { rest } = standing.state {
                standing.state = State::Open { until: Instant::now(), rest };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(breaker: &Breaker, times: u32) {
        for _ in 0..times {
            breaker.admit().unwrap().failed([]);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_way_that_fails_is_left_alone_and_then_tried_by_one_call() {
        let breaker = Breaker::default();
        fail(&breaker, BREAKER_FAILURES - 1);
        breaker.admit().unwrap().worked();
        fail(&breaker, BREAKER_FAILURES - 1);
        assert_eq!(breaker.standing(), BreakerState::Closed);
        fail(&breaker, 1);
        assert_eq!(breaker.standing(), BreakerState::Open);
        assert!(breaker.admit().is_err_and(|rest| rest.left <= BREAKER_FIRST_REST));

        tokio::time::advance(BREAKER_FIRST_REST).await;
        assert_eq!(breaker.standing(), BreakerState::HalfOpen);
        let trial = breaker.admit().unwrap();
        assert_eq!(breaker.admit().unwrap_err().left, Duration::ZERO);
        trial.failed([]);
        assert!(breaker.admit().is_err_and(|rest| rest.left > BREAKER_FIRST_REST));

        tokio::time::advance(2 * BREAKER_FIRST_REST).await;
        breaker.admit().unwrap().worked();
        assert_eq!(breaker.standing(), BreakerState::Closed);
        assert!(breaker.admit().is_ok() && breaker.admit().is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_trial_that_is_given_up_lets_the_next_call_try() {
        let breaker = Breaker::default();
        fail(&breaker, BREAKER_FAILURES);
        tokio::time::advance(BREAKER_FIRST_REST).await;
        drop(breaker.admit().unwrap());
        breaker.admit().unwrap().worked();
        assert_eq!(breaker.standing(), BreakerState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn the_rest_is_bounded_and_old_calls_do_not_close_it() {
        let breaker = Breaker::default();
        let old = breaker.admit().unwrap();
        fail(&breaker, BREAKER_FAILURES);
        for _ in 0..10 {
            tokio::time::advance(BREAKER_LONGEST_REST).await;
            fail(&breaker, 1);
        }
        assert!(breaker.admit().is_err_and(|rest| rest.left == BREAKER_LONGEST_REST));
        old.worked();
        assert_eq!(breaker.standing(), BreakerState::Open);
    }
}
