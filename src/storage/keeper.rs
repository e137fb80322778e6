//! The thread that looks after a file while calls go on: it moves the log into the file, checks the
//! file once after the start, and sees to the owner's chore. It never writes anything of its own.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::mpsc::WeakSender;
use tokio::sync::oneshot;

use super::Chore;
use super::answers::{Answers, Waiting};
use super::failure::Faults;
use super::open::connect;
use super::readers::Readers;
use super::writer::{Job, Write};
use crate::error::Error;

/// How long after the start the whole file is checked: not while the service starts.
const CHECK_AFTER: Duration = Duration::from_millis(500);

/// How long after a checkpoint that left something in the log the next one comes.
const CHECKPOINT_PAUSE: Duration = Duration::from_millis(500);

/// After so many of SQLite's steps a check asks whether it should stop.
const STEPS_BETWEEN_LOOKS: i32 = 10_000;

/// Tells the keeper that the log has grown; many wakes before it looks are one.
#[derive(Clone)]
pub(super) struct Waker(mpsc::SyncSender<()>);

impl Waker {
    pub(super) fn wake(&self) {
        // Full: it will look anyway. Gone: nobody is left to look.
        self.0.try_send(()).ok();
    }
}

pub(super) struct Keeper<C> {
    database: Connection,
    faults: Arc<Faults>,
    stopping: Arc<AtomicBool>,
    chore: Arc<C>,
    queue: WeakSender<Box<dyn Job>>,
    answers: Arc<Answers>,
    readers: Arc<Readers>,
    wakes: mpsc::Receiver<()>,
}

impl<C: Chore> Keeper<C> {
    pub(super) fn open(
        path: &Path,
        faults: Arc<Faults>,
        stopping: Arc<AtomicBool>,
        chore: C,
        queue: WeakSender<Box<dyn Job>>,
        answers: Arc<Answers>,
        readers: Arc<Readers>,
    ) -> Result<(Self, Waker), Error> {
        let database = open_keeper(path, &stopping).map_err(|error| faults.sqlite(&error))?;
        let (sender, wakes) = mpsc::sync_channel(1);
        let chore = Arc::new(chore);
        Ok((
            Self { database, faults, stopping, chore, queue, answers, readers, wakes },
            Waker(sender),
        ))
    }

    pub(super) fn run(self) {
        let started = Instant::now();
        let mut check_at = Some(started + CHECK_AFTER);
        let mut chore_at = started + C::EVERY;
        loop {
            let mut next = check_at.map_or(chore_at, |check| check.min(chore_at));
            if self.readers.log_is_long() {
                next = next.min(Instant::now() + CHECKPOINT_PAUSE);
            }
            let woken = self.wakes.recv_timeout(next.saturating_duration_since(Instant::now()));
            if self.stopping.load(Ordering::Acquire) {
                return;
            }
            match woken {
                Ok(()) => self.checkpoint(),
                Err(RecvTimeoutError::Disconnected) => return,
                // What was written since the last time, or a reader still needed then.
                Err(RecvTimeoutError::Timeout) if self.readers.log_is_long() => self.checkpoint(),
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = Instant::now();
            if check_at.take_if(|check| *check <= now).is_some() {
                self.check();
            }
            if chore_at <= now {
                self.see_to_chore();
                chore_at = Instant::now() + C::EVERY;
            }
        }
    }

    /// Moves what is in the log into the file, as far as no reader still needs it.
    fn checkpoint(&self) {
        let outcome = self.readers.release().and_then(|()| {
            self.database.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?))
            })
        });
        if outcome.as_ref().is_ok_and(|(length, moved)| length == moved) {
            self.readers.log_is_moved();
        }
        if let Err(error) = outcome
            && !self.stopping.load(Ordering::Acquire)
        {
            let error = self.faults.sqlite(&error);
            tracing::warn!(%error, "the log of a database could not be moved into its file");
        }
    }

    fn check(&self) {
        let started = Instant::now();
        // One finding is enough to act on, and keeps the status short.
        let verdict =
            self.database.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0));
        match verdict {
            Ok(verdict) if verdict == "ok" => {
                let file = self.faults.file();
                let took_ms = started.elapsed().as_millis();
                tracing::debug!(%file, took_ms, "the database is whole");
            }
            Ok(finding) => self.faults.damaged(&finding),
            Err(_) if self.stopping.load(Ordering::Acquire) => {}
            Err(error) => {
                let error = self.faults.sqlite(&error);
                tracing::warn!(%error, "a database could not be checked");
            }
        }
        // The check has filled the page cache, and nothing will read it again.
        self.database.release_memory().ok();
    }

    fn see_to_chore(&self) {
        let mut more = true;
        while more && !self.stopping.load(Ordering::Acquire) {
            let Some(queue) = self.queue.upgrade() else { return };
            let _waiting = Waiting(&self.answers);
            let (answer, answered) = oneshot::channel();
            let (work, after) = (Arc::clone(&self.chore), Arc::clone(&self.chore));
            let job = Write::new(
                move |database: &Connection| work.run(database),
                move |(done, _): &(C::Done, bool)| after.committed(done),
                answer,
            );
            if queue.blocking_send(Box::new(job)).is_err() {
                return;
            }
            drop(queue);
            more = match answered.blocking_recv() {
                Ok(Ok((_, more))) => more,
                Ok(Err(error)) => {
                    tracing::warn!(%error, "a database could not be tidied");
                    false
                }
                Err(_writer_gone) => return,
            };
        }
    }
}

fn open_keeper(path: &Path, stopping: &Arc<AtomicBool>) -> Result<Connection, rusqlite::Error> {
    let mut database = connect(path)?;
    let stopping = Arc::clone(stopping);
    database
        .progress_handler(STEPS_BETWEEN_LOOKS, Some(move || stopping.load(Ordering::Acquire)))?;
    Ok(database)
}
