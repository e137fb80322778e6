//! What one caller may have of the service, whatever he calls and by whichever way: calls in a second,
//! calls at once, bytes of requests at once. Who may call at all is `access.rs`.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use governor::clock::{Clock as _, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use super::admit::Gate;
use crate::call::Caller;
use crate::error::Error;
use crate::metrics::{Metrics, Rejection};
use crate::proto::opdbus::v1::Risk;

/// Callers beyond this number are forgotten when nothing of theirs runs.
const REMEMBERED: usize = 1024;

/// The shares of callers (`[limits]`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Calls in a second by the risk of the operation, from READ to ADMIN; the same number may come at
    /// once. `None`: any number.
    pub per_second: [Option<NonZeroU32>; 5],
    /// Calls that run at once (`max_in_flight`).
    pub max_in_flight: usize,
    /// Calls that wait for that (`queue`).
    pub queue: usize,
    /// Bytes of the requests of calls that run or wait (`request_bytes`).
    pub request_bytes: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            per_second: [100_000, 50_000, 1000, 50, 50].map(NonZeroU32::new),
            max_in_flight: 192,
            queue: 512,
            request_bytes: 64 << 20,
        }
    }
}

/// The keys of [`Config::per_second`].
const RATES: [&str; 5] = [
    "limits.read_per_second",
    "limits.write_per_second",
    "limits.execute_per_second",
    "limits.deploy_per_second",
    "limits.admin_per_second",
];

/// A forgotten risk is the gravest.
fn position(risk: Risk) -> usize {
    match risk {
        Risk::Read => 0,
        Risk::Write => 1,
        Risk::Execute => 2,
        Risk::Deploy => 3,
        Risk::Admin | Risk::Unspecified => 4,
    }
}

type Rate =
    RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

/// The shares of all callers.
pub(super) struct Shares {
    config: Config,
    /// By uid; `None` for those of whom nobody knows who they are.
    by_uid: RwLock<HashMap<Option<u32>, Arc<Share>>>,
}

/// The share of one caller.
pub(super) struct Share {
    config: Config,
    rates: [Option<Rate>; 5],
    pub(super) gate: Gate,
    request_bytes: AtomicUsize,
}

impl Shares {
    pub(super) fn new(config: Config) -> Self {
        Self { config, by_uid: RwLock::default() }
    }

    /// The share of `caller`.
    pub(super) fn of(&self, caller: &Caller) -> Arc<Share> {
        let uid = caller.uid();
        let known = self.by_uid.read().unwrap_or_else(PoisonError::into_inner).get(&uid).cloned();
        known.unwrap_or_else(|| {
            let mut by_uid = self.by_uid.write().unwrap_or_else(PoisonError::into_inner);
            if by_uid.len() >= REMEMBERED {
                by_uid.retain(|_, share| Arc::strong_count(share) > 1);
            }
            let share = || Arc::new(Share::new(&self.config, uid));
            Arc::clone(by_uid.entry(uid).or_insert_with(share))
        })
    }
}

impl Share {
    fn new(config: &Config, uid: Option<u32>) -> Self {
        let whose = uid.map_or("an unknown caller".to_owned(), |uid| format!("user {uid}"));
        let rate =
            |limit: NonZeroU32| Rate::direct_with_clock(Quota::per_second(limit), MonotonicClock);
        Self {
            rates: config.per_second.map(|limit| limit.map(rate)),
            gate: Gate::caller(config, &whose),
            request_bytes: AtomicUsize::new(0),
            config: config.clone(),
        }
    }

    /// Counts a call of an operation of this risk.
    ///
    /// # Errors
    /// `LimitExceeded` if there were too many in a short time; says when the next one may come.
    pub(super) fn take(&self, risk: Risk, metrics: &Metrics) -> Result<(), Error> {
        let position = position(risk);
        let Some(rate) = &self.rates[position] else { return Ok(()) };
        rate.check().map_err(|refused| {
            metrics.rejected(Rejection::Rate);
            let limit = self.config.per_second[position].map_or(0, NonZeroU32::get);
            let text = format_args!("too many calls of risk {} in a second", risk.as_str_name());
            Error::limit(RATES[position], limit, text)
                .with_retry_after(refused.wait_time_from(MonotonicClock.now()))
        })
    }

    /// Holds `bytes` of a request until what it gives is dropped.
    ///
    /// # Errors
    /// `LimitExceeded` if the caller's requests that run or wait have too many.
    pub(super) fn hold(self: &Arc<Self>, bytes: usize, metrics: &Metrics) -> Result<Held, Error> {
        let held = Held { share: Arc::clone(self), bytes };
        let before = self.request_bytes.fetch_add(bytes, Ordering::Relaxed);
        // One request alone is never too large here: its size has a limit of its own.
        if before > 0 && before.saturating_add(bytes) > self.config.request_bytes {
            metrics.rejected(Rejection::CallerBytes);
            let text = "the requests of this caller that run or wait have too many bytes";
            return Err(Error::limit("limits.request_bytes", self.config.request_bytes, text)
                .with_retry_after(super::admit::RETRY_AFTER));
        }
        Ok(held)
    }
}

/// Bytes of a request that runs or waits.
pub(super) struct Held {
    share: Arc<Share>,
    bytes: usize,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.share.request_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(change: impl FnOnce(&mut Config)) -> Arc<Share> {
        let mut config = Config::default();
        change(&mut config);
        Arc::new(Share::new(&config, Some(1000)))
    }

    #[test]
    fn each_risk_has_its_own_rate_and_the_refused_hear_when_to_come_again() {
        let metrics = Metrics::new().unwrap();
        let share = share(|config| config.per_second = [3, 1, 1, 1, 1].map(NonZeroU32::new));
        for _ in 0..3 {
            share.take(Risk::Read, &metrics).unwrap();
        }
        let refused = share.take(Risk::Read, &metrics).unwrap_err();
        assert_eq!(refused.fact("limit"), Some("limits.read_per_second"));
        assert!(refused.retry_after().is_some_and(|wait| wait.as_millis() <= 334));
        share.take(Risk::Write, &metrics).unwrap();
        share.take(Risk::Admin, &metrics).unwrap();
        // What says nothing of its risk is as grave as can be.
        assert!(share.take(Risk::Unspecified, &metrics).is_err());
    }

    #[test]
    fn bytes_are_given_back_also_by_the_refused() {
        let metrics = Metrics::new().unwrap();
        let share = share(|config| config.request_bytes = 100);
        let large = share.hold(500, &metrics).unwrap();
        assert!(share.hold(1, &metrics).is_err());
        drop(large);
        let first = share.hold(60, &metrics).unwrap();
        let refused = share.hold(60, &metrics).err().unwrap();
        assert_eq!(refused.fact("limit"), Some("limits.request_bytes"));
        drop(first);
        share.hold(60, &metrics).unwrap();
        assert_eq!(share.request_bytes.load(Ordering::Relaxed), 0);
    }
}
