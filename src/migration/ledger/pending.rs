//! What was counted and is not written yet. Noting a call is on its path, so nothing here waits, reads
//! files or grows beyond its bound; what becomes of the counts is decided elsewhere.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::call::{Attested, Caller, Process};
use crate::contract::Operation;
use crate::error::ErrorKind;
use crate::executor::Observed;
use crate::metrics::LedgerMetrics;
use crate::proto::opdbus::v1::Way;
use crate::storage::time;

use super::histogram::Histogram;

/// Into how many parts it is divided, so that calls seldom wait for one another.
const SHARDS: usize = 16;

/// How many calls of one kind there were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// When the first one ended or, if it may last, began: microseconds since the epoch.
    pub(super) first: i64,
    /// When the last one did.
    pub(super) last: i64,
    /// How many have ended.
    pub(super) calls: u64,
    /// Of them with an error.
    pub(super) errors: u64,
    /// How long those took that ended well.
    pub(super) times: Histogram,
}

/// A kind of calls: all that is known about who makes them, on their path, and what they are.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    source: Source,
    /// The address of the operation, which the row keeps alive.
    operation: usize,
    way: Way,
}

/// Who makes calls, as far as it is known without looking anything up.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Source {
    /// A client.
    Client {
        /// The user.
        uid: Option<u32>,
        /// The name of the token or certificate.
        token: Option<Arc<str>>,
        /// The pid and when the process started.
        process: Option<(u32, u64)>,
        /// What it calls itself.
        name: Option<Arc<str>>,
    },
    /// Whoever else there is of a user, as there is no room to tell them apart.
    Others {
        /// The user.
        uid: Option<u32>,
    },
}

/// What was counted of one kind of calls.
pub(super) struct Row {
    pub(super) process: Option<Arc<Process>>,
    pub(super) operation: Arc<Operation>,
    pub(super) counts: Counts,
}

/// The counts that wait to be written.
pub(super) struct Pending {
    shards: [Mutex<HashMap<Key, Row>>; SHARDS],
    /// How many rows all of them have.
    rows: AtomicUsize,
    max: AtomicUsize,
    metrics: LedgerMetrics,
}

impl Pending {
    /// Room for `max` rows.
    pub(super) fn new(max: usize, metrics: LedgerMetrics) -> Self {
        let (rows, max) = (AtomicUsize::new(0), AtomicUsize::new(max));
        Self { shards: Default::default(), rows, max, metrics }
    }

    /// Has room for `max` rows from now on.
    pub(super) fn set_max(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }

    /// True if nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.load(Ordering::Relaxed) == 0
    }

    /// Notes a call: that it began, or how it ended and what time it took. True if it is time to write.
    pub(super) fn note(
        &self,
        call: &Observed<'_>,
        way: Way,
        ended: Option<(Option<ErrorKind>, Duration)>,
    ) -> bool {
        let now = time::now();
        let operation = Arc::as_ptr(call.operation).addr();
        let mut key = Key { source: Source::of(call.caller, call.client_name), operation, way };
        let mut rows = self.shard(call.caller, operation);
        let known = rows.get_mut(&key);
        if let Some(row) = known {
            row.counts.note(now, ended);
            return false;
        }
        let max = self.max.load(Ordering::Relaxed);
        let count = self.rows.fetch_add(1, Ordering::Relaxed) + 1;
        if count > max {
            key.source = Source::Others { uid: call.caller.uid() };
            self.metrics.lumped(1);
            // Those that stand for many find room up to twice the bound.
            let row = rows.get_mut(&key);
            if row.is_some() || count > max.saturating_mul(2) {
                self.rows.fetch_sub(1, Ordering::Relaxed);
                match row {
                    Some(row) => row.counts.note(now, ended),
                    None => self.metrics.dropped(1),
                }
                return true;
            }
        }
        let mut row = Row {
            process: match key.source {
                Source::Client { .. } => call.caller.process.clone(),
                Source::Others { .. } => None,
            },
            operation: Arc::clone(call.operation),
            counts: Counts { first: now, last: now, ..Counts::default() },
        };
        row.counts.note(now, ended);
        rows.insert(key, row);
        count > max / 2
    }

    /// Takes all rows out, each with who made the calls and their way.
    pub(super) fn take(&self) -> Vec<(Source, Way, Row)> {
        let mut taken = Vec::new();
        for shard in &self.shards {
            let rows = std::mem::take(&mut *lock(shard));
            self.rows.fetch_sub(rows.len(), Ordering::Relaxed);
            taken.extend(rows.into_iter().map(|(key, row)| (key.source, key.way, row)));
        }
        taken
    }

    fn shard(&self, caller: &Caller, operation: usize) -> MutexGuard<'_, HashMap<Key, Row>> {
        let process = caller.process.as_deref().map_or(0, Process::pid);
        lock(&self.shards[index(process, operation)])
    }
}

fn index(process: u32, operation: usize) -> usize {
    // Addresses of operations end in zeros.
    (process as usize).wrapping_add(operation >> 5) % SHARDS
}

fn lock(shard: &Mutex<HashMap<Key, Row>>) -> MutexGuard<'_, HashMap<Key, Row>> {
    // Each use is one operation, so a panic elsewhere leaves nothing half-done.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Source {
    fn of(caller: &Caller, name: Option<&Arc<str>>) -> Self {
        let token = match &caller.attested {
            Attested::Token(name) | Attested::Certificate(name) => Some(Arc::clone(name)),
            Attested::Kernel | Attested::Bus | Attested::Service | Attested::Nobody => None,
        };
        let process = caller.process.as_ref();
        Self::Client {
            uid: caller.uid(),
            token,
            process: process.map(|process| (process.pid(), process.started())),
            name: name.cloned(),
        }
    }
}

impl Counts {
    fn note(&mut self, now: i64, ended: Option<(Option<ErrorKind>, Duration)>) {
        self.last = self.last.max(now);
        let Some((error, time)) = ended else { return };
        self.calls += 1;
        match error {
            None => self.times.add(time),
            Some(_) => self.errors += 1,
        }
    }

    /// Adds what another holds.
    pub(super) fn merge(&mut self, other: &Self) {
        self.first = self.first.min(other.first);
        self.last = self.last.max(other.last);
        self.calls = self.calls.saturating_add(other.calls);
        self.errors = self.errors.saturating_add(other.errors);
        self.times.merge(&other.times);
    }
}
