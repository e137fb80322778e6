//! The thread that writes: it takes what waits as one batch, tries again what could not be written,
//! and tells the journal. What is recorded is decided elsewhere.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::WARNING;
use super::event::{self, Event};
use super::log::Log;
use super::record::{Kind, Record};
use super::state::State;
use crate::events;

/// How many records are written at once.
const MAX_BATCH: usize = 256;

/// How often writing is tried again while the log cannot be written.
const RETRY: Duration = Duration::from_secs(1);

/// What the thread is sent.
pub(super) enum Job {
    /// To be recorded. The place is free again when it is; who waits is told then.
    Event { event: Box<Event>, place: OwnedSemaphorePermit, written: Option<oneshot::Sender<()>> },
    /// Refusals were counted, and are to be recorded in time.
    Refusals,
    /// To write what there is, and end.
    Close(oneshot::Sender<()>),
}

/// A record that waits to be written.
struct Waiting {
    record: Record,
    _place: Option<OwnedSemaphorePermit>,
    written: Option<oneshot::Sender<()>>,
}

pub(super) struct Writer {
    jobs: Receiver<Job>,
    state: Arc<State>,
    /// The folder, locked.
    held: File,
    log: Log,
    waiting: Vec<Waiting>,
    failing: bool,
    /// True while the log cannot be tended, which is told once.
    untended: bool,
    closing: Option<oneshot::Sender<()>>,
}

impl Writer {
    /// Writes the records that the log owes and the one that it is taken up.
    ///
    /// # Errors
    /// If they cannot be written.
    pub(super) fn new(
        jobs: Receiver<Job>,
        state: Arc<State>,
        held: File,
        (mut log, mut owed): (Log, Vec<Record>),
    ) -> io::Result<Self> {
        for record in &owed {
            state.damaged(record);
        }
        owed.push(own(Kind::Open));
        log.append(&mut owed)?;
        log.tend()?;
        let waiting = Vec::new();
        Ok(Self { jobs, state, held, log, waiting, failing: false, untended: false, closing: None })
    }

    /// Writes until it is closed or every sender is gone.
    pub(super) fn run(mut self) {
        let mut open = true;
        while open && self.closing.is_none() {
            open = self.receive();
            if !self.failing && self.state.refusals().due().is_some_and(|due| due.is_zero()) {
                self.take_refusals();
            }
            self.write();
        }
        self.take_refusals();
        self.waiting.push(Waiting { record: own(Kind::Close), _place: None, written: None });
        self.write();
        if let Err(error) = self.log.sync() {
            tracing::warn!(%error, "the audit log may not outlive a power cut");
        }
        if self.failing {
            tracing::error!(
                message_id = events::AUDIT_FAILED,
                "the service stops without having written {} records to the audit log",
                self.waiting.len() as u64 + self.state.take_lost()
            );
        }
        drop(self.held);
        if let Some(closed) = self.closing {
            // Who closes may have stopped waiting.
            closed.send(()).ok();
        }
    }

    /// Waits for something to do, and takes what there is; false if nothing will come any more.
    fn receive(&mut self) -> bool {
        let due = if self.failing { Some(RETRY) } else { self.state.refusals().due() };
        let first = match due {
            None => self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(time) => self.jobs.recv_timeout(time),
        };
        match first {
            Ok(job) => self.take(job),
            Err(RecvTimeoutError::Timeout) => return true,
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        for _ in 1..MAX_BATCH {
            let Ok(job) = self.jobs.try_recv() else { break };
            self.take(job);
        }
        true
    }

    fn take(&mut self, job: Job) {
        match job {
            Job::Event { event, place, written } => {
                let record = event.record(1);
                self.waiting.push(Waiting { record, _place: Some(place), written });
            }
            Job::Refusals => {}
            Job::Close(closed) => self.closing = Some(closed),
        }
    }

    fn take_refusals(&mut self) {
        let records = self.state.refusals().take();
        let waiting = |record| Waiting { record, _place: None, written: None };
        self.waiting.extend(records.into_iter().map(waiting));
    }

    /// Writes what waits; what cannot be written goes on waiting.
    fn write(&mut self) {
        let lost = if self.failing || self.waiting.is_empty() { 0 } else { self.state.take_lost() };
        if lost > 0 {
            let record = Record { count: Some(lost), ..own(Kind::Lost) };
            self.waiting.push(Waiting { record, _place: None, written: None });
        }
        while !self.waiting.is_empty() {
            if let Err(error) = self.write_batch() {
                self.failed(&error);
                return;
            }
        }
    }

    fn write_batch(&mut self) -> io::Result<()> {
        let mut owed = Vec::new();
        if self.failing {
            let (log, records) = self.state.resume()?;
            self.log = log;
            owed = records;
            let lost = self.state.lost();
            if lost > 0 {
                owed.push(Record { count: Some(lost), ..own(Kind::Lost) });
            }
        }
        let size = self.waiting.len().min(MAX_BATCH);
        let debts = owed.len();
        owed.extend(self.waiting[..size].iter().map(|waiting| waiting.record.clone()));
        let hashes = self.log.append(&mut owed)?;
        self.tend();
        if self.failing {
            self.recovered(&owed[..debts]);
        }
        for (record, hash) in owed.iter().zip(&hashes).skip(debts) {
            self.state.tell(record, *hash);
        }
        for waiting in self.waiting.drain(..size) {
            if let Some(written) = waiting.written {
                // The caller may be gone.
                written.send(()).ok();
            }
        }
        Ok(())
    }

    fn tend(&mut self) {
        let tended = self.log.tend();
        if let (Err(error), false) = (&tended, self.untended) {
            tracing::warn!(%error, "the audit log is written, but cannot be noted or make room");
        }
        self.untended = tended.is_err();
    }

    fn failed(&mut self, error: &io::Error) {
        // The call has been made: its answer does not wait for a disk.
        self.waiting.iter_mut().for_each(|waiting| waiting.written = None);
        if std::mem::replace(&mut self.failing, true) {
            return;
        }
        self.state.set_failing(true);
        let text = self.state.failure_text(error);
        tracing::error!(message_id = events::AUDIT_FAILED, "{text}");
        self.state.status.replace_warnings(WARNING, vec![text]);
    }

    fn recovered(&mut self, owed: &[Record]) {
        self.failing = false;
        let lost: u64 = owed
            .iter()
            .filter(|record| record.kind == Kind::Lost)
            .filter_map(|record| record.count)
            .sum();
        self.state.forget_lost(lost);
        self.state.set_failing(false);
        self.state.status.replace_warnings(WARNING, Vec::new());
        tracing::warn!(lost, "the audit log is written again");
        owed.iter().for_each(|record| self.state.damaged(record));
    }
}

/// A record of the log itself.
fn own(kind: Kind) -> Record {
    Record { time: event::time(SystemTime::now()), kind, ..Record::default() }
}
