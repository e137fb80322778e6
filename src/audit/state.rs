//! What the writer of a log and those who record in it have in common: the settings, whether the log
//! can be written, what is counted meanwhile, and what people are told.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::log::{Bounds, Log};
use super::record::{Hash, Kind, Record};
use super::refusals::Refusals;
use super::{Durability, OnFailure, WARNING};
use crate::events;
use crate::status::Status;

/// What the writer and those who record have in common.
pub(super) struct State {
    pub(super) folder: PathBuf,
    pub(super) bounds: Bounds,
    pub(super) queue: usize,
    pub(super) durability: Durability,
    pub(super) on_failure: OnFailure,
    pub(super) journal: bool,
    pub(super) status: Arc<Status>,
    pub(super) failing: AtomicBool,
    /// Records that could not be kept.
    pub(super) lost: AtomicU64,
    pub(super) refusals: Mutex<Refusals>,
}

impl State {
    pub(super) fn resume(&self) -> io::Result<(Log, Vec<Record>)> {
        Log::resume(&self.folder, self.bounds)
    }

    pub(super) fn refusals(&self) -> MutexGuard<'_, Refusals> {
        // They are counts; a panic leaves none half-changed.
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_failing(&self, failing: bool) {
        self.failing.store(failing, Ordering::Release);
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn forget_lost(&self, count: u64) {
        self.lost.fetch_sub(count, Ordering::Relaxed);
    }

    pub(super) fn take_lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }

    pub(super) fn failure_text(&self, error: &io::Error) -> String {
        let then = match self.on_failure {
            OnFailure::Refuse => "calls above READ are refused until it can",
            OnFailure::Continue => {
                "calls are made all the same, and those without a record counted"
            }
        };
        format!("{WARNING}the log in {} cannot be written: {error}; {then}", self.folder.display())
    }

    /// Tells of what was found wrong with the log when it was taken up.
    pub(super) fn damaged(&self, record: &Record) {
        if let (Some(first), Some(last)) = (record.first, record.last) {
            tracing::error!(
                message_id = events::AUDIT_DAMAGED,
                "the audit log lacks the records {first} to {last} at its end; it goes on behind them"
            );
            self.status.warn(format!("audit: the records {first} to {last} are gone"));
        }
        if let (Kind::Torn, Some(bytes)) = (record.kind, record.bytes) {
            tracing::warn!(
                message_id = events::AUDIT_DAMAGED,
                "the audit log ends with {bytes} bytes of a record that was cut off; it goes on behind them"
            );
        }
    }

    /// Tells the journal of a record.
    pub(super) fn tell(&self, record: &Record, hash: Hash) {
        if !self.journal || record.decision.is_empty() {
            return;
        }
        tracing::info!(
            message_id = events::AUDIT,
            audit_seq = record.seq,
            audit_hash = %hash,
            audit_kind = record.kind.name(),
            agent = record.agent,
            operation = record.operation,
            risk = record.risk,
            transport = record.transport,
            interface = record.interface,
            caller_uid = record.uid,
            caller_pid = record.pid,
            caller = record.address,
            session = record.session,
            task = record.task,
            decision = record.decision,
            rule = record.rule,
            outcome = record.outcome,
            duration_us = record.duration_us,
            count = record.count,
            "{} {}.{}: {}",
            record.decision, record.agent, record.operation, record.outcome
        );
    }
}
