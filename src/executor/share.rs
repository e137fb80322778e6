//! What one caller may have of the service, whatever he calls and by whichever way: calls in a second,
//! calls at once, and what is held in memory for him. Who may call at all is `access.rs`.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use governor::clock::{Clock as _, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use bytes::Bytes;

use super::Executor;
use super::admit::Gate;
use super::apart::Pace;
use super::count::{Count, Taken, keep};
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
    /// Calls that run at once (`max_in_flight`). Fewer than one agent's by default, so that one caller
    /// alone cannot fill an agent.
    pub max_in_flight: usize,
    /// Calls that wait for that (`queue`).
    pub queue: usize,
    /// Calls that only wait: views, batches, followers of something (`max_waits`).
    pub max_waits: usize,
    /// Batches that run at once (`max_batches`).
    pub max_batches: usize,
    /// Requests over gRPC that come in, run, or whose answers were not taken yet (`max_streams`).
    pub max_streams: usize,
    /// Bytes of the requests that come in, wait or run (`request_bytes`).
    pub request_bytes: usize,
    /// Bytes of the responses that his clients have not taken yet (`unread_bytes`).
    pub unread_bytes: usize,
    /// Calls with request ids that are remembered (`request_ids`).
    pub request_ids: usize,
    /// Bytes of the requests and responses of those (`request_id_bytes`).
    pub request_id_bytes: usize,
    /// The processor time that a call may take in one go; the calls of who takes more go on apart from
    /// those of others for a while (`stretch_us`). Zero: never.
    pub stretch: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            per_second: [100_000, 50_000, 1000, 50, 50].map(NonZeroU32::new),
            max_in_flight: 96,
            queue: 512,
            max_waits: 8192,
            max_batches: 64,
            max_streams: 16_384,
            request_bytes: 64 << 20,
            unread_bytes: 64 << 20,
            request_ids: 16_384,
            request_id_bytes: 32 << 20,
            stretch: Duration::from_micros(200),
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
    pub(super) pace: Pace,
    pub(super) waits: Arc<Count>,
    pub(super) batches: Arc<Count>,
    streams: Arc<Count>,
    pub(super) request_bytes: Arc<Count>,
    unread_bytes: Arc<Count>,
    request_ids: Arc<Count>,
    request_id_bytes: Arc<Count>,
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
            pace: Pace::new(config.stretch),
            waits: Count::new(
                "limits.max_waits",
                config.max_waits,
                "too many calls of this caller only wait",
            ),
            batches: Count::new(
                "limits.max_batches",
                config.max_batches,
                "too many batches of this caller run",
            ),
            streams: Count::new(
                "limits.max_streams",
                config.max_streams,
                "too many requests of this caller are open",
            ),
            request_bytes: Count::new(
                "limits.request_bytes",
                config.request_bytes,
                "the requests of this caller that come in, wait or run have too many bytes",
            ),
            unread_bytes: Count::new(
                "limits.unread_bytes",
                config.unread_bytes,
                "this caller's clients do not read the responses that wait for them",
            ),
            request_ids: Count::new(
                "limits.request_ids",
                config.request_ids,
                "too many calls of this caller with request ids are remembered",
            ),
            request_id_bytes: Count::new(
                "limits.request_id_bytes",
                config.request_id_bytes,
                "the calls of this caller with request ids that are remembered have too many bytes",
            ),
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

    /// Room among what is remembered of calls with request ids, for a request of so many bytes.
    ///
    /// # Errors
    /// `LimitExceeded` if there is none.
    pub(super) fn remember(&self, bytes: usize) -> Result<Remembered, Error> {
        let id = self.request_ids.take(1)?;
        // What the last response had too much is seen by the next request.
        self.request_id_bytes.check()?;
        Ok(Remembered { _id: id, bytes: self.request_id_bytes.take(bytes)? })
    }
}

/// What is remembered of a call with a request id.
#[derive(Debug)]
pub(super) struct Remembered {
    _id: Taken,
    bytes: Taken,
}

impl Remembered {
    /// Counts its response, which is kept whatever its size.
    pub(super) fn response(&mut self, bytes: usize) {
        self.bytes.add(bytes);
    }
}

/// One request of a caller, as far as the transport has to do with it: from its head until the last byte
/// of the answer was taken.
#[derive(Debug)]
pub struct Exchange {
    _stream: Taken,
    requests: Arc<Count>,
    unread: Arc<Count>,
}

/// A message that comes in, in so far as it is there, or that waits until it is taken.
#[derive(Debug)]
pub struct Coming(Taken);

impl Executor {
    /// A place for a request of `caller` that comes in.
    ///
    /// # Errors
    /// `LimitExceeded` if too many of his are open; it is counted.
    pub fn exchange(&self, caller: &Caller) -> Result<Exchange, Error> {
        let share = self.shares.load().of(caller);
        let stream = share.streams.take(1);
        Ok(Exchange {
            _stream: stream.inspect_err(|_| self.reject(Rejection::CallerLimit))?,
            requests: Arc::clone(&share.request_bytes),
            unread: Arc::clone(&share.unread_bytes),
        })
    }

    /// A message of `caller` of which nothing has come yet, for a transport whose requests come without
    /// an exchange.
    #[must_use]
    pub fn coming(&self, caller: &Caller) -> Coming {
        Coming(self.shares.load().of(caller).request_bytes.none())
    }
}

impl Exchange {
    /// A message of which nothing has come yet.
    #[must_use]
    pub fn coming(&self) -> Coming {
        Coming(self.requests.none())
    }

    /// Checks that the caller's clients read what they are sent.
    ///
    /// # Errors
    /// `LimitExceeded` if too much waits for them.
    pub fn check_unread(&self) -> Result<(), Error> {
        self.unread.check()
    }

    /// The same bytes of a response, counted until they are sent or thrown away.
    #[must_use]
    pub fn unread(&self, response: Bytes) -> Bytes {
        keep(&self.unread, response)
    }
}

impl Coming {
    /// Notes that `bytes` of it are there.
    ///
    /// # Errors
    /// `LimitExceeded` if the caller's requests have too many.
    pub fn holds(&mut self, bytes: usize) -> Result<(), Error> {
        self.0.set(bytes)
    }

    /// What is there of this one; in its place the next one comes, of which there is nothing yet.
    #[must_use]
    pub fn whole(&mut self) -> Self {
        let next = Self(self.0.afresh());
        std::mem::replace(self, next)
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
}
